"""What the worker process can be asked to do. Heavy imports stay inside the functions."""

import dataclasses
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

STAGE_CACHE_BYTES = 4 * 2**30


def inspect(payload: Mapping[str, Any], cancel: Callable[[], bool]) -> Iterator[dict]:
    """Reads an object file and says what is in it.

    Args:
        payload: ``path`` of the object file.
        cancel: unused; reading takes a moment.

    Yields:
        One step with ``result`` = ``{name, triangles, clips: [names], notes: [sentences]}``.

    Raises:
        InputError: the file cannot be used, and why.
    """
    from t4d.geometry.object3d import load_object

    yield {"stage": "inspect", "fraction": 0.0, "message": "Reading the object"}
    loaded = load_object(Path(payload["path"]))
    yield {
        "fraction": 1.0,
        "result": {
            "name": loaded.name,
            "triangles": len(loaded.mesh.faces),
            "clips": [clip.name for clip in loaded.clips],
            "notes": list(loaded.notes),
        },
    }


def animate(payload: Mapping[str, Any], cancel: Callable[[], bool]) -> Iterator[dict]:
    """Runs `t4d.pipeline.animate`.

    Args:
        payload: ``path``, ``prompt``, ``out``, ``cache`` and the resolved ``config``.
        cancel: see the pipeline.

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
    for progress in run(request, cancel=cancel):
        result = None
        if progress.result is not None:
            result = {k: str(v) for k, v in dataclasses.asdict(progress.result).items()}
            result["zip"] = str(_zip_frames(progress.result.plys))
        yield {
            "stage": progress.stage,
            "fraction": progress.fraction,
            "message": progress.message,
            "eta_s": progress.eta_s,
            "preview": None if progress.preview is None else str(progress.preview),
            "result": result,
        }
    prune(cache, STAGE_CACHE_BYTES)


def _zip_frames(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    part = archive.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        for file in sorted(folder.iterdir()):
            bundle.write(file, f"{folder.name}/{file.name}")
    part.replace(archive)
    return archive
