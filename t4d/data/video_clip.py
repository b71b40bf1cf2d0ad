"""Multi-view videos as the pictures of a training clip: chosen frames, the object cut out, over mid-grey."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from t4d.data.cut_out import cut_out, plain_background
from t4d.data.video_file import read_video
from t4d.errors import InputError

GREY = 0.5
Sampling = Literal["uniform", "stride"]
Background = Literal["auto", "alpha"] | tuple[int, int, int]


def frame_choice(have: int, want: int, sampling: Sampling, rng: np.random.Generator) -> np.ndarray:
    """Frames of a video that a clip takes.

    Args:
        have: Frames of the video.
        want: T.
        sampling: "uniform": from the first to the last, evenly (Track4DGen, supplement 1). "stride": every
            `have // want`-th from a random start below that (Animate3D; MV_VDM_SPEC 1.13).
        rng: Draws the start.

    Returns:
        [want] increasing indices.

    Raises:
        InputError: The video is shorter than the clip.
    """
    if have < want:
        raise InputError(f"the video has {have} frames, a clip needs {want}; ask for fewer frames")
    if sampling == "uniform":
        return np.round(np.linspace(0, have - 1, want)).astype(int)
    stride = have // want
    return int(rng.integers(stride)) + stride * np.arange(want)


def read_views(
    paths: Sequence[Path], frames: int, sampling: Sampling, background: Background, rng: np.random.Generator
) -> Tensor:
    """Reads one video a view.

    Args:
        paths: V files whose frames belong together.
        frames: T.
        sampling: See `frame_choice`; all views take the same frames.
        background: "alpha": the videos' own alpha is coverage. "auto": one plain colour, found at the border. Or that
            colour, sRGB 0..255.
        rng: For `sampling`.

    Returns:
        [V, T, 4, H, W] float32 in 0..1: colour over mid-grey, coverage.

    Raises:
        InputError: A video is missing, cannot be read, differs from the others in length or size, has no plain
            background or shows nothing in frame 0; the sentence names the file.
    """
    for path in paths:
        if not path.is_file():
            raise InputError(f"{_name(path)} is missing; every view needs its video")
    views, shape, chosen = [], None, np.arange(0)
    for path in paths:  # one whole video at a time is in memory
        video = read_video(path, alpha=background == "alpha")[0]
        if shape is None:
            shape = video.shape
            try:
                chosen = frame_choice(len(video), frames, sampling, rng)
            except InputError as error:
                raise InputError(f"{_name(path)}: {error}") from error
        if video.shape != shape:
            raise InputError(
                f"{_name(path)} has {_size(video.shape)}, {_name(paths[0])} {_size(shape)}; all must be equal"
            )
        pictures = video[chosen].astype(np.float32) / 255
        del video
        if background == "alpha":
            alpha, paint = pictures[..., 3:], pictures[..., :3]
            if alpha.min() == 1:
                raise InputError(f"{_name(path)} has no alpha; name the background's colour instead")
        else:
            plain = plain_background(pictures[0], None if background == "auto" else background, _name(path))
            parts = [cut_out(picture, plain) for picture in pictures]
            paint, alpha = np.stack([p for p, _ in parts]), np.stack([a for _, a in parts])[..., None]
        if not (alpha[0] > 0.5).any():
            raise InputError(f"{_name(path)} shows no object in frame {chosen[0]}; check the background's colour")
        views.append(np.concatenate([GREY + alpha * (paint - GREY), alpha], -1))
    return torch.from_numpy(np.stack(views)).permute(0, 1, 4, 2, 3).contiguous()


def resized(rgba: Tensor, side: int | tuple[int, int], name: str) -> Tensor:
    """Pictures of another size and the same shape.

    Args:
        rgba: [V, T, 4, H, W].
        side: Pixels of a square, or (height, width).
        name: What to call the clip.

    Returns:
        [V, T, 4, *side]: averaged over pixels where it shrinks, bilinear where it grows.

    Raises:
        InputError: The aspect ratio differs by over 1 %: stretched pictures would not fit the cameras.
    """
    import cv2

    height, width = (side, side) if isinstance(side, int) else side
    old_height, old_width = rgba.shape[-2:]
    if abs(old_width * height - old_height * width) > 0.01 * old_width * height:
        raise InputError(f"{name} is {old_width}x{old_height}, asked for is {width}x{height}; crop it to that shape")
    if (old_height, old_width) == (height, width):
        return rgba
    how = cv2.INTER_AREA if height < old_height else cv2.INTER_LINEAR
    flat = rgba.flatten(0, 1).permute(0, 2, 3, 1).numpy()
    small = np.stack([cv2.resize(np.ascontiguousarray(x), (width, height), interpolation=how) for x in flat])
    return torch.from_numpy(small).permute(0, 3, 1, 2).unflatten(0, rgba.shape[:2]).clamp(0, 1).contiguous()


def _name(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} frames of {shape[2]}x{shape[1]}"
