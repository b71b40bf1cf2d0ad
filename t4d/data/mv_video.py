"""Training clips from data sets in the public MV-Video layout (MV_VDM_SPEC 1.13).

    FOLDER/uid_info_dict.json         {UID: {"anim": {"00": {"angle": {"elv", "azi_start"}, "text_prompt"}}}}
    FOLDER/videos/UID/00/view_0.mp4   one video a view, 16 of them evenly around the object, 22.5 degrees apart
    FOLDER/high_quality_uid.txt       optional: one UID a line

A clip takes orthogonal views: j, j + 4, j + 8, j + 12 of 16, seen from azimuth azi_start + 22.5 j degrees onwards.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from t4d.data.video_clip import Background, Sampling, read_views, resized
from t4d.errors import InputError
from t4d.geometry.camera import network_camera, orbit_camera

INFO = "uid_info_dict.json"
GOOD = "high_quality_uid.txt"


class Entry(NamedTuple):
    """One clip to be made: an animation of an object seen from view `first` on."""

    uid: str
    animation: str
    elevation: float
    azimuth: float
    caption: str
    first: int


class MvVideoClips(Dataset[dict[str, Any]]):
    """Items as `t4d.data.dataset.ClipDataset`'s, without flow and tracks (`python train/dataset.py track` adds those).

    `verb` and `noun` are empty, `name` is the UID and `clip` is "animation/first view".

    Args:
        folder: See the module's docstring.
        side: Picture side in pixels, or (height, width).
        views: V; must divide `around`.
        frames: T.
        first_views: The j's, each a clip of its own.
        around: Views in the folder of every animation.
        sampling: See `t4d.data.video_clip.frame_choice`.
        background: See `t4d.data.video_clip.read_views`. Which one MV-Video has is not documented: "auto" finds it.
        good_only: Only UIDs in `high_quality_uid.txt`.
        seed: With the clip's index, for the random start of "stride".

    Raises:
        InputError: A metadata file is missing or wrong, naming the entry. Wrong videos are refused clip by clip.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        side: int | tuple[int, int] = 256,
        views: int = 4,
        frames: int = 16,
        first_views: tuple[int, ...] = (0,),
        around: int = 16,
        sampling: Sampling = "uniform",
        background: Background = "auto",
        good_only: bool = False,
        seed: int = 0,
    ) -> None:
        if around % views:
            raise InputError(f"{views} views cannot be spread evenly over {around} cameras; give a divisor of {around}")
        step = around // views
        if not first_views or not all(0 <= j < step for j in first_views) or len(set(first_views)) < len(first_views):
            raise InputError(f"the first views are {first_views}; expected different numbers of 0..{step - 1}")
        self.folder, self.side, self.views, self.frames = Path(folder), side, views, frames
        self.around, self.seed = around, seed
        self.sampling: Sampling = sampling
        self.background: Background = background
        good = _good_uids(self.folder) if good_only else None
        found = read_info(self.folder / INFO)
        if good is not None and not good & {e.uid for e in found}:
            raise InputError(f"no UID of {GOOD} occurs in {INFO}; are both of the same data set?")
        kept = [e for e in found if good is None or e.uid in good]
        self.entries = [e._replace(first=j) for e in kept for j in first_views]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry = self.entries[index]
        step = self.around // self.views
        numbers = [entry.first + k * step for k in range(self.views)]
        folder = self.folder / "videos" / entry.uid / entry.animation
        rgba = read_views(
            [folder / f"view_{n}.mp4" for n in numbers],
            self.frames,
            self.sampling,
            self.background,
            np.random.default_rng([self.seed, index]),
        )
        rgba = resized(rgba, self.side, f"{entry.uid}/{entry.animation}")
        height, width = rgba.shape[-2:]
        cameras = [
            orbit_camera(entry.azimuth + n * 360 / self.around, entry.elevation, width=width, height=height)
            for n in numbers
        ]
        return {
            "rgba": rgba,
            "cameras": torch.stack([network_camera(c) for c in cameras]),
            "caption": entry.caption,
            "verb": "",
            "noun": "",
            "name": entry.uid,
            "clip": f"{entry.animation}/{entry.first}",
        }


def read_info(path: Path) -> list[Entry]:
    """Every animation of `uid_info_dict.json`, sorted by UID and number.

    Raises:
        InputError: The file or an entry is missing or wrong.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; give the folder that holds {INFO} and videos/")
    try:
        info = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); copy it again") from error
    if not isinstance(info, dict) or not info:
        raise InputError(f"{path} lists no objects; expected {{UID: {{'anim': ...}}}}")
    entries = []
    for uid in sorted(info):
        try:
            animations = info[uid]["anim"]
            for number in sorted(animations):
                facts = animations[number]
                angle = float(facts["angle"]["elv"]), float(facts["angle"]["azi_start"])
                caption = facts["text_prompt"]
                if Path(uid).name != uid or Path(number).name != number or not isinstance(caption, str):
                    raise ValueError("a name or sentence is not plain text")
                if not (abs(angle[0]) <= 90 and math.isfinite(angle[1])):
                    raise ValueError(f"the angles are {angle}")
                entries.append(Entry(uid, number, *angle, caption.strip(), 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path.name}: the entry of {uid} is wrong ({type(error).__name__}: {error}); expected anim -> number "
                "-> angle {elv, azi_start} in degrees and text_prompt"
            ) from error
    return entries


def _good_uids(folder: Path) -> set[str]:
    path = folder / GOOD
    if not path.is_file():
        raise InputError(f"{path} is missing; copy it from the data set or take all objects")
    return {line.strip() for line in path.read_text().splitlines() if line.strip()}
