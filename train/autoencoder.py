"""Trains mini's reference-conditioned autoencoder from exact flow, coverage and colour of rendered clips.

    accelerate launch train/autoencoder.py --config train/configs/mini_autoencoder.yaml --out FOLDER [key=value ...]

Flow and coverage come first, colour is ramped in, and colour added where warping frame 0 explains the pixel costs
extra: the latent is to carry motion. Calling it again with the same folder continues an unfinished run.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # launched as a file, the program's own folder stands there

from train.launch import start_processes

if __name__ == "__main__":
    start_processes()

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from t4d.data.dataset import warp
from t4d.diffusion.autoencoders.reference import GREY, ReferenceAutoencoder, warp_reference
from t4d.errors import InputError
from t4d.export.contact_sheet import write_contact_sheet
from train.checkpoint import Checkpoints
from train.config import AutoencoderConfig, arguments, load_config
from train.measure import Means
from train.order import Order
from train.runs import Ema, Every, RunLog, agreed, batches, generator
from train.sources import rendered_or_stored


class Objective(nn.Module):
    """The autoencoder with its loss."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.autoencoder = ReferenceAutoencoder(**config.model)

    def forward(self, batch: dict[str, Tensor], noise: Tensor, ramp: float) -> dict[str, Tensor]:
        """Losses of frames drawn from clips.

        Args:
            batch: "reference" [M, 4, H, W], "frames" [M, R, 4, H, W], "flow" [M, R, 2, h, w], "valid" [M, R, 1, h, w].
            noise: [M * R, C, 8, 8] standard normal.
            ramp: 0..1, how far the colour term has come in.
        """
        c = self.config
        reference, frames = batch["reference"], batch["frames"].flatten(0, 1)
        repeat = batch["frames"].shape[1]
        valid, flow = batch["valid"].flatten(0, 1), batch["flow"].flatten(0, 1)
        alpha = frames[:, 3:]
        exact = self.autoencoder.latents_of_flow(flow, F.avg_pool2d(alpha, alpha.shape[-1] // flow.shape[-1]))
        estimated = self.autoencoder.latents(frames, reference, repeat)
        # off the object the exact latent is zero and means nothing: object cells count ten times as much
        weight = 0.1 + 0.9 * (exact != 0)
        latent_loss = (F.smooth_l1_loss(estimated, exact, reduction="none") * weight).mean()
        # the decoder learns from exact latents; noise stands for what a denoiser or the encoder leaves wrong
        decoded = self.autoencoder.decode_parts(exact + c.latent_noise * noise, reference, repeat)
        out = warp_reference(reference.repeat_interleave(repeat, 0), decoded)

        shrunk = F.avg_pool2d(decoded.flow, decoded.flow.shape[-1] // flow.shape[-1])
        error = ((shrunk - flow).square().sum(1, keepdim=True) + 1e-6).sqrt()
        # a step of a few cells matters as much on a thin limb as on a trunk: every valid cell counts the same
        flow_loss = (error * valid).sum() / valid.sum().clamp_min(1)
        alpha_loss = (out[:, 3:] - alpha).abs().mean()
        inside = 0.2 + alpha
        color_loss = ((out[:, :3] - frames[:, :3]).abs() * inside).mean()
        known = F.interpolate(valid, size=decoded.color.shape[-2:], mode="nearest")
        residual = (decoded.color.abs().mean(1, keepdim=True) * known).mean()
        total = c.flow_weight * flow_loss + c.alpha_weight * alpha_loss + ramp * c.color_weight * color_loss
        total = total + c.residual_weight * residual + c.latent_weight * latent_loss
        parts = {
            "flow": flow_loss,
            "alpha": alpha_loss,
            "color": color_loss,
            "residual": residual,
            "latent": latent_loss,
        }
        return {"loss": total, **{n: t.detach() for n, t in parts.items()}}


def draw(batch: dict[str, Tensor], config: AutoencoderConfig, g: torch.Generator) -> dict[str, Tensor]:
    """Some views and frames of every clip; the same ones for all clips of a step."""
    _, v, t = batch["rgba"].shape[:3]
    views = torch.randperm(v, generator=g)[: config.views_per_clip]
    frames = 1 + torch.randperm(t - 1, generator=g)[: config.frames_per_view]

    def pick(x: Tensor) -> Tensor:
        return x[:, views][:, :, frames].flatten(0, 1)

    rgba = batch["rgba"]
    return {
        "reference": rgba[:, views, 0].flatten(0, 1),
        "frames": pick(rgba),
        "flow": pick(batch["flow"]),
        "valid": pick(batch["flow_valid"]),
    }


def step_indices(start: int, stop: int, batch: int, rank: int, world: int) -> Iterator[list[int]]:
    """Clips of every step from `start`."""
    for step in range(start, stop):
        first = (step * world + rank) * batch
        yield list(range(first, first + batch))


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in 0..1, dB."""
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-10)))


@torch.no_grad()
def measure(autoencoder: ReferenceAutoencoder, clips: list[dict[str, Tensor]]) -> tuple[dict[str, float], list[Tensor]]:
    """PSNR of decoded exact latents against truth, beside copying frame 0, true flow and encoded pictures; sheet rows.

    "latent_error" is the encoder's squared error over the latents' power (1: no better than zero).
    """
    names = ("psnr", "psnr_copy", "psnr_true_flow", "psnr_in_mask", "psnr_copy_in_mask", "alpha_iou", "frame0")
    names += ("psnr_encoded", "latent_error")
    sums, rows = dict.fromkeys(names, 0.0), []
    for clip in clips:
        rgba = clip["rgba"][None]
        z, flow0 = autoencoder.encode(rgba), clip["flow"]
        cover = F.avg_pool2d(clip["rgba"][:, :, 3:].flatten(0, 1), rgba.shape[-1] // flow0.shape[-1])
        exact = autoencoder.latents_of_flow(flow0.flatten(0, 1), cover).view_as(z)
        error = float((z - exact).square().mean() / exact.square().mean().clamp_min(1e-6))
        coded = autoencoder.decode(z, rgba[:, :, 0])[0, :, 1:]
        out = autoencoder.decode(exact, rgba[:, :, 0])
        truth, copy = rgba[0, :, 1:], rgba[0, :, :1].expand_as(rgba[0, :, 1:])
        made, flow = out[0, :, 1:], clip["flow"][:, 1:].flatten(0, 1)
        warped = warp(copy.flatten(0, 1), flow).view_as(truth)
        mask = (truth[:, :, 3:] + copy[:, :, 3:] > 0.5).expand_as(truth[:, :, :3])
        hard, real = made[:, :, 3] > 0.5, truth[:, :, 3] > 0.5
        values = (
            psnr(made[:, :, :3], truth[:, :, :3]),
            psnr(copy[:, :, :3], truth[:, :, :3]),
            psnr(warped[:, :, :3], truth[:, :, :3]),
            psnr(made[:, :, :3][mask], truth[:, :, :3][mask]),
            psnr(copy[:, :, :3][mask], truth[:, :, :3][mask]),
            float((hard & real).sum() / (hard | real).sum().clamp_min(1)),
            psnr(out[0, :, 0], rgba[0, :, 0]),
            psnr(coded[:, :, :3], truth[:, :, :3]),
            error,
        )
        for name, value in zip(names, values):
            sums[name] += value / len(clips)
        rows += [rgba[0, 0, ::2, :3], out[0, 0, ::2, :3], GREY + 0 * out[0, 0, ::2, :3] + out[0, 0, ::2, 3:] * 0.5]
    return {n: round(s, 3) for n, s in sums.items()}, rows


def main() -> None:
    args = arguments(__doc__).parse_intermixed_args()
    try:
        train(load_config(AutoencoderConfig, args.config, args.overrides), args.out, args.resume, args.max_minutes)
    except InputError as error:
        sys.exit(f"error: {error}")


def train(config: AutoencoderConfig, out: Path | None, resume: str, max_minutes: float) -> None:
    """One run, from its start or a checkpoint to its last step or the time limit; arguments as of Stage One.

    Raises:
        InputError: A setting, file or value cannot be used.
    """
    out = out or config.out
    if out is None or config.optim.steps is None:
        raise InputError("Set --out FOLDER, and optim.steps (this program knows no epochs).")
    accelerator = Accelerator()
    set_seed(config.seed)
    objective = Objective(config)
    objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    o = config.optim
    assert o.steps is not None
    optimiser = torch.optim.AdamW(objective.parameters(), lr=o.lr, weight_decay=o.weight_decay)
    ema = Ema(objective, o.ema)
    wrapped, optimiser = accelerator.prepare(objective, optimiser)
    checkpoints = Checkpoints(out, accelerator, objective, ema, optimiser, config.checkpoints_kept)
    start = checkpoints.resume(resume)
    rank, world, main_process = accelerator.process_index, accelerator.num_processes, accelerator.is_main_process
    log = RunLog(out, "autoencoder", config, start, {"processes": world}, main_process)
    means = Means(accelerator.device)
    data, count = rendered_or_stored(config.data, config.seed, accelerator.device)
    order = Order(config.seed, count, config.data.shuffle)
    save_now, sheet_now, began = Every(config.save_minutes), Every(config.sheet_minutes), time.time()

    # clips that training never reaches: the far end of the endless data
    rendered = config.data.model_copy(update={"cache": None, "shards": None, "clips": 0, "renderer": "cpu"})
    source, _ = rendered_or_stored(rendered, config.seed)
    held_out = [{n: t for n, t in source[900_000 + i].items() if isinstance(t, Tensor)} for i in range(12)]

    def finish(step: int) -> None:
        checkpoints.save(step)
        if not main_process:
            return
        averaged = ReferenceAutoencoder(**config.model)
        prefix = "autoencoder."
        averaged.load_state_dict({n[len(prefix) :]: t for n, t in ema.state(objective).items()})
        averaged.save_pretrained(out / "autoencoder")
        result, rows = measure(averaged, held_out)
        log.write(step, result)
        write_contact_sheet(out / "sheet.png", torch.stack(rows).clamp(0, 1))

    step, places = start - 1, step_indices(start, o.steps, o.batch, rank, world)
    places = ([order.clip(place) for place in each] for each in places)
    for step, batch in enumerate(batches(data, places, config.data.workers), start):
        g = generator(config.seed, step, rank)
        chosen = {n: t.to(accelerator.device) for n, t in draw(batch, config, g).items()}
        count = chosen["frames"].shape[0] * chosen["frames"].shape[1]
        shape = (count, objective.autoencoder.latent_channels, *[objective.autoencoder.working_side // 8] * 2)
        noise = torch.randn(shape, generator=g).to(accelerator.device)
        for group in optimiser.param_groups:
            group["lr"] = o.lr_at(step)
        losses = wrapped(chosen, noise, min(step / max(config.color_ramp * o.steps, 1), 1.0))
        accelerator.backward(losses["loss"])
        norm = cast(Tensor, accelerator.clip_grad_norm_(objective.parameters(), o.clip_norm))
        if not torch.isfinite(losses["loss"]):
            raise InputError(f"The loss of step {step} is not finite; lower optim.lr and start from the checkpoint.")
        if not torch.isfinite(norm):
            raise InputError(
                f"The gradient of step {step} is not finite; lower optim.lr and start from the checkpoint."
            )
        optimiser.step()
        optimiser.zero_grad()
        ema.update(objective, step)
        means.add(**{n: t / world for n, t in losses.items()}, grad_norm=norm / world)
        means.step(**dict.fromkeys([*losses, "grad_norm"], True))
        log.count(o.batch * world)
        if (step + 1) % config.log_steps == 0:
            log.write(step + 1, {**means.take(accelerator), "lr": o.lr_at(step)})
        late, due = agreed(accelerator, (time.time() - began) / 60 > max_minutes, sheet_now() or save_now())
        if due:
            finish(step + 1)
        if late:
            break
    finish(step + 1)


if __name__ == "__main__":
    main()
