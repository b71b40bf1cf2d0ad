"""Stage Two, first half: the fit of the motion field to a multi-view clip, as a generator of states."""

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4d.errors import InputError
from t4d.geometry.camera import Camera
from t4d.motion.arap import SUM_FORM, arap_loss, nearest_neighbours
from t4d.motion.asset import MotionAsset
from t4d.motion.field import MotionField
from t4d.motion.losses import reconstruction_loss
from t4d.splat.gaussians import Gaussians
from t4d.splat.rasterize import Backend
from t4d.splat.render import render_gaussians

ARAP_SAMPLES = 512
FINAL_RATE = 0.1  # the learning rates fall to this share of their start, by a cosine over the last half


@dataclass(frozen=True)
class FitState:
    """Where a fit stands after an iteration.

    Attributes:
        iteration: finished iterations, 1..total.
        total: of the whole fit.
        loss: of this iteration, weighted sum.
        terms: its unweighted terms: "color", "coverage" (L_rec, Eq. 10) and, where used, "arap".
        frames: the frames judged in this iteration.
        asset: the moving asset so far, always viewable. Its field is the living one: the next iteration changes it.
        optimizer: internal; `checkpoint` copies it.
    """

    iteration: int
    total: int
    loss: float
    terms: dict[str, float]
    frames: tuple[int, ...]
    asset: MotionAsset
    optimizer: torch.optim.Adam

    def checkpoint(self) -> dict[str, Tensor]:
        """A copy of all that `fit_motion` needs to go on from here (``resume``); plain tensors, fit for safetensors."""
        state = {f"field.{name}": value for name, value in self.asset.field.state_dict().items()}
        for name, parameter in self.asset.field.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                state[f"adam.{key}.{name}"] = value
        state["iteration"] = torch.tensor(self.iteration)
        return {name: value.detach().clone().contiguous() for name, value in state.items()}


