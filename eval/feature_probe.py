"""Do diffusion features carry motion? A linear map from a Gaussian's table row to its true displacement.

    python -m eval.feature_probe [--clips Fox:Run,...] [--weights mini] [--layer L] [--t 51] [--out FILE]

Set-up of `eval.stage2_ablation`: truth clips re-lit every frame, four rig views, 8 000 Gaussians. A row of the feature
table (16 whitened components, the flag and a constant) predicts the displacement from frame 0 in world units, with
one ridge regression for all Gaussians and frames 1..15, fitted to four fifths of the Gaussians and judged on the rest:
R2 = 1 - squared error / squared deviation from the mean displacement, over all judged Gaussians, seen or not. A linear
map has 54 numbers for 120 000 displacements, so it cannot learn places by heart.

Rows: the trained network, an untrained one (fresh denoiser weights), random maps, the clip's own latents as features,
and the ceiling: the true displacements of the seen Gaussians in maps of the network's resolution (least squares in each
view), which a linear map of features read from such maps cannot beat by much. "moved": read where the Gaussians truly
are in each frame instead of where they were in frame 0. Unseen Gaussians have zeros here, no stand-ins. Seeds change
Gaussians, split, noise, fresh weights and random maps.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.truth_clip import SIZE, BoundTruth, TruthClip
from t4d.config import FeatureConfig
from t4d.diffusion.model import VideoModel
from t4d.geometry.camera import Camera, rig
from t4d.motion.feature_maps import features_of
from t4d.motion.feature_table import FeatureTable
from t4d.motion.projection import Projector
from t4d.motion.visibility import visible_from_mesh
from t4d.paths import shared_dir

CLIPS = ("Fox:Run", "Trex:TRex_Run", "Clownfish:Swimming_Fast", "RobotExpressive:Dance")
COUNT = 8000
RIDGE = 1e-3


def linear_r2(table: FeatureTable, displacement: Tensor, seed: int) -> dict[str, float]:
    """R2 of the ridge regression on held-out Gaussians.

    Args:
        table: [N, T, D].
        displacement: [T, N, 3] from frame 0, world units.
        seed: of the split.

    Returns:
        ``r2`` over all held-out Gaussians, ``r2_seen`` over those some view sees.
    """
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed))
    judged, fitted = order[: len(order) // 5], order[len(order) // 5 :]
    later = torch.arange(1, table.frames, dtype=torch.float32)
    rows = table.at(later).double()
    rows = torch.cat([rows, torch.ones_like(rows[..., :1])], dim=-1)
    target = displacement[1:].double()
    x, y = rows[:, fitted].flatten(0, 1), target[:, fitted].flatten(0, 1)
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1]).double()
    weights = torch.linalg.solve(gram, x.T @ y)
    error = (rows[:, judged] @ weights - target[:, judged]).square().sum(-1)
    spread = (target[:, judged] - y.mean(0)).square().sum(-1)
    seen = table.visible[judged, 1:].T
    return {
        "r2": float(1 - error.sum() / spread.sum()),
        "r2_seen": float(1 - error[seen].sum() / spread[seen].sum()),
    }


def moved_visibility(clip: TruthClip, truth: BoundTruth, cameras: list[Camera]) -> Tensor:
    """[V, T, N] by rays against the posed mesh."""
    return torch.stack(
        [
            visible_from_mesh(pose, clip.mesh.faces, means, cameras)
            for pose, means in zip(clip.vertices, truth.oracle.means)
        ],
        dim=1,
    )


def latent_maps(model: VideoModel, pictures: Tensor) -> Tensor:
    """The clip's latents as feature maps, [V, T, C, h, w], of pictures [V, T, 4, H, W]."""
    with torch.no_grad():
        return model.autoencoder.encode(pictures[None])[0]


def ceiling_maps(shape: list[int], cameras: list[Camera], means: Tensor, visible: Tensor, values: Tensor) -> Tensor:
    """Maps whose bilinear readings at Gaussians come nearest to given values.

    Args:
        shape: [V, T, any, h, w] of the maps.
        cameras: V cameras.
        means: [T or 1, N, 3] where the maps will be read.
        visible: [V, T or 1, N].
        values: [T, N, C].

    Returns:
        [V, T, C, h, w]; cells that nothing is read from are zero.
    """
    views, frames, _, height, width = shape
    cells = height * width
    one_hot = torch.eye(cells).reshape(1, cells, height, width)
    maps = torch.zeros(views, frames, cells, values.shape[-1])
    for view, camera in enumerate(cameras):
        size = torch.tensor([camera.width, camera.height]).float()
        for frame in range(frames):
            moment = min(frame, len(means) - 1)
            seen = visible[view, moment]
            places = (2 * camera.project(means[moment][seen])[0] - size) / size.max()
            read = F.grid_sample(one_hot, places[None, None], padding_mode="border", align_corners=False)[0, :, 0]
            gram = read @ read.T + 1e-3 * torch.eye(cells)
            maps[view, frame] = torch.linalg.solve(gram, read @ values[frame][seen])
    return maps.transpose(2, 3).unflatten(3, (height, width))


