"""Point probe of a model on unseen rigs: do the features that Stage Two reads know where points go?

Clips of far rigs with exact tracks (training renderer, inference cameras, 128 px) are noised to Stage Two's time and
shown to the network once; points are looked for by their frame-0 descriptors (`eval.stage1_probe`).
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.ablation_store import Store, digest, source_digest
from eval.stage1_probe import LAYER, look, track_figures
from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel

TIME = 51  # where Stage Two reads features
FIGURES = ("delta_avg", "hard_delta_avg", "static_delta_avg", "error", "relative_drift", "distinct")
CLIPS, NOISES = 16, 2


def far_clips(rigs: Path) -> ClipDataset:
    """Clips of rigs whose joint sets are not trained on, half from the rest pose, unaugmented."""
    return ClipDataset(
        rigs,
        split="far",
        side=128,
        exclude=(),
        procedural_fraction=0,
        rest_fraction=0.5,
        proportions=0,
        mirror=0,
        speed=0,
        rig_fraction=1,
        seed=5,
    )


def probe(model: VideoModel, data: ClipDataset, store: Store, clips: int, noises: int = NOISES) -> list[dict[str, Any]]:
    """Figures of every clip, each the mean over some noises; kept in the store.

    Args:
        model: The networks.
        data: Of `far_clips`; the first clips of it are used, the same for every model.
        store: Of finished rows.
        clips: How many.
        noises: Looks at each clip.

    Returns:
        Rows: clip, object, verb, terms, and `FIGURES`.
    """
    folders = ("data", "diffusion", "diffusion/autoencoders", "diffusion/text", "diffusion/image", "tracking")
    code, content = source_digest(folders), content_of(data)
    known, rows = store.read(), []
    for index in range(clips):
        key = digest(["probe", model.sha256, index, TIME, LAYER, noises, code, content])
        row = known.get(key)
        if row is None:
            item = data[index]
            seen = [track_figures(look(model, item, TIME, seed)[0], item) for seed in range(noises)]
            name = item["name"].rsplit("/", 1)[-1].rsplit(".", 1)[0]
            row = {"key": key, "clip": index, "object": name, "verb": item["verb"], "terms": seen[0]["terms"]}
            row |= {figure: sum(each[figure] for each in seen) / noises for figure in FIGURES}
            row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
            store.append(row)
        if None not in row.values():  # a clip without visible points has nothing to say
            rows.append(row)
    return rows


def content_of(data: ClipDataset) -> str:
    """Digest of the rigs and settings that a data set's clips come from."""
    entries = [] if data.catalog is None else data.catalog.entries
    files = [[e.source, e.verbs, hashlib.sha256(e.path.read_bytes()).hexdigest()] for e in entries]
    return digest([files, {k: v for k, v in vars(data).items() if isinstance(v, (int, float, str))}])


def paired(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], figure: str, by: str
) -> list[tuple[str, float]]:
    """(object, difference rows - others) of a figure for what both measured, matched by a field.

    Args:
        rows, others: Figures of two models.
        figure: Field compared; rows in which it is None are left out.
        by: Field that names the clip.
    """
    known = {row[by]: row for row in others}
    matched = [(row, known[row[by]]) for row in rows if row[by] in known]
    return [(a["object"], a[figure] - b[figure]) for a, b in matched if a[figure] is not None and b[figure] is not None]
