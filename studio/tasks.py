"""What the worker process can be asked to do. Heavy imports stay inside the functions."""

import dataclasses
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.worker import DROP, STOP

STAGE_CACHE_BYTES = 4 * 2**30


def inspect(payload: Mapping[str, Any], asked: Callable[[], int]) -> Iterator[dict]:
    """Reads an object file and says what is in it.

    Args:
        payload: ``path`` of the object file.
        asked: unused; reading takes a moment.

    Yields:
        One step with ``result`` = ``{name, facts: text, clips: [names], notes: [sentences]}``.

    Raises:
        InputError: the file cannot be used, and why.
    """
    from t4d.geometry.object3d import load_object
    from t4d.geometry.ply_header import read_ply_header

    path = Path(payload["path"])
    yield {"stage": "inspect", "fraction": 0.0, "message": "Reading the object"}
    header = read_ply_header(path) if path.suffix.lower() == ".ply" else None
    if header is not None and header.holds_gaussians:
        from t4d.splat.object_ply import load_gaussian_object  # imports torch, which a mesh can wait for

        gaussians, notes = load_gaussian_object(path)
        result = {"name": path.stem, "facts": f"{len(gaussians):,} Gaussians", "clips": [], "notes": notes}
    else:
        loaded = load_object(path)
        clips = [clip.name for clip in loaded.clips]
        facts = f"{len(loaded.mesh.faces):,} triangles"
        result = {"name": loaded.name, "facts": facts, "clips": clips, "notes": list(loaded.notes)}
    yield {"fraction": 1.0, "result": result}


def animate(payload: Mapping[str, Any], asked: Callable[[], int]) -> Iterator[dict]:
    """Runs `t4d.pipeline.animate`; asked to stop, it keeps the asset so far.

    Args:
        payload: ``path``, ``prompt``, ``out``, ``cache`` and the resolved ``config``.
        asked: see `studio.worker.execute`.

    Yields:
        Its progress; ``result`` holds the run's paths and ``zip``, all PLY frames in one archive.
    """
    from t4d.config import Config

    config = Config.model_validate(payload["config"])
    # Before torch and numba are imported: both read these once.
    os.environ.setdefault("OMP_NUM_THREADS", str(config.threads))
    os.environ.setdefault("NUMBA_NUM_THREADS", str(config.threads))
    from t4d.pipeline import AnimateRequest
    from t4d.pipeline import animate as run
    from t4d.stages import prune

    cache = Path(payload["cache"])
    request = AnimateRequest(Path(payload["path"]), payload["prompt"], Path(payload["out"]), config, cache)
    try:
        for progress in run(request, cancel=lambda: asked() >= DROP, stop=lambda: asked() >= STOP):
            result = None
            if progress.result is not None:
                found = dataclasses.asdict(progress.result)
                result = {name: None if value is None else str(value) for name, value in found.items()}
                result["zip"] = str(_zip_frames(progress.result.plys))
            yield {
                "stage": progress.stage,
                "fraction": progress.fraction,
                "message": progress.message,
                "eta_s": progress.eta_s,
                "preview": None if progress.preview is None else str(progress.preview),
                "result": result,
                "keeps": True,
            }
    finally:
        prune(cache, STAGE_CACHE_BYTES)


def _zip_frames(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    part = archive.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        for file in sorted(folder.iterdir()):
            bundle.write(file, f"{folder.name}/{file.name}")
    part.replace(archive)
    return archive
