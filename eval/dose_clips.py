"""Clips of the dose-response experiment: training clips on disk, and clips of rigs that no training sees."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from t4d.data.cache import load_item, save_item
from t4d.data.captions import VIOLENT
from t4d.data.catalog import EVALUATION_TWINS, Catalog
from t4d.data.dataset import ClipDataset

SIDE, GRID = 64, 15
LEAST_MOTION, LEAST_TERMS = 1.0, 100  # of a held-out clip: mean pixels moved at visible points, positions
TRIES = 400
SPLITS = ("near", "far")


def training_cache(folder: Path, rigs: Path, count: int, seed: int = 4) -> Path:
    """The folder with training clips 0..count-1 rendered into it, those it lacks now."""
    folder.mkdir(parents=True, exist_ok=True)
    source = ClipDataset(rigs, side=SIDE, grid=GRID, seed=seed)
    for i in range(count):
        path = folder / f"{i:06d}.npz"
        if not path.is_file():
            save_item(source[i], path)
    return folder


def held_out_clips(folder: Path, rigs: Path) -> list[dict[str, Any]]:
    """One clip of every rig of the splits "near" and "far": the first whose visible points move.

    They are seen by the inference rig under the default light, with the rig's own proportions; kept in `folder`.
    Every item has its split under "split".
    """
    found = []
    for split in SPLITS:
        wanted = {entry.source for entry in Catalog(rigs, split, EVALUATION_TWINS, VIOLENT).entries}
        where = folder / split
        if not where.is_dir():
            part = folder / f"{split}.part"
            part.mkdir(parents=True, exist_ok=True)
            for i, item in enumerate(_moving(rigs, split, wanted)):
                save_item(item, part / f"{i:03d}.npz")
            part.rename(where)
        found += [{**load_item(path), "split": split} for path in sorted(where.glob("*.npz"))]
    return found


def _moving(rigs: Path, split: str, wanted: set[str]) -> Iterator[dict[str, Any]]:
    source = ClipDataset(
        rigs,
        split=split,
        side=SIDE,
        grid=GRID,
        seed=1,
        proportions=0,
        mirror=0,
        speed=0,
        rig_fraction=1,
        procedural_fraction=0,
    )
    left = set(wanted)
    for index in range(TRIES):
        if not left:
            return
        item = source[index]
        if item["name"] not in left:
            continue
        counted = (item["visible"] & item["query_valid"][:, None])[:, 1:]
        moved = (item["tracks"] - item["tracks"][:, :1]).norm(dim=-1)[:, 1:][counted]
        if len(moved) >= LEAST_TERMS and float(torch.mean(moved)) >= LEAST_MOTION:
            left.remove(item["name"])
            yield item
    print(f"split {split}: no clip with enough motion in {TRIES} of {', '.join(sorted(left))}")