def fit_motion(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    rgb: Tensor,  # [V, T, 3, H, W]
    mask: Tensor,  # [V, T, 1, H, W]
    *,
    iterations: int = 300,
    images_per_step: int = 16,
    space: tuple[int, int, int] = (100, 100, 100),
    time: int = 8,
    features: int = 16,
    levels: int = 5,
    lr_planes: float = 0.01,
    lr_heads: float = 3e-3,
    fine_rate: float = 0.5,
    lambda_rec: float = 100.0,
    lambda_arap: float = 0.2,
    progressive: float = 0.75,
    coarse: float = 0.4,
    seed: int = 0,
    backend: Backend = "auto",
    resume: Mapping[str, Tensor] | None = None,
) -> Generator[FitState, None, None]:
    """Fits offsets over time so that the Gaussians' renderings match the clip (Eq. 10), frames entering one by one.

    In the first `progressive` share of the iterations frame s enters after frame s - 1 and starts from the motion
    found so far; each step judges the newest frame and random earlier ones, later steps random frames of all. Frame 0
    is never judged: it is the static object. Only the field is trained. Closing the generator at any state leaves that
    state's asset usable. Equal arguments and thread count give equal bits on the CPU, resumed or not.

    Args:
        gaussians: the static object, no batch dimensions; never changed.
        cameras: V cameras of the clip's picture size.
        rgb: the clip, 0..1, view-major; frame 0 shows the static object.
        mask: where the object is, 0..1.
        iterations: optimisation steps.
        images_per_step: pictures per step: all V views of as many frames as fit, at least one frame.
        space, time, features, levels: of the Hex-plane (``HexPlane``).
        lr_planes, lr_heads: Adam's learning rates.
        fine_rate: learning rate of each finer level of the planes over that of the next coarser one, which keeps
            neighbouring Gaussians together; without effect at one level.
        lambda_rec: weight lambda_4 of L_rec and of its coverage term.
        lambda_arap: weight lambda_6 of ARAP in the sum form (``SUM_FORM``).
        progressive: share of the iterations in which frames enter.
        coarse: share of the iterations that compare pictures of half size, which sees further and costs less.
        seed: of the field's start and of the frames drawn.
        backend: of ``rasterize``.
        resume: a ``FitState.checkpoint()`` of the same fit.

    Yields:
        One FitState per iteration, from the first not yet done.

    Raises:
        InputError: clip, cameras and Gaussians do not fit each other, the clip has values that are not finite or has an
            empty mask in frame 0, or the checkpoint is of another fit.
    """
    _check(gaussians, cameras, rgb, mask, iterations, images_per_step)
    views, frames = rgb.shape[:2]
    gaussians = gaussians.detach()
    field = MotionField(gaussians.means, space, time, features, levels, seed)
    asset = MotionAsset(gaussians, field, frames)
    plane_groups = [
        {"params": field.hexplane.level(level), "lr": lr_planes * fine_rate ** (levels - 1 - level)}
        for level in range(levels)
    ]
    optimizer = torch.optim.Adam([*plane_groups, {"params": list(field.heads.parameters()), "lr": lr_heads}], eps=1e-15)
    rates = [group["lr"] for group in optimizer.param_groups]
    done = 0 if resume is None else _restore(field, optimizer, resume, iterations)
    neighbours = nearest_neighbours(gaussians.means) if lambda_arap else None
    sharp = (list(cameras), rgb, mask)
    blurred = _half_size(*sharp)
    entered = max(1, round(progressive * iterations))

    for iteration in range(done, iterations):
        # One generator per iteration: a resumed fit draws what the uninterrupted one would have drawn.
        generator = torch.Generator().manual_seed(seed * 1_000_003 + iteration)
        newest = min(frames - 1, 1 + iteration * (frames - 1) // entered)  # the inverse of `_entry`
        chosen = _choose_frames(newest, iteration < entered, max(1, images_per_step // views), generator)
        if iteration == _entry(newest, frames, entered):
            last, needed = (-(-frame * (time - 1) // (frames - 1)) for frame in (newest - 1, newest))
            if needed > last:  # the newest frame reads a time sample that no earlier frame has trained
                field.hexplane.hold_time(last)
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate * _decay(iteration / iterations)

        views_cameras, target, inside = blurred if iteration < coarse * iterations else sharp
        moved = asset.batch(torch.tensor(chosen, dtype=torch.float32))
        rendered = render_gaussians(moved, views_cameras, background=0.0, backend=backend)  # [F, V, 4, H, W]
        color, coverage = reconstruction_loss(
            rendered, target[:, chosen].transpose(0, 1), inside[:, chosen].transpose(0, 1)
        )
        terms = {"color": color, "coverage": coverage}
        loss = lambda_rec * (color + coverage)
        if neighbours is not None:
            drawn = torch.randint(len(gaussians), (ARAP_SAMPLES,), generator=generator).to(gaussians.means.device)
            terms["arap"] = arap_loss(gaussians.means, moved.means, neighbours, drawn)
            loss = loss + lambda_arap * SUM_FORM * terms["arap"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values = {name: float(term.detach()) for name, term in terms.items()}
        yield FitState(iteration + 1, iterations, float(loss.detach()), values, tuple(chosen), asset, optimizer)


def _entry(frame: int, frames: int, entered: int) -> int:
    """The iteration in which a frame enters, of `entered` iterations shared among frames 1..T-1."""
    return -(-(frame - 1) * entered // (frames - 1))


def _choose_frames(newest: int, entering: bool, count: int, generator: torch.Generator) -> list[int]:
    """Distinct frames in 1..newest, ascending; the newest is among them while frames are entering."""
    order = (torch.randperm(newest, generator=generator) + 1).tolist()
    if entering:
        order.remove(newest)
        order.insert(0, newest)
    return sorted(order[:count])


def _decay(progress: float) -> float:
    late = max(0.0, 2 * progress - 1)
    return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * late)) / 2


def _half_size(cameras: list[Camera], rgb: Tensor, mask: Tensor) -> tuple[list[Camera], Tensor, Tensor]:
    """The clip at half its picture size; colour is averaged inside the mask only."""
    height, width = rgb.shape[-2:]
    size = (max(1, height // 2), max(1, width // 2))
    weight = interpolate(mask.flatten(0, 1), size, mode="area")
    color = interpolate((rgb * mask).flatten(0, 1), size, mode="area") / weight.clamp(min=1e-6)
    lead = rgb.shape[:2]
    return [camera.resized(size[1], size[0]) for camera in cameras], color.unflatten(0, lead), weight.unflatten(0, lead)


def _restore(field: MotionField, optimizer: torch.optim.Adam, state: Mapping[str, Tensor], iterations: int) -> int:
    """Puts a checkpoint into field and optimiser; returns the finished iterations."""
    try:
        done = int(state["iteration"])
        field.load_state_dict({k.removeprefix("field."): v for k, v in state.items() if k.startswith("field.")})
        for name, parameter in field.named_parameters():
            moments = {key: state[f"adam.{key}.{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")}
            if moments["exp_avg"].shape != parameter.shape:
                raise ValueError(f"{name} has another shape")
            optimizer.state[parameter] = moments
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"The checkpoint belongs to another fit ({reason}); remove it and start again.") from error
    if not 0 < done <= iterations:
        raise InputError(
            f"The checkpoint stands at iteration {done} of a fit of {iterations}; remove it and start again."
        )
    return done


def _check(
    gaussians: Gaussians, cameras: Sequence[Camera], rgb: Tensor, mask: Tensor, iterations: int, images: int
) -> None:
    if rgb.dim() != 5 or rgb.shape[2] != 3 or mask.shape != (*rgb.shape[:2], 1, *rgb.shape[3:]):
        raise InputError(
            f"The clip has colours {list(rgb.shape)} and masks {list(mask.shape)}; "
            "expected [views, frames, 3, height, width] and the same with 1 channel."
        )
    views, frames, _, height, width = rgb.shape
    if frames < 2:
        raise InputError(f"The clip has {frames} frame; at least 2 are needed to fit a motion.")
    if len(cameras) != views or any((camera.width, camera.height) != (width, height) for camera in cameras):
        sizes = sorted({f"{camera.width}x{camera.height}" for camera in cameras})
        raise InputError(
            f"The clip has {views} views of {width}x{height} pixels but there are {len(cameras)} cameras of "
            f"{', '.join(sizes)}; give one camera per view with the clip's size."
        )
    for name, tensor in (("colours", rgb), ("masks", mask)):
        if not bool(torch.isfinite(tensor).all()):
            bad = (~torch.isfinite(tensor)).nonzero()[0].tolist()
            raise InputError(f"The clip's {name} are not finite in view {bad[0]}, frame {bad[1]}; render it again.")
    if not bool((mask[:, 0] > 0.5).any()):
        raise InputError("The clip's mask is empty in frame 0; expected the static object there, so check the masks.")
    if gaussians.means.dim() != 2:
        raise InputError(f"The object has Gaussians of shape {list(gaussians.means.shape)}; expected one set [N, 3].")
    if iterations < 1 or images < 1:
        raise InputError(
            f"A fit of {iterations} iterations and {images} images was asked for; both must be at least 1."
        )
