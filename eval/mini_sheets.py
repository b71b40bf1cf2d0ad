"""Gate 7: contact sheets to look at, one JPEG per object: for each verb views 0 and 2 in eight frames."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from eval.mini_cases import Case
from eval.mini_clips import Studio
from t4d.export.contact_sheet import contact_sheet
from t4d.export.files import atomic_path

VIEWS = (0, 2)
MOST_BYTES = 400_000


def write_sheets(studio: Studio, objects: Sequence[Sequence[Case]], seed: int, folder: Path) -> list[Path]:
    """Samples what is missing and writes OBJECT.jpg per object.

    The first verb's real clip stands on top where there is one, in view 0, as a measure of what could be.

    Args:
        studio: Samples and keeps clips.
        objects: Cases of one object each.
        seed: Of all clips.
        folder: Made when missing.
    """
    paths = []
    for cases in objects:
        rows, labels = [], []
        truth = studio.world.truth(cases[0])
        if truth.clip is not None:
            rows.append(truth.clip[VIEWS[0]])
            labels.append(f"real: {cases[0].verb}")
        for case in cases:
            clip = studio.clip(case, seed)
            rows += [clip[view] for view in VIEWS]
            start = "" if case.rest else " (mid)"
            labels += [f"{case.verb}{start}, view {view}" for view in VIEWS]
        path = folder / f"{cases[0].object}.jpg"
        save_jpeg(contact_sheet(cropped(torch.stack(rows)), max_frames=8, view_labels=labels), path)
        paths.append(path)
    return paths


def overview(studio: Studio, objects: Sequence[Sequence[Case]], seed: int, path: Path) -> None:
    """One picture of all objects: the first verb's view 0 in eight frames per object, in two columns of rows."""
    rows: list[Tensor] = [studio.clip(cases[0], seed)[VIEWS[0]] for cases in objects]
    small = [torch.nn.functional.interpolate(cropped(row[None])[0], (96, 96), mode="area") for row in rows]
    labels = [f"{cases[0].object}: {cases[0].verb}" for cases in objects]
    middle = (len(small) + 1) // 2
    columns = [
        contact_sheet(torch.stack(part), max_frames=8, view_labels=names, min_tile=96)
        for part, names in ((small[:middle], labels[:middle]), (small[middle:], labels[middle:]))
        if part
    ]
    tall = max(len(column) for column in columns)
    padded = [np.pad(c, ((0, tall - len(c)), (0, 6), (0, 0)), constant_values=255) for c in columns]
    save_jpeg(np.concatenate(padded, axis=1), path)


def cropped(clips: Tensor, margin: int = 4) -> Tensor:
    """Clips [R, T, 4, H, W] cut to one square that holds the object in all of them, at least 128 pixels wide again."""
    height, width = clips.shape[-2:]
    shown = (clips[:, :, 3] > 0.02).flatten(0, 1).any(0)
    rows, columns = shown.any(1).nonzero(), shown.any(0).nonzero()
    if not len(rows):
        return clips
    top, bottom, left, right = (int(x) for x in (rows.min(), rows.max(), columns.min(), columns.max()))
    side = min(max(bottom - top, right - left) + 1 + 2 * margin, height, width)
    top = min(max((top + bottom + 1 - side) // 2, 0), height - side)
    left = min(max((left + right + 1 - side) // 2, 0), width - side)
    cut = clips[..., top : top + side, left : left + side]
    large = torch.nn.functional.interpolate(cut.flatten(0, 1), (128, 128), mode="bicubic", align_corners=False)
    return large.clamp(0, 1).unflatten(0, clips.shape[:2])


def save_jpeg(picture: np.ndarray, path: Path) -> None:
    """Writes uint8 [H, W, 3] as JPEG, as good as fits into `MOST_BYTES`."""
    for quality in (90, 80, 70, 55, 40):
        with atomic_path(path) as temporary:
            Image.fromarray(picture).save(temporary, format="JPEG", quality=quality, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            return
