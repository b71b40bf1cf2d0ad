"""Small studies for tests."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from studio.study.folder import write_study
from studio.study.schema import StudyFile, VideoSpec

METHODS = ("zebrafish", "quokka", "narwhal")  # words that nothing else on a page or in a library would contain


def study_entries(items: int = 4, methods: tuple[str, ...] = METHODS, **fields) -> dict:
    """Entries of a study with made-up but well-formed media names: enough for everything that shows no pictures."""

    def name(*what: str) -> str:
        return "media/" + hashlib.sha256("/".join(what).encode()).hexdigest()[:24]

    entries = [
        {
            "id": f"item{k}",
            "prompt": f"The object number {k} jumps.",
            "reference": name(str(k)) + ".png",
            "videos": {method: name(str(k), method) + ".mp4" for method in methods},
        }
        for k in range(items)
    ]
    return {"methods": [{"id": method} for method in methods], "items": entries, "min_watch_s": 0.0, **fields}


@pytest.fixture
def study_folder(tmp_path: Path) -> Callable[..., Path]:
    """``study_folder(items=4, methods=..., **fields of the study file)`` gives a folder that `StudyService` opens."""

    def make(**fields) -> Path:
        folder = tmp_path / f"study{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_study(StudyFile.model_validate(study_entries(**fields)), folder / "study.yaml")
        return folder

    return make


def moving_square(frames: int = 8, side: int = 64, colour: tuple[int, int, int] = (200, 60, 30), background: int = 128):
    """A square that moves to the right, uint8 [T, side, side, 3]."""
    clip = np.full((frames, side, side, 3), background, np.uint8)
    for t in range(frames):
        left = round((side - 24) * t / max(1, frames - 1)) + 4
        clip[t, side // 2 - 8 : side // 2 + 8, left : left + 16] = colour
    return clip


@pytest.fixture
def source_folder(tmp_path: Path) -> Callable[..., Path]:
    """``source_folder(items=2, methods=...)`` gives a folder METHOD/OBJECT.mp4 of real little videos."""
    from studio.study.video import write_plain_video

    def make(items: int = 2, methods: tuple[str, ...] = METHODS) -> Path:
        root = tmp_path / f"sources{len(list(tmp_path.iterdir()))}"
        for m, method in enumerate(methods):
            (root / method).mkdir(parents=True)
            for k in range(items):
                clip = moving_square(colour=(220 - 40 * m, 60 + 30 * k, 40 * m))
                write_plain_video(root / method / f"object{k}.mp4", clip, VideoSpec(fps=8, crf=10))
        return root

    return make
