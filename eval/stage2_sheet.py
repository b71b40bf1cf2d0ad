"""Pictures of a finished ablation: truth (or clip) above every row's fit, one sheet per case.

    python -m eval.stage2_sheet [truth|generated] --out FOLDER [--cases Bull,...] [--seeds 0] [--view 0]

Reads the assets that ``python -m eval.stage2_ablation`` left in its work folder; give it the same options.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from eval.ablation_plan import Plan, arguments_of
from eval.ablation_store import Store
from eval.stage2_ablation import scene_of
from eval.stage2_judge import moving
from eval.stage2_scene import TruthScene
from t4d.diffusion.model import VideoModel
from t4d.export.contact_sheet import write_contact_sheet
from t4d.geometry.camera import Camera
from t4d.motion.asset import MotionAsset
from t4d.splat.gaussians import Gaussians
from t4d.splat.render import render_gaussians


def sheet(plan: Plan, store: Store, model: VideoModel, case: object, seed: int, view: int) -> dict[str, Tensor]:
    """Pictures [T, 3, H, W] at one view by label: the truth at a held-out view, or the clip at a fitted one."""
    scene = scene_of(plan, store, model, case, seed)
    if isinstance(scene, TruthScene):
        camera = scene.judges[view]
        shown = {"truth": scene.pictures[:, view, :3]}
        bounds = {"oracle": scene.bound.oracle, "static": scene.bound.still()}
        shown |= {name: _drawn(moved, camera) for name, moved in bounds.items()}
    else:
        camera = scene.cameras[view]
        shown = {"clip": scene.rgb[view]}
    for row in plan.configs:
        path = plan.asset(row, case.name, seed)  # pyright: ignore[reportAttributeAccessIssue]
        if path.is_file():
            shown[row] = _drawn(moving(MotionAsset.load(path)), camera)
    return shown


@torch.no_grad()
def _drawn(moved: Gaussians, camera: Camera) -> Tensor:
    return render_gaussians(moved, [camera])[:, 0, :3].clamp(0, 1)


def cropped(pictures: Tensor, margin: int = 3) -> Tensor:
    """Pictures [R, T, 3, H, W] cut to what is not background in any of the first row (truth or clip)."""
    shown = ((pictures[0] - 0.5).abs() > 0.02).any(0).any(0)  # [H, W]
    if not bool(shown.any()):
        return pictures
    rows, columns = shown.any(1).nonzero(), shown.any(0).nonzero()
    top, left = max(0, int(rows.min()) - margin), max(0, int(columns.min()) - margin)
    return pictures[..., top : int(rows.max()) + margin + 1, left : int(columns.max()) + margin + 1]


def main() -> None:
    """Writes one PNG per case and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--view", type=int, default=0, help="held-out view (truth) or fitted view (generated)")
    arguments = arguments_of(parser)
    plan = Plan(arguments)
    store, model = Store(plan.work), VideoModel.load(plan.base.stage1.weights)
    folder = arguments.out or Path("runs/sheets")
    folder.mkdir(parents=True, exist_ok=True)
    for seed in plan.seeds:
        for case in plan.cases:
            shown = sheet(plan, store, model, case, seed, arguments.view)
            path = folder / f"{case.name}-{seed}.png"
            pictures = cropped(torch.stack(list(shown.values())))
            write_contact_sheet(path, pictures, max_frames=8, view_labels=list(shown), min_tile=160)
            print(f"{path}: {', '.join(shown)}")


if __name__ == "__main__":
    main()
