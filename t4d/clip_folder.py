"""Clips from elsewhere: folders of RGBA pictures and clip files, refused by the name of the file that is wrong.

Layouts that are read:
    FOLDER/view_0/0000.png, FOLDER/view_0/0001.png, ..., FOLDER/view_1/0000.png, ...
    FOLDER/0.png, FOLDER/1.png, ...: number = view * frames + frame (Animate3D's supervision, MV_VDM_SPEC 2.4)
    FILE.safetensors: written by ``Clip.save``
Pictures are RGBA, colour not premultiplied, with the object's coverage in alpha. Frame 0 shows the static object. An
optional FOLDER/cameras.json lists one camera per view (see `t4d.clip_cameras`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from t4d.clip_cameras import CAMERAS, checked_camera, read_cameras
from t4d.data.clip import Clip
from t4d.errors import InputError
from t4d.geometry.camera import Camera

BACKGROUND = 0.5  # mid-grey, under every clip
MAX_PIXELS = 2**26  # of a whole clip: 4 views of 64 frames of 512x512; 1 GB of float32 colour and mask
MAX_FILE = 16 * MAX_PIXELS  # bytes of a clip file: as many pixels in float32
FRAME = re.compile(r"(\d{1,6})\.png", re.IGNORECASE)
VIEW = re.compile(r"view_(\d{1,3})")
SILHOUETTE_IOU = 0.5
_LAYOUT = "expected view_0/0000.png, view_0/0001.png, ... or 0.png, 1.png, ... numbered view * frames + frame"


@dataclass(frozen=True)
class NamedClip:
    """A clip whose frames know where they came from.

    Attributes:
        clip: the frames, masks and cameras.
        names: ``names[view][frame]``, for sentences about one frame.
    """

    clip: Clip
    names: list[list[str]]


def read_clip(
    path: Path, cameras: Callable[[int, int], list[Camera]], *, views: int | None = None, fps: float = 8.0
) -> NamedClip:
    """Reads a clip of any V, T, H and W.

    Args:
        path: a folder in one of the layouts of this module, or a ``.safetensors`` clip.
        cameras: the rig for pictures of ``(width, height)``, used where a folder has no cameras.json.
        views: V of a flat folder; the rig's number of cameras where None.
        fps: rate of a folder's frames, per second; a clip file has its own.

    Returns:
        The clip over mid-grey; masks are the pictures' alpha.

    Raises:
        InputError: a frame is missing, cannot be decoded, has another size or no alpha, a mask is empty, full or
            inverted, values are not finite, the cameras do not fit; the sentence names the file.
    """
    check_exists(path)
    if path.is_dir():
        found = _read_folder(path, cameras, views, fps)
    else:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise InputError(
                f"The clip {path.name} has {size / 1e6:.0f} MB and at most {MAX_FILE / 1e6:.0f} MB are taken; reduce "
                "its frames or their size."
            )
        try:
            clip = Clip.load(path)
        except InputError as error:
            text = str(error)
            raise InputError(text if path.name in text else f"{path.name}: {text}") from error
        shape = clip.rgb.shape[:2]
        if views not in (None, shape[0]):
            raise InputError(
                f"The clip {path.name} has {shape[0]} views but {views} were asked for; leave --views out."
            )
        for view, camera in enumerate(clip.cameras):
            checked_camera(camera, view, path.name)
        found = NamedClip(
            clip, [[f"frame {t} of view {v} of {path.name}" for t in range(shape[1])] for v in range(shape[0])]
        )
    if found.clip.rgb.shape[1] < 2:
        raise InputError(f"The clip {path.name} has 1 frame a view; at least 2 are needed, frame 0 being the object.")
    _check_masks(found)
    return found


def check_exists(path: Path) -> None:
    """Raises InputError where there is no clip."""
    if not path.exists():
        raise InputError(f"The clip {path.name} does not exist; give a folder of RGBA pictures or a .safetensors clip.")


def check_silhouettes(found: NamedClip, reference_alpha: Tensor, least: float = SILHOUETTE_IOU) -> list[float]:
    """Judges frame 0 of every view against the object as rendered in the same cameras.

    A clip of another object, of another view order, up axis or scale cannot be fitted, and nothing later would say so.

    Args:
        found: the clip.
        reference_alpha: [V, 1, H, W] coverage of the static object in the clip's cameras.
        least: smallest intersection over union of the silhouettes that is taken.

    Returns:
        The intersection over union of every view.

    Raises:
        InputError: a view's silhouettes overlap less than `least`.
    """
    mask, object_ = found.clip.mask[:, 0] > 0.5, reference_alpha.cpu() > 0.5
    overlaps = []
    for view, names in enumerate(found.names):
        union = int((mask[view] | object_[view]).sum())
        overlaps.append(int((mask[view] & object_[view]).sum()) / max(union, 1))
        if overlaps[-1] < least:
            raise InputError(
                f"The mask of {names[0]} covers the object as its camera sees it by {overlaps[-1]:.0%} (intersection "
                f"over union); at least {least:.0%} is expected, so check the object, the order of the views and the "
                "cameras, or give a cameras.json."
            )
    return overlaps


def _read_folder(path: Path, cameras: Callable[[int, int], list[Camera]], views: int | None, fps: float) -> NamedClip:
    files = _view_files(path, views, cameras)
    height, width = _open(files[0][0], path).shape[:2]
    count = len(files) * len(files[0]) * height * width
    if count > MAX_PIXELS:
        raise InputError(
            f"The clip {path.name} has {len(files)} views of {len(files[0])} frames of {width}x{height} pixels; at "
            f"most {MAX_PIXELS:,} pixels in all are taken, so reduce its frames or their size."
        )
    rgba = np.empty((len(files), len(files[0]), height, width, 4), np.uint8)
    for view, row in enumerate(files):
        for frame, file in enumerate(row):
            picture = _open(file, path)
            if picture.shape[:2] != (height, width):
                raise InputError(
                    f"{_shown(file, path)} has {picture.shape[1]}x{picture.shape[0]} pixels but "
                    f"{_shown(files[0][0], path)} has {width}x{height}; give every frame the same size."
                )
            rgba[view, frame] = picture
    tensor = torch.from_numpy(rgba).movedim(-1, 2).float() / 255
    alpha = tensor[:, :, 3:].contiguous()
    rgb = tensor[:, :, :3] * alpha + BACKGROUND * (1 - alpha)
    listed = path / CAMERAS
    if listed.is_file():
        rig = read_cameras(listed, len(files), width, height)
    else:
        rig = cameras(width, height)
        if len(rig) != len(files):
            raise InputError(
                f"The clip {path.name} has {len(files)} views but the rig has {len(rig)} cameras; add {CAMERAS} to the "
                f"folder or set geometry.azimuths to {len(files)} angles."
            )
    return NamedClip(Clip(rgb, alpha, rig, fps), [[_shown(file, path) for file in row] for row in files])


def _view_files(path: Path, views: int | None, cameras: Callable[[int, int], list[Camera]]) -> list[list[Path]]:
    """The pictures ``[view][frame]`` of a folder in either layout; every number is there once."""
    folders: dict[int, Path] = {}
    for folder in sorted(path.iterdir()):
        if folder.is_dir() and (match := VIEW.fullmatch(folder.name)):
            other = folders.setdefault(int(match[1]), folder)
            if other is not folder:
                raise InputError(f"{other.name} and {folder.name} in {path.name} are the same view; remove one.")
    flat = _numbered(path)
    if folders and flat:
        raise InputError(f"The clip {path.name} has both view folders and pictures beside them; {_LAYOUT}.")
    if folders:
        absent = sorted(set(range(max(folders) + 1)) - set(folders))
        if absent:
            raise InputError(f"view_{absent[0]} is missing in {path.name}; views are numbered from 0 without a gap.")
        if views not in (None, len(folders)):
            raise InputError(f"The clip {path.name} has {len(folders)} view folders but {views} views were asked for.")
        rows = [_numbered(folders[view]) for view in range(len(folders))]
        frames = max((max(row, default=-1) for row in rows), default=-1) + 1
        if frames == 0:
            raise InputError(f"The view folders of {path.name} hold no numbered .png pictures; {_LAYOUT}.")
        digits = max(len(file.stem) for row in rows for file in row.values())
        for view, row in enumerate(rows):
            for frame in range(frames):
                if frame not in row:
                    raise InputError(
                        f"view_{view}/{frame:0{digits}d}.png is missing in {path.name}, whose last frame is "
                        f"{frames - 1}; render it, or remove frame {frame} and all later ones from every view."
                    )
        return [[row[frame] for frame in range(frames)] for row in rows]
    if not flat:
        raise InputError(f"The clip folder {path.name} holds no numbered .png pictures; {_LAYOUT}.")
    count = len(cameras(8, 8)) if views is None else views
    total = max(flat) + 1
    for number in range(total):
        if number not in flat:
            raise InputError(f"{number}.png is missing in {path.name}, which has pictures 0 to {total - 1}; render it.")
    if count < 1 or total % count:
        raise InputError(
            f"The clip {path.name} has {total} pictures, which do not divide into {count} views; give --views."
        )
    frames = total // count
    return [[flat[view * frames + frame] for frame in range(frames)] for view in range(count)]


def _numbered(folder: Path) -> dict[int, Path]:
    """Pictures by number; two names of one number are refused."""
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        match = FRAME.fullmatch(file.name)
        if match:
            if int(match[1]) in found:
                raise InputError(
                    f"{found[int(match[1])].name} and {file.name} in {folder.name} are the same frame; remove one."
                )
            found[int(match[1])] = file
    return found


def _open(file: Path, root: Path) -> np.ndarray:
    """uint8 [H, W, 4]; refuses what is no RGBA picture."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{_shown(file, root)} has {image.width}x{image.height} pixels; reduce its size.")
            if "A" not in image.getbands() and "transparency" not in image.info:
                raise InputError(
                    f"{_shown(file, root)} has no alpha channel ({image.mode}); expected RGBA with the object's mask "
                    "in alpha, so cut the object out and save it with transparency."
                )
            return np.asarray(image.convert("RGBA"), np.uint8)
    except Image.DecompressionBombError as error:  # raised before there is a size to compare
        raise InputError(f"{_shown(file, root)} is a gigantic picture ({error}); reduce its size.") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{_shown(file, root)} is not a readable PNG picture; write it again.") from error


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


def _check_masks(found: NamedClip) -> None:
    """Refuses masks without object, without background, and those that hold the background instead."""
    inside = found.clip.mask[:, :, 0] > 0.5
    share = inside.float().mean((-2, -1))
    edge = (
        torch.cat([inside[..., 0, :], inside[..., -1, :], inside[..., :, 0], inside[..., :, -1]], -1).float().mean(-1)
    )
    for view, names in enumerate(found.names):
        for frame, name in enumerate(names):
            if share[view, frame] == 0:
                raise InputError(f"The mask of {name} is empty; expected the object in it, so cut it out again.")
            if share[view, frame] == 1:
                raise InputError(
                    f"The mask of {name} covers the whole picture; expected the object only, so cut it out."
                )
            if edge[view, frame] > 0.9:
                raise InputError(
                    f"The mask of {name} covers the picture's border and not the object; it is inverted or of another "
                    "picture, so cut the object out again."
                )
