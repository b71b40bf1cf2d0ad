"""Training clips from one's own videos: a folder of clips, each with a video per view, and one file of captions.

    FOLDER/captions.json     {"NAME": "a fox is running"} or {"NAME": {"caption": ..., "elevation": 15, "azimuth": 0}}
    FOLDER/NAME/view_0.mp4   view 0, 1, ... V - 1, evenly around the object; also .webm and .mov, which may have alpha

Elevation and azimuth of view 0 are in degrees (world z up, azimuth 0 on +x towards +y). A caption object may also have
"verb" and "noun".
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from t4d.data.video_clip import Background, Sampling, read_views, resized
from t4d.errors import InputError
from t4d.geometry.camera import network_camera, orbit_camera

CAPTIONS = "captions.json"
VIEW = re.compile(r"view_(\d{1,3})\.(mp4|webm|mov|mkv|avi)", re.IGNORECASE)
_DEFAULTS = {"elevation": 15.0, "azimuth": 0.0, "verb": "", "noun": ""}


class VideoFolderClips(Dataset[dict[str, Any]]):
    """Items as `t4d.data.dataset.ClipDataset`'s, without flow and tracks (`python train/dataset.py track` adds those).

    Args:
        folder: See the module's docstring.
        side: Picture side in pixels, or (height, width).
        views: V that every clip must have; as many as the first has where None.
        frames: T.
        sampling: See `t4d.data.video_clip.frame_choice`.
        background: See `t4d.data.video_clip.read_views`.
        seed: With the clip's index, for the random start of "stride".

    Raises:
        InputError: No captions or no clips, a clip without caption or a caption without clip. Wrong videos are refused
            clip by clip.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        side: int | tuple[int, int] = 256,
        views: int | None = None,
        frames: int = 16,
        sampling: Sampling = "uniform",
        background: Background = "auto",
        seed: int = 0,
    ) -> None:
        self.folder, self.side, self.frames = Path(folder), side, frames
        self.seed = seed
        self.sampling: Sampling = sampling
        self.background: Background = background
        self.captions = read_captions(self.folder / CAPTIONS)
        folders = {p.name for p in self.folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
        if folders - self.captions.keys():
            raise InputError(f"{CAPTIONS} has no caption of {min(folders - self.captions.keys())}; add one")
        if self.captions.keys() - folders:
            raise InputError(f"{CAPTIONS} names {min(self.captions.keys() - folders)}, which is no folder; take it out")
        self.names = sorted(self.captions)
        self.views = len(view_files(self.folder / self.names[0])) if views is None else views

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name = self.names[index]
        facts, paths = self.captions[name], view_files(self.folder / name)
        if len(paths) != self.views:
            raise InputError(f"{name} has {len(paths)} views, {self.views} are asked for; add or remove videos")
        rng = np.random.default_rng([self.seed, index])
        rgba = resized(read_views(paths, self.frames, self.sampling, self.background, rng), self.side, name)
        height, width = rgba.shape[-2:]
        azimuths = [facts["azimuth"] + k * 360 / self.views for k in range(self.views)]
        cameras = [orbit_camera(a, facts["elevation"], width=width, height=height) for a in azimuths]
        texts = {"caption": facts["caption"], "verb": facts["verb"], "noun": facts["noun"], "name": name, "clip": name}
        return {"rgba": rgba, "cameras": torch.stack([network_camera(c) for c in cameras]), **texts}


def view_files(folder: Path) -> list[Path]:
    """Videos of the views of a clip, in order.

    Raises:
        InputError: None, one missing in between, or two of one view.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = VIEW.fullmatch(path.name)
        if match and found.setdefault(int(match[1]), path) != path:
            raise InputError(f"{folder.name} has both {found[int(match[1])].name} and {path.name}; keep one")
    if sorted(found) != list(range(len(found))) or not found:
        there = ", ".join(found[k].name for k in sorted(found)) or "none"
        raise InputError(f"{folder.name} has these views: {there}; expected view_0.mp4, view_1.mp4, ...")
    return [found[k] for k in sorted(found)]


def read_captions(path: Path) -> dict[str, dict[str, Any]]:
    """Facts of every clip: caption, elevation, azimuth, verb, noun.

    Raises:
        InputError: The file is missing or an entry is wrong.
    """
    if not path.is_file():
        raise InputError(f'{path} is missing; write {{"NAME": "a sentence"}} for every folder of videos')
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); correct it") from error
    if not isinstance(found, dict) or not found:
        raise InputError(f'{path} lists no clips; write {{"NAME": "a sentence"}}')
    out = {}
    for name, entry in found.items():
        facts = {"caption": entry} if isinstance(entry, str) else entry
        if not isinstance(facts, dict) or not isinstance(facts.get("caption"), str) or not facts["caption"].strip():
            raise InputError(f"{path.name}: {name} has no caption; write a sentence")
        unknown = sorted(facts.keys() - {"caption", *_DEFAULTS})
        if unknown:
            raise InputError(f"{path.name}: {name} has {unknown}; known are caption, {', '.join(_DEFAULTS)}")
        full = {**_DEFAULTS, **facts}
        for key, default in _DEFAULTS.items():
            if not isinstance(full[key], str if isinstance(default, str) else int | float) or full[key] is True:
                raise InputError(f"{path.name}: {key} of {name} is {full[key]!r}; expected as in {default!r}")
        if not (abs(full["elevation"]) <= 90 and abs(full["azimuth"]) <= 3600):
            raise InputError(
                f"{path.name}: {name} is seen from {full['elevation']}, {full['azimuth']} degrees; check it"
            )
        out[name] = full
    return out
