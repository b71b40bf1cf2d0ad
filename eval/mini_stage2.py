"""Gate 5: do the views of a generated clip agree, so that one moving object explains them all?

Stage Two is fitted on the generated clip and on the real clip of the same case, with the product's settings (shorter,
without 4D-SDS, see `PROTOCOL`), and both are judged on the clip they were fitted to: PSNR inside the union of both
silhouettes, frames 1..15. Views that contradict each other cannot be fitted, however well each one looks.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from eval.ablation_store import digest, source_digest
from eval.mini_cases import Case
from eval.mini_clips import Studio
from eval.mini_gates import Gate, over_objects, passes
from eval.mini_truth import COUNT, SIZE
from eval.stage2_fit import fit_scene
from eval.stage2_judge import moving
from eval.stage2_scene import Scene
from t4d.config import Config
from t4d.metrics.pictures import masked_mse, psnr
from t4d.motion.visibility import visible_from_mesh
from t4d.splat.render import render_gaussians

PROTOCOL = (f"splat.count={COUNT}", f"stage1.size={SIZE}", "stage2.iterations=150", "stage2.refine_iterations=0")
CLIPS = 3


def view_gate(
    studio: Studio, samples: Sequence[tuple[Case, int]], rows: Sequence[dict[str, Any]]
) -> tuple[Gate, list[dict[str, Any]]]:
    """Gate 5 on the clips that pass gate 3, best correlation first, one per object, at most `CLIPS`.

    Without such a clip the gate does not hold; the best ones are fitted all the same, as information.

    Args:
        studio: Holds the clips.
        samples: (case, seed) of the rows.
        rows: Figures, see `eval.mini_clips`.

    Returns:
        The gate, and a row per clip: case, seed, passes, made and real in dB, gap.
    """
    known = [(row, sample) for row, sample in zip(rows, samples) if row["correlation"] is not None]
    known = [(row, sample) for row, sample in known if row["rest"] and row["verb"] != "idle" and row["group"] != "near"]
    known.sort(key=lambda pair: (not passes(pair[0]), -pair[0]["correlation"]))
    good = any(passes(row) for row, _ in known)
    chosen: dict[str, tuple[dict[str, Any], tuple[Case, int]]] = {}
    for row, sample in known:
        if passes(row) == good:
            chosen.setdefault(row["object"], (row, sample))
    found = []
    for row, (case, seed) in list(chosen.values())[:CLIPS]:
        made, real = fitted_psnr(studio, case, seed), fitted_psnr(studio, case, None)
        result = {"case": case.name, "object": case.object, "seed": seed, "passes": passes(row)}
        found.append({**result, "made": made, "real": real, "gap": real - made})
    what = "Stage Two: dB below the fit of the real clip"
    gaps = [(row["object"], row["gap"]) for row in found]
    if good or not gaps:
        return over_objects("5", what, gaps, (-math.inf, 4)), found
    mean = sum(gap for _, gap in gaps) / len(gaps)
    note = f"no clip passes 3; the {len(gaps)} best: {mean:.1f} dB"
    return Gate("5", what, math.nan, math.nan, math.nan, (-math.inf, 4), 0, 0, note=note), found


def fitted_psnr(studio: Studio, case: Case, seed: int | None) -> float:
    """Masked PSNR, dB, of a fit on the clip of one seed, or on the real clip (None), at the clip's own views."""
    truth = studio.world.truth(case)
    clip = truth.clip if seed is None else studio.clip(case, seed, truth)
    assert clip is not None
    config = Config.load("mini", list(PROTOCOL))
    how = [config.model_dump(mode="json"), source_digest(("motion", "splat"))]
    key = digest([studio.identity(case, -1 if seed is None else seed, truth), how])
    stored = studio.store.read().get(key)
    if stored is not None:
        return stored["fit_psnr"]
    gaussians, _ = studio.world.scene(case)
    vertices, faces = studio.world.surface(case)
    cameras = studio.world.cameras
    scene = Scene(
        name=f"{case.name.replace('/', '-')}-{'real' if seed is None else seed}",
        prompt=truth.prompt,
        seed=0,
        gaussians=gaussians.detach(),
        cameras=cameras,
        rgb=clip[:, :, :3].contiguous(),
        mask=(clip[:, :, 3:] > 0.5).float(),
        reference=truth.reference,
        visible=visible_from_mesh(vertices, faces, gaussians.means, cameras),
        content=key,
    )
    fitted = fit_scene(studio.store, studio.model, scene, config)
    with torch.no_grad():
        drawn = render_gaussians(moving(fitted.asset), cameras).clamp(0, 1).transpose(0, 1)
    value = psnr(masked_mse(clip[:, 1:], drawn[:, 1:]))
    studio.store.append({"key": key, "case": scene.name, "fit_psnr": value, "cpu_seconds": fitted.cpu_seconds})
    return value
