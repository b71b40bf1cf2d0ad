"""The figures of one fit: against truth at held-out views, or against the generated clip it was made from."""

from typing import Any

import torch
from torch import Tensor

from eval.stage2_scene import Scene, TruthScene
from eval.truth_clip import held_out_cameras
from t4d.metrics.consistency import photometric_agreement
from t4d.metrics.motion import (
    area_change,
    color_drift,
    distances,
    jitter,
    maximum_difference,
    relative_rigidity,
    within,
)
from t4d.metrics.pictures import masked_mse, masked_ssim, psnr, silhouette_iou
from t4d.motion.arap import arap_loss, nearest_neighbours
from t4d.motion.asset import MotionAsset
from t4d.motion.visibility import visible_from_depth
from t4d.splat.gaussians import Gaussians, stack_gaussians
from t4d.splat.render import render_gaussians


def moving(asset: MotionAsset) -> Gaussians:
    """All frames of an asset as one batch [T], without gradient."""
    frames = [asset.at(frame) for frame in range(asset.frames)]
    widest = max(frame.sh.shape[-2] for frame in frames)
    padded = [frame.replace(sh=_widened(frame.sh, widest)) for frame in frames]
    return stack_gaussians(padded).detach()


def _widened(sh: Tensor, coefficients: int) -> Tensor:
    """Coefficients [N, K, 3] with zeros for the bands that are missing, which changes no colour."""
    return torch.nn.functional.pad(sh, (0, 0, 0, coefficients - sh.shape[-2]))


@torch.no_grad()
def judge_truth(truth: TruthScene, moved: Gaussians) -> dict[str, float]:
    """Figures of a moving object [T] against the truth, frames 1..T-1.

    - mse, psnr (dB), ssim: colour inside the union of both silhouettes at the held-out views, pooled;
    - iou: of the silhouettes there, mean over pictures;
    - delta_2, delta_5, delta_10: share of Gaussians x frames nearer to the place that the mesh gives their binding than
      2, 5, 10 % of the diagonal of the object's bounds; distance: their mean distance, in diagonals;
    - color: mean absolute error of the Gaussians' colours (sRGB, seen from the first held-out view) against the re-lit
      truth, over those that the truth shows in some held-out view;
    - arap: mean squared error of edges after the best local rotations, over the mean squared edge (3 neighbours, all
      Gaussians, all frames);
    - jitter: unevenness of the Gaussians' paths (``t4d.metrics.motion.jitter``).
    """
    rendered = render_gaussians(moved, truth.judges).clamp(0, 1)[1:]
    pictures = truth.pictures[1:]
    oracle = truth.bound.oracle
    off = distances(moved.means[1:], oracle.means[1:])
    near = within(off, truth.diagonal)
    mse = masked_mse(pictures, rendered)
    return {
        "mse": mse,
        "psnr": psnr(mse),
        "ssim": masked_ssim(pictures, rendered),
        "iou": silhouette_iou(pictures, rendered),
        **{f"delta_{round(100 * share)}": value for share, value in near.items()},
        "distance": float(off.mean()) / truth.diagonal,
        "color": color_drift(_colors(moved, truth.judges)[1:], oracle.colors()[1:], truth.seen[1:]),
        "arap": rigidity(truth.scene.gaussians, moved),
        "jitter": jitter(moved.means),
    }


@torch.no_grad()
def judge_generated(scene: Scene, moved: Gaussians) -> dict[str, float]:
    """Figures of a moving object [T] against the clip it was fitted to; there is no truth at other views.

    - fit_psnr (dB), fit_ssim, fit_iou: self-consistency at the fitted views, frames 1..T-1, inside the union of both
      silhouettes;
    - agreement (dB): held-out views against the clip, see ``photometric_agreement``: the renderings between the fitted
      views carry the clip's colours to where the same Gaussians are seen. It does not ask for motion (an unmoved object
      of even colour agrees too): read it beside fit_psnr;
    - color_drift: identity of appearance: mean absolute change of the Gaussians' colours from the static object's;
    - area_drift: mean |ln(silhouette area over the static object's)| at the held-out views: torn or shrunk objects;
    - area_error: the same against the clip at the fitted views;
    - arap, jitter: as for truth; jitter_pictures: that of the held-out renderings.
    """
    judges = held_out_cameras(scene.cameras[0].width)
    fitted, held = render_gaussians(moved, scene.cameras).clamp(0, 1), render_gaussians(moved, judges).clamp(0, 1)
    rgb, mask = scene.rgb.transpose(0, 1), scene.mask.transpose(0, 1)
    clip = torch.cat([mask * rgb + (1 - mask) * 0.5, mask], dim=2)  # [T, V, 4, H, W]
    mse = masked_mse(clip[1:], fitted[1:])
    seen_held = visible_from_depth(moved, judges).transpose(0, 1)
    seen_fit = visible_from_depth(moved, scene.cameras).transpose(0, 1)
    return {
        "fit_psnr": psnr(mse),
        "fit_ssim": masked_ssim(clip[1:], fitted[1:]),
        "fit_iou": silhouette_iou(clip[1:], fitted[1:]),
        "agreement": photometric_agreement(
            held[1:].transpose(0, 1),
            judges,
            clip[1:].transpose(0, 1),
            scene.cameras,
            moved.means[1:],
            seen_held[:, 1:],
            seen_fit[:, 1:],
        ),
        "color_drift": color_drift(_colors(moved, judges)[1:], _colors(_one(scene.gaussians), judges)[0]),
        "area_drift": area_change(held[1:, :, 3], render_gaussians(_one(scene.gaussians), judges)[:, :, 3]),
        "area_error": area_change(fitted[1:, :, 3], clip[1:, :, 3]),
        "arap": rigidity(scene.gaussians, moved),
        "jitter": jitter(moved.means),
        "jitter_pictures": jitter(held),
    }


@torch.no_grad()
def frame_zero_difference(static: Gaussians, asset: MotionAsset) -> dict[str, float]:
    """Largest difference of the asset's frame 0 from the static object: parameters and rendered pictures."""
    first, still = asset.at(0).state_dict(), static.state_dict()
    width = max(first["sh"].shape[-2], still["sh"].shape[-2])
    pictures = [render_gaussians(Gaussians(**state), held_out_cameras()) for state in (first, still)]
    for state in (first, still):
        state["sh"] = _widened(state["sh"], width)
    geometry = ("means", "quats", "log_scales", "opacity_logits")
    return {
        "geometry": maximum_difference({k: first[k] for k in geometry}, {k: still[k] for k in geometry}),
        "color": maximum_difference({"sh": first["sh"]}, {"sh": still["sh"]}),
        "pictures": float((pictures[0] - pictures[1]).abs().max()),
    }


def rigidity(static: Gaussians, moved: Gaussians) -> float:
    """ARAP energy of frames 1..T-1 over all Gaussians, relative to the squared edges."""
    neighbours = nearest_neighbours(static.means)
    energy = arap_loss(static.means, moved.means[1:], neighbours, torch.arange(len(static)))
    return relative_rigidity(float(energy), static.means, neighbours)


def _one(gaussians: Gaussians) -> Gaussians:
    return stack_gaussians([gaussians])


def _colors(gaussians: Gaussians, cameras: list[Any]) -> Tensor:
    """[T, N, 3] sRGB, seen from the first camera where the colour depends on the view."""
    if gaussians.sh_degree == 0:
        return gaussians.colors()
    eye = cameras[0].eye.to(gaussians.means)[None]
    return gaussians.colors(eye.expand(len(gaussians.means), 1, 3))[:, 0]