def probe(
    clip: TruthClip, pictures: Tensor, cameras: list[Camera], model: VideoModel, settings: FeatureConfig, seed: int
) -> list[dict[str, Any]]:
    """All rows of one clip and seed."""
    truth = clip.bind(COUNT, seed)
    displacement = truth.oracle.means - truth.gaussians.means
    still = visible_from_mesh(clip.vertices[0], clip.mesh.faces, truth.gaussians.means, cameras)
    moved = moved_visibility(clip, truth, cameras)
    rgb, mask = pictures[:, :, :3], pictures[:, :, 3:]
    straight = (0.5 + (rgb - 0.5) / mask.clamp(min=1e-3)).clamp(0, 1)
    rows = []
    for source in ("trained", "untrained", "random", "latents", "ceiling"):
        cpu = time.process_time()
        following = None
        if source == "ceiling":
            shape = rows[0]["shape"]
            maps = ceiling_maps(shape, cameras, truth.gaussians.means[None], still[:, None], displacement)
            following = ceiling_maps(shape, cameras, truth.oracle.means, moved, displacement)
        elif source == "latents":
            maps = latent_maps(model, pictures)
        else:
            maps = features_of(
                source,
                model,
                straight,
                mask,
                pictures[:, 0],
                cameras,
                "",
                layer=settings.layer,
                t=settings.t,
                seed=seed,
            )
        extraction = time.process_time() - cpu
        projector = Projector(maps, cameras, settings.width, neighbours=0)
        cpu = time.process_time()
        table = projector.table(truth.gaussians.means, still)
        projection = time.process_time() - cpu
        row = {"source": source, "seed": seed, "shape": list(maps.shape), **linear_r2(table, displacement, seed)}
        row |= {"explained": projector.explained, "seen": float(table.visible.float().mean())}
        row |= {"extraction_cpu_s": extraction, "projection_cpu_s": projection}
        follower = Projector(maps if following is None else following, cameras, settings.width, neighbours=0)
        again = linear_r2(follower.table(truth.oracle.means, moved), displacement, seed)
        row |= {f"moved_{key}": value for key, value in again.items()}
        rows.append(row)
    return rows


def main() -> None:
    """Probes every clip and prints and writes the table."""
    parser = argparse.ArgumentParser(description="Linear motion content of diffusion features on truth clips.")
    parser.add_argument("--data", type=Path, default=(shared_dir() or Path()) / "data/real3d/animated")
    parser.add_argument("--clips", default=",".join(CLIPS), help="FILE:CLIP, ...")
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--layer", default=FeatureConfig().layer)
    parser.add_argument("--t", type=int, default=FeatureConfig().t)
    parser.add_argument("--width", type=int, default=FeatureConfig().width)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "feature_probe.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = FeatureConfig(layer=arguments.layer, t=arguments.t, width=arguments.width)
    model, cameras = VideoModel.load(arguments.weights), rig(width=SIZE, height=SIZE)
    rows = []
    print("clip                      source      R2    sd   seen  moved  moved seen  explained  share seen  CPU-s")
    for item in arguments.clips.split(","):
        name, clip_name = item.split(":")
        clip = TruthClip(arguments.data / f"{name}.glb", clip_name)
        pictures = clip.pictures(cameras).transpose(0, 1).contiguous()
        found = [
            row for seed in range(arguments.seeds) for row in probe(clip, pictures, cameras, model, settings, seed)
        ]
        rows += [{"clip": item, **row} for row in found]
        for source in dict.fromkeys(row["source"] for row in found):
            own = [row for row in found if row["source"] == source]
            average = {key: mean(row[key] for row in own) for key, value in own[0].items() if isinstance(value, float)}
            spread = stdev(row["r2"] for row in own) if len(own) > 1 else 0.0
            print(
                f"{item:25s} {source:9s} {average['r2']:6.3f} {spread:.3f} {average['r2_seen']:6.3f} "
                f"{average['moved_r2']:6.3f} {average['moved_r2_seen']:11.3f} {average['explained']:10.4f} "
                f"{average['seen']:11.3f} {average['extraction_cpu_s']:6.2f}",
                flush=True,
            )
    report = {
        "rows": rows,
        "weights": {"name": arguments.weights, "label": model.label, "sha256": model.sha256},
        "features": settings.model_dump(),
        "gaussians": COUNT,
        "ridge": RIDGE,
        "torch": torch.__version__,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
