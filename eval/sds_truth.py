"""Does 4D-SDS know the truth? Where its gradient points from known motions, and what refining with it does to a fit.

    python -m eval.sds_truth [--clips Fox:Run,...] [--draws 4] [--lambdas 0,0.001,0.01,0.1] [--refine 32]

Truth: `eval.truth_clip`, light baked in frame 0. First table: the loss at states whose motion is known, averaged over
draws of rig, time and noise, for the trained network and for one of fresh weights. A state is a set of Gaussians per
frame: static, half and 1.3 times the true motion, the truth, the truth with its frames in reverse order, the truth with
every Gaussian moved by .02 at random.

- relative: root mean square of z - z0_hat over that of z: how far the network would change the motion.
- gain: least-squares factor of z0_hat to z; below 1 it wants less motion.
- to truth, motion: cosine of the descent direction on the centres with the way to the truth, and with the true motion.
- share: lambda times the gradient's norm over that of 100 L_rec at the rig's views.

Second table: a fit of the preset without features, refined with one lambda after another from the same reconstruction;
share of the gap closed at held-out views and mean distance as in `eval.stage2_truth`. Writes results/sds_truth.json.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from eval.stage2_truth import COUNT, judge, moving, processor, straight_clip
from eval.truth_clip import SIZE, BoundTruth, TruthClip, held_out_cameras
from t4d.config import Config
from t4d.diffusion.model import VideoModel
from t4d.geometry.camera import Camera, rig
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_maps import untrained
from t4d.motion.fit import fit_motion
from t4d.motion.losses import reconstruction_loss
from t4d.motion.random_rig import random_rig
from t4d.motion.sds import VideoGuidance
from t4d.paths import shared_dir
from t4d.splat.gaussians import Gaussians
from t4d.splat.render import render_gaussians
from t4d.steps import fit_options

CLIPS = {"Fox:Run": "a fox is running", "Trex:TRex_Run": "a dinosaur is running"}
JITTER = 0.02


@dataclass(frozen=True)
class Poses:
    """Given Gaussians of every frame in place of a field: what `VideoGuidance` needs of an asset.

    Attributes:
        gaussians: frame 0.
        poses: [T] Gaussians.
        means: [T, N, 3], used in place of theirs and free to have gradient.
    """

    gaussians: Gaussians
    poses: Gaussians
    means: Tensor

    @property
    def frames(self) -> int:
        """T."""
        return len(self.means)

    def at(self, frame: float) -> Gaussians:
        """Frame 0."""
        if frame != 0:
            raise ValueError(f"frame {frame} was asked for by number, only 0 can be")
        return self.gaussians

    def batch(self, frames: Tensor) -> Gaussians:
        """Whole frames."""
        index = frames.long()
        return self.poses.map(lambda x: x[index]).replace(means=self.means[index])


def states(truth: BoundTruth) -> Iterator[tuple[str, Gaussians]]:
    """Known motions by name, [T] Gaussians each."""
    still, true = truth.still(), truth.oracle
    way = true.means - still.means
    order = [0, *range(truth.frames - 1, 0, -1)]
    noise = JITTER * torch.randn(true.means.shape, generator=torch.Generator().manual_seed(0))
    yield "static", still
    yield "half", true.replace(means=still.means + 0.5 * way)
    yield "truth", true
    yield "1.3 x", true.replace(means=still.means + 1.3 * way)
    yield "reversed", true.map(lambda x: x[order])
    yield "jittered", true.replace(means=true.means + noise)


def pull(
    truth: BoundTruth, poses: Gaussians, guidance: VideoGuidance, draws: int, clip: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """The first table's row of one state; ``clip`` is what the rig sees (colours and masks, [V, T, ...])."""
    true, still = truth.oracle.means[1:], truth.still().means[1:]
    slopes, sums = [], torch.zeros(4)
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        asset = Poses(truth.gaussians, poses, poses.means.clone().requires_grad_())
        cameras = random_rig(generator, guidance.size, guidance.views)
        t = int(torch.randint(guidance.t_min, guidance.t_max + 1, (), generator=generator))
        frames = guidance.frames_of(asset.frames, generator)
        rgba = guidance.render(cast(MotionAsset, asset), cameras, frames)
        z = guidance.encode(rgba)
        target = guidance.denoise(z, rgba[:, 0].detach(), cameras, t, generator)
        loss = 0.5 * (z - target).square().sum() / (z.shape[1] * (z.shape[2] - 1))
        slopes.append(torch.autograd.grad(loss, asset.means)[0][1:])
        now, wanted = z.detach()[:, :, 1:], target[:, :, 1:]
        energy = now.square().sum()
        sums += torch.stack([loss.detach(), (wanted - now).square().sum(), (wanted * now).sum(), energy])
    slope = torch.stack(slopes).mean(0)
    loss, off, product, energy = (sums / draws).tolist()
    moving_at_all = energy > 1e-3  # latents of a still object are zero: nothing to compare with
    return {
        "loss": loss,
        "relative": (off / energy) ** 0.5 if moving_at_all else float("nan"),
        "gain": product / energy if moving_at_all else float("nan"),
        "to_truth": cosine(-slope, true - poses.means[1:]),
        "motion": cosine(-slope, true - still),
        "draws_agree": cosine(slopes[0], slopes[-1]),
        "share": 0.01 * float(torch.stack([s.norm() for s in slopes]).mean()) / reconstruction_slope(poses, clip),
    }


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two whole tensors; NaN where one is zero."""
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size > 1e-12 else float("nan")


def reconstruction_slope(poses: Gaussians, clip: tuple[Tensor, Tensor]) -> float:
    """Norm of the gradient of 100 L_rec on the centres of frames 1..T-1, over all pictures of the clip."""
    rgb, mask = clip
    later = poses.map(lambda x: x[1:])
    means = later.means.clone().requires_grad_()
    rendered = render_gaussians(later.replace(means=means), rig_cameras(), background=0.0)
    color, coverage = reconstruction_loss(rendered, rgb[:, 1:].transpose(0, 1), mask[:, 1:].transpose(0, 1))
    return float(torch.autograd.grad(100 * (color + coverage), means)[0].norm())


def rig_cameras() -> list[Camera]:
    """The rig that sees the clip."""
    return rig(width=SIZE, height=SIZE)


def refine(
    truth: BoundTruth,
    clip: tuple[Tensor, Tensor],
    pictures: Tensor,
    guidance: VideoGuidance,
    config: Config,
    lambdas: list[float],
    marks: tuple[int, ...],
) -> list[dict[str, Any]]:
    """The second table's rows of one clip; one reconstruction, refined anew for every lambda."""
    options: dict[str, Any] = fit_options(config.stage2) | {"refine_iterations": max(marks)}
    arguments = (truth.gaussians, rig_cameras(), *clip)
    start, first = None, options["iterations"]
    for state in fit_motion(*arguments, **options):
        if state.iteration == first:
            start = state.checkpoint()
            break
    assert start is not None
    rows = []
    for weight in lambdas:
        options["lambda_sds"] = weight
        for state in fit_motion(*arguments, **options, guidance=guidance, resume=start):
            if state.iteration - first in marks:
                found = judge(truth, pictures, held_out_cameras(), moving(state.asset))
                rows.append({"lambda": weight, "iterations": state.iteration - first, **found})
    return rows


