"""Pictures to bytes and tiles: what the video, the contact sheet and the orbit share."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from t4d.errors import InputError

Frames = torch.Tensor | np.ndarray


def to_uint8(pixels: Frames, what: str = "frames") -> np.ndarray:
    """Pixels as bytes.

    Args:
        pixels: Any shape; uint8, or floating sRGB-encoded values where 0..1 is the visible range (clipped to it).
        what: Noun used in the error message.

    Returns:
        uint8 array of the same shape; a float value v becomes round(255 v).

    Raises:
        InputError: For NaN or infinite values, or a dtype that is neither uint8 nor floating.
    """
    array = np.asarray(pixels.detach().cpu() if isinstance(pixels, torch.Tensor) else pixels)
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{what} have dtype {array.dtype}, expected uint8 or floating 0..1; convert them first.")
    if not np.isfinite(array).all():
        raise InputError(
            f"{what} hold NaN or infinite values, expected colours in 0..1; check the stage before export."
        )
    return np.rint(np.clip(array, 0.0, 1.0) * 255.0).astype(np.uint8)


def clip_bytes(rgb: Frames) -> np.ndarray:
    """A clip in the form pictures are made from.

    Args:
        rgb: [V, T, 3 or 4, H, W] uint8 or 0..1; a fourth channel (alpha) is dropped, since the colours of this
            project are already composited over the background.

    Returns:
        uint8 [V, T, H, W, 3].

    Raises:
        InputError: For another shape, an empty clip, or values that are not finite.
    """
    shape = tuple(rgb.shape)
    if len(shape) != 5 or shape[2] not in (3, 4) or 0 in shape:
        raise InputError(f"the clip has shape {shape}, expected [views, frames, 3 or 4, height, width], none empty.")
    return np.ascontiguousarray(to_uint8(rgb[:, :, :3], "the clip's pixels").transpose(0, 1, 3, 4, 2))


def grid_shape(count: int) -> tuple[int, int]:
    """(rows, columns) of the nearly square grid that holds `count` tiles; 4 gives (2, 2), 5 gives (2, 3)."""
    columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def tile(images: np.ndarray, columns: int, gap: int = 0, fill: int = 255) -> np.ndarray:
    """Lay images out in rows, left to right, then down.

    Args:
        images: uint8 [N, ..., H, W, 3]; axes between N and H (for example time) are kept.
        columns: Tiles in a row.
        gap: Pixels between neighbouring tiles.
        fill: Grey level 0..255 of gaps and of empty places in the last row.

    Returns:
        uint8 [..., rows H + (rows - 1) gap, columns W + (columns - 1) gap, 3].
    """
    count, (height, width) = images.shape[0], images.shape[-3:-1]
    rows = math.ceil(count / columns)
    sheet_size = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    sheet = np.full((*images.shape[1:-3], *sheet_size), fill, dtype=np.uint8)
    for index in range(count):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[..., top : top + height, left : left + width, :] = images[index]
    return sheet


def enlarge(frames: np.ndarray, factor: int) -> np.ndarray:
    """Lanczos enlargement by a whole factor; uint8 [..., H, W, 3] -> uint8 [..., factor H, factor W, 3]."""
    if factor == 1:
        return frames
    height, width = frames.shape[-3:-1]
    flat = frames.reshape(-1, height, width, 3)
    size = (width * factor, height * factor)
    big = np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS)) for frame in flat])
    return big.reshape(*frames.shape[:-3], *big.shape[1:])


def draw_labels(image: np.ndarray, labels: Sequence[tuple[int, int, str]], size: int = 14) -> np.ndarray:
    """Write small outlined text on a picture.

    Args:
        image: uint8 [H, W, 3].
        labels: (left, top, text) in pixels each.
        size: Font size in pixels.

    Returns:
        uint8 [H, W, 3], a copy.
    """
    picture = Image.fromarray(image)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    for left, top, text in labels:
        pen.text((left, top), text, fill=(255, 255, 255), font=font, stroke_width=1, stroke_fill=(0, 0, 0))
    return np.array(picture)
