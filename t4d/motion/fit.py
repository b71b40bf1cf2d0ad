"""Stage Two: the fit of the moving asset to a multi-view clip, as a generator of states."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from t4d.errors import InputError
from t4d.geometry.camera import Camera
from t4d.motion import checkpoint
from t4d.motion.appearance import Appearance
from t4d.motion.arap import SUM_FORM, arap_loss, nearest_neighbours
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_table import FeatureTable
from t4d.motion.field import MotionField
from t4d.motion.fit_input import check_fit
from t4d.motion.guidance import Guidance
from t4d.motion.losses import reconstruction_loss
from t4d.motion.schedule import Schedule, half_size
from t4d.splat.gaussians import Gaussians
from t4d.splat.rasterize import Backend
from t4d.splat.render import render_gaussians

EPS = 1e-15  # Adam's
DEFAULT_APPEARANCE = {"degree": 0, "terms": 5, "lr": 2.5e-3, "start": 0.75, "damping": 0.4}


@dataclass(frozen=True)
class FitState:
    """Where a fit stands after an iteration.

    Attributes:
        iteration: finished iterations, 1..total.
        total: of the whole fit.
        phase: "reconstruct" or "refine", of this iteration.
        loss: of this iteration, weighted sum.
        terms: its unweighted terms: "color", "coverage" (L_rec, Eq. 10) and, where used, "arap" and "sds".
        frames: the frames judged in this iteration.
        asset: the moving asset so far, always viewable. Its field is the living one: the next iteration changes it.
        optimizer: internal; `checkpoint` copies it.
    """

    iteration: int
    total: int
    phase: Literal["reconstruct", "refine"]
    loss: float
    terms: dict[str, float]
    frames: tuple[int, ...]
    asset: MotionAsset
    optimizer: torch.optim.Adam

    def checkpoint(self) -> dict[str, Tensor]:
        """A copy of all that `fit_motion` needs to go on from here (``resume``); plain tensors, fit for safetensors."""
        return checkpoint.checkpoint(self.asset, self.optimizer, self.iteration)


def fit_motion(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    rgb: Tensor,  # [V, T, 3, H, W]
    mask: Tensor,  # [V, T, 1, H, W]
    *,
    iterations: int = 300,
    refine_iterations: int = 0,
    images_per_step: int = 16,
    lr_planes: float = 0.01,
    lr_heads: float = 3e-3,
    fine_rate: float = 0.5,
    feature_rate: float = 0.3,
    global_rate: float = 10.0,
    final_rate: float = 0.1,
    lambda_rec: float = 100.0,
    lambda_arap: float = 0.2,
    lambda_arap_refine: float = 0.2,
    arap_samples: int = 512,
    progressive: float = 0.75,
    coarse: float = 0.4,
    gradient_share: float = 1.0,
    scales_move: Literal["always", "refine"] = "always",
    field: Mapping[str, Any] | None = None,
    appearance: Mapping[str, Any] | None = DEFAULT_APPEARANCE,
    lambda_sds: float = 0.01,
    table: FeatureTable | None = None,
    reproject: Callable[[MotionAsset], FeatureTable] | None = None,
    reproject_every: int = 0,
    guidance: Guidance | None = None,
    seed: int = 0,
    backend: Backend = "auto",
    resume: Mapping[str, Tensor] | None = None,
) -> Generator[FitState, None, None]:
    """Fits offsets and colour over time so that the Gaussians' renderings match the clip: L_2 of the paper.

    Reconstruction: L_rec (Eq. 10) and ARAP. In the first `progressive` share of its iterations frame s enters after
    frame s - 1 and starts from the motion found so far; each step judges the newest frame and random earlier ones,
    later steps random frames of all. Refinement: random frames of all, with guidance (4D-SDS, Eq. 11) where given.
    Frame 0 is never judged: it is the static object. Only field and appearance are trained. Closing the generator at
    any state leaves that state's asset usable. Equal arguments and thread count give equal bits on the CPU, resumed or
    not.

    Args:
        gaussians: the static object, no batch dimensions; never changed.
        cameras: V cameras of the clip's picture size.
        rgb: the clip, 0..1, view-major; frame 0 shows the static object.
        mask: where the object is, 0..1.
        iterations, refine_iterations: steps of the two phases.
        images_per_step: pictures per step: all V views of as many frames as fit, at least one frame.
        lr_planes, lr_heads: Adam's learning rates. They fall over the second half of the reconstruction; refinement
            runs at the final ones.
        fine_rate: learning rate of each finer level of the planes over that of the next coarser one, which keeps
            neighbouring Gaussians together; without effect at one level.
        feature_rate: learning rate of the heads' weights for diffusion features over that of their others. Those
            features have unit variance, the Hex-planes' products start near 0.03: at equal rates they would decide the
            first motion of each frame.
        global_rate: learning rate of the global transform over that of the heads (Animate3D: 1e-3 over 1e-4).
        final_rate: share of the learning rates left after they fell; 1 keeps them constant.
        lambda_rec: weight lambda_4 of L_rec and of its coverage term.
        lambda_arap, lambda_arap_refine: weight lambda_6 of ARAP in the sum form (``SUM_FORM``), per phase.
        arap_samples: Gaussians drawn per iteration to judge ARAP.
        progressive: share of the reconstruction in which frames enter.
        coarse: share of the reconstruction that compares pictures of half size, which sees further and costs less.
        gradient_share: chance of each Gaussian in each picture of the reconstruction to pass gradients to its
            position, rotation and scale (Animate3D: 0.1).
        scales_move: "refine" leaves scales static until the refinement (Animate3D).
        field: options of ``MotionField``: planes, features, levels, hidden, bias, global_transform.
        appearance: degree and terms of ``Appearance``; lr, its learning rate; start, the share of the reconstruction
            before it is trained, for colour can imitate motion that is not found yet; damping, Adam's epsilon times the
            number of Gaussians. None for static colour.
        lambda_sds: weight lambda_5 of the guidance's loss; 0 switches it off.
        table: diffusion features of the Gaussians (second half of Eq. 6), or None.
        reproject: gives a new table for the asset so far, called every `reproject_every` iterations (0 is never).
        guidance: called once per refinement step.
        seed: of the field's start and of everything drawn.
        backend: of ``rasterize``.
        resume: a ``FitState.checkpoint()`` of the same fit.

    Yields:
        One FitState per iteration, from the first not yet done.

    Raises:
        InputError: clip, cameras, Gaussians and table do not fit each other, the clip has values that are not finite or
            has an empty mask in frame 0, the checkpoint is of another fit, or the loss stops being finite.
    """
    check_fit(gaussians, cameras, rgb, mask, iterations, images_per_step, table)
    views, frames = rgb.shape[:2]
    gaussians = gaussians.detach()
    look = DEFAULT_APPEARANCE | dict(appearance or {})
    asset = MotionAsset(
        gaussians,
        MotionField(gaussians.means, table=table, seed=seed, **(field or {})),
        frames,
        None if appearance is None else Appearance(gaussians, frames, int(look["degree"]), int(look["terms"])),
    )
    shares = (fine_rate, feature_rate, global_rate)
    optimizer = _optimizer(asset, lr_planes, lr_heads, shares, look["lr"], look["damping"])
    rates = [group["lr"] for group in optimizer.param_groups]
    schedule = Schedule(frames, iterations, refine_iterations, progressive, final_rate)
    done = 0 if resume is None else checkpoint.restore(asset, optimizer, resume, schedule.total)
    neighbours = nearest_neighbours(gaussians.means)
    sharp = (list(cameras), rgb, mask)
    blurred = half_size(*sharp)

    for iteration in range(done, schedule.total):
        # One generator per iteration: a resumed fit draws what the uninterrupted one would have drawn.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + iteration)
        refining = schedule.refining(iteration)
        chosen = schedule.choose(iteration, max(1, images_per_step // views), generator)
        for plane in asset.field.each_plane():
            trained = schedule.untrained_time(iteration, plane.resolution[3])
            if trained is not None:
                plane.hold_time(trained)
        if asset.appearance is not None:
            asset.appearance.requires_grad_(iteration >= look["start"] * iterations)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * schedule.rate(iteration)
        if reproject is not None and reproject_every and iteration and iteration % reproject_every == 0:
            asset.field.table = reproject(asset)

        views_cameras, target, inside = blurred if iteration < coarse * iterations else sharp
        moved = asset.batch(torch.tensor(chosen, dtype=torch.float32))
        if scales_move == "refine" and not refining:
            moved = moved.replace(log_scales=gaussians.log_scales.expand_as(moved.log_scales))
        share = 1.0 if refining else gradient_share
        rendered = _render(moved, views_cameras, share, generator, backend)  # [F, V, 4, H, W]
        color, coverage = reconstruction_loss(
            rendered, target[:, chosen].transpose(0, 1), inside[:, chosen].transpose(0, 1)
        )
        terms = {"color": color, "coverage": coverage}
        loss = lambda_rec * (color + coverage)
        weight = lambda_arap_refine if refining else lambda_arap
        if weight and neighbours.shape[1]:  # a single Gaussian has none
            drawn = torch.randint(len(gaussians), (arap_samples,), generator=generator).to(gaussians.means.device)
            terms["arap"] = arap_loss(gaussians.means, moved.means, neighbours, drawn)
            loss = loss + weight * SUM_FORM * terms["arap"]
        if refining and guidance is not None and lambda_sds:
            terms["sds"] = guidance(asset, generator)
            loss = loss + lambda_sds * terms["sds"]
        if not bool(torch.isfinite(loss)):
            raise InputError(
                f"The loss of the motion fit is {float(loss.detach())} in iteration {iteration + 1}, expected a finite "
                "number; lower its learning rates."
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield FitState(
            iteration + 1,
            schedule.total,
            "refine" if refining else "reconstruct",
            float(loss.detach()),
            {name: float(term.detach()) for name, term in terms.items()},
            tuple(chosen),
            asset,
            optimizer,
        )


def _optimizer(
    asset: MotionAsset,
    lr_planes: float,
    lr_heads: float,
    shares: tuple[float, float, float],
    lr_colour: float,
    damping: float,
) -> torch.optim.Adam:
    fine_rate, feature_rate, global_rate = shares
    field = asset.field
    groups: list[dict[str, Any]] = [
        {"params": plane.level(level), "lr": lr_planes * fine_rate ** (plane.levels - 1 - level)}
        for plane in field.each_plane()
        for level in range(plane.levels)
    ]
    for head in field.each_head().values():
        groups.append({"params": [*head.first.parameters(), *head.last.parameters()], "lr": lr_heads})
        if head.extra is not None:
            groups.append({"params": [head.extra], "lr": feature_rate * lr_heads})
    if field.whole:
        groups.append({"params": list(field.whole.parameters()), "lr": global_rate * lr_heads})
    if asset.appearance is not None:
        # Adam takes full steps however small a gradient is: Gaussians that hardly show would wander off in colour.
        eps = max(EPS, damping / len(asset.gaussians))
        groups.append({"params": list(asset.appearance.parameters()), "lr": lr_colour, "eps": eps})
    return torch.optim.Adam(groups, eps=EPS, fused=True)


def _render(
    moved: Gaussians, cameras: list[Camera], share: float, generator: torch.Generator, backend: Backend
) -> Tensor:
    """[F, V, 4, H, W]; in each picture only a random share of the Gaussians passes gradients to its geometry."""
    if share >= 1:
        return render_gaussians(moved, cameras, background=0.0, backend=backend)
    pictures = []
    for camera in cameras:
        lucky = torch.rand(moved.means.shape[:-1], generator=generator).to(moved.means.device) < share
        passed = {
            name: torch.where(lucky[..., None], value, value.detach())
            for name, value in moved.state_dict().items()
            if name in ("means", "quats", "log_scales")
        }
        pictures.append(render_gaussians(moved.replace(**passed), [camera], background=0.0, backend=backend))
    return torch.cat(pictures, dim=1)