def main() -> None:
    """Measures, prints both tables, writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=(shared_dir() or Path()) / "data/real3d/animated")
    parser.add_argument("--clips", default=",".join(CLIPS), help="FILE:CLIP, ...")
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--lambdas", default="0,0.001,0.01,0.1")
    parser.add_argument("--refine", type=int, default=32, help="most refining iterations; a quarter is judged too")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sds_truth.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = Config.load("mini", variant="no_diffusion_features")
    options = config.stage2.guidance.model_dump(exclude={"lambda_sds"})
    trained = VideoModel.load("mini")
    networks = {"trained": trained, "untrained": replace(trained, unet=untrained(trained.unet, 0))}
    lambdas = [float(value) for value in arguments.lambdas.split(",")]
    pulls, refined = [], []
    for item in arguments.clips.split(","):
        name, animation = item.split(":")
        object_clip = TruthClip(arguments.data / f"{name}.glb", animation, relit=False)
        truth, clip = object_clip.bind(COUNT, 0), straight_clip(object_clip.pictures(rig_cameras()))
        guidances = {n: VideoGuidance(model, CLIPS.get(item, ""), **options) for n, model in networks.items()}
        for network, guidance in guidances.items():
            for state, poses in states(truth):
                row = pull(truth, poses, guidance, arguments.draws, clip)
                pulls.append({"clip": item, "network": network, "state": state, **row})
                print(f"{item:15s} {network:10s} {state:9s} " + "  ".join(f"{k} {v:7.3f}" for k, v in row.items()))
        marks = (max(1, arguments.refine // 4), arguments.refine)
        pictures = object_clip.pictures(held_out_cameras())
        for row in refine(truth, clip, pictures, guidances["trained"], config, lambdas, marks):
            refined.append({"clip": item, **row})
            print(
                f"{item:15s} lambda {row['lambda']:<6g} {row['iterations']:3d} iterations  share {row['share']:.4f}"
                f"  distance {row['mean_distance']:.4f}",
                flush=True,
            )
    report = {
        "pull": pulls,
        "refine": refined,
        "draws": arguments.draws,
        "weights": trained.label,
        "guidance": options,
        "hardware": processor(),
        "torch": torch.__version__,
    }
    arguments.out.write_text(json.dumps(report, indent=1).replace("NaN", "null") + "\n")


if __name__ == "__main__":
    main()
