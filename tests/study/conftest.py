"""Fixtures of the study's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from study_samples import METHODS, moving_square, study_entries

from studio.study.folder import write_study
from studio.study.schema import StudyFile, VideoSpec


@pytest.fixture
def study_folder(tmp_path: Path) -> Callable[..., Path]:
    """``study_folder(items=4, methods=..., **fields of the study file)`` gives a folder that `StudyService` opens."""

    def make(**fields) -> Path:
        folder = tmp_path / f"study{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_study(StudyFile.model_validate(study_entries(**fields)), folder / "study.yaml")
        return folder

    return make


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
