"""Trains mini's motion mean: the expected clip of an object and a sentence, before the denoiser trains on noise.

    accelerate launch train/motion_mean.py --config train/configs/motion_mean.yaml --out FOLDER [key=value ...]

The loss is Stage One's L_diff of the motion mean alone, which no noise enters: the weighted squared error of its
latents. Clips come from a pool that is rendered first (`pool`, about .05 CPU-s a clip) and gone through again and
again, in other colours and turned. Where there are rigs, held-out clips of the near and far splits are judged at every
checkpoint: squared error over that of standing still. FOLDER/model is the model with its averaged motion mean,
FOLDER/motion_mean that alone; Stage One goes on from either (`weights` or `motion_mean`). Calling it again with the
same folder continues an unfinished run.
"""

import json
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # launched as a file, the program's own folder stands there

from train.launch import start_processes

if __name__ == "__main__":
    start_processes()

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch import Tensor, nn

from t4d.diffusion.interfaces import ClipAutoencoder, TextEncoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.motion_mean import MotionMean
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import load_module, save_module
from t4d.errors import InputError
from train.checkpoint import Checkpoints, replace_folder
from train.config import MotionMeanConfig, arguments, load_config
from train.mean_batch import MeanBatch, drawn, whole
from train.measure import Means
from train.networks import SIZES, give_motion_mean
from train.objective import clip_weights
from train.optimisers import Optimisers
from train.pool import LatentPool
from train.runs import Ema, Every, RunLog, agreed, generator
from train.sources import rendered


class Objective(nn.Module):
    """The motion mean with its loss; the words' encoder is not trained.

    Args:
        model: With a motion mean.
        balance: See `train.objective.clip_weights`.
    """

    def __init__(self, model: VideoModel, balance: float):
        super().__init__()
        self.mean = cast(MotionMean, cast(MultiViewMotionUNet, model.unet).expected_motion).requires_grad_(True)
        self.model, self.balance = [model], balance  # in a list: its other networks are no part of this module

    def forward(self, batch: MeanBatch) -> dict[str, Tensor]:
        """Means over the batch: "diff", and "copy" of predicting no motion; "error" and "still" of every clip, [B]."""
        model, z = self.model[0], batch.latents
        with torch.no_grad():
            text, pooled = cast(TextEncoder, model.text_encoder).encode(batch.captions)
            appearance = cast(Tensor, cast(ClipAutoencoder, model.autoencoder).condition(batch.references))
        found, _ = self.mean(appearance, text, batch.cameras, pooled, z.shape[2])
        still = z[:, :, 1:].square().flatten(1).mean(1)
        error = (found[:, :, 1:].float() - z[:, :, 1:]).square().flatten(1).mean(1)
        weight = clip_weights(z, self.balance)
        weight = torch.ones_like(error) if weight is None else weight
        return {"diff": (error * weight).mean(), "copy": (still * weight).mean(), "error": error, "still": still}


def main() -> None:
    args = arguments(__doc__).parse_intermixed_args()
    try:
        train(load_config(MotionMeanConfig, args.config, args.overrides), args.out, args.resume, args.max_minutes)
    except InputError as error:
        sys.exit(f"error: {error}")


def train(config: MotionMeanConfig, out: Path | None, resume: str, max_minutes: float) -> None:
    """One run, from its start or a checkpoint to its last step or the time limit; arguments as of Stage One.

    Raises:
        InputError: A setting, file or value cannot be used.
    """
    out, o = out or config.out, config.optim
    if out is None or o.steps is None:
        raise InputError("Set --out FOLDER, and optim.steps (this program knows no epochs).")
    if config.data.cache or config.data.shards or config.data.renderer == "device":
        raise InputError(
            "The motion mean learns from a pool that it renders itself; unset data.cache, shards, renderer."
        )
    plain = MotionMeanConfig.model_fields["sheet_minutes"].default
    if o.accumulate != 1 or o.gradient_checkpointing or config.trackers or config.sheet_minutes != plain:
        raise InputError(
            "optim.accumulate, optim.gradient_checkpointing, trackers or sheet_minutes is set, which this program does "
            "not have: its network is small and draws no sheets; remove it."
        )
    accelerator = Accelerator()
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise InputError("The motion mean is small and is not sharded; launch without FSDP and DeepSpeed.")
    if accelerator.scaler is not None:
        raise InputError("fp16 needs scaled gradients, which this program does not do; use bf16 or no mixed precision.")
    rank, world = accelerator.process_index, accelerator.num_processes
    set_seed(config.seed)
    model = VideoModel.load(config.weights)
    known = cast(MotionMean | None, cast(MultiViewMotionUNet, model.unet).expected_motion)
    if config.motion_mean is not None or known is None:
        start = None if config.motion_mean is None else load_module(MotionMean, config.motion_mean)
        give_motion_mean(model, config.model if start is None else start)
    elif (sizes := {name: known.config[name] for name in SIZES}) != {**sizes, **config.model}:
        raise InputError(
            f"The motion mean of {config.weights} has {sizes} and model is {config.model}; set model to these to train "
            "it further, or name weights without one."
        )
    objective = Objective(model, config.balance)
    if config.data.frames > objective.mean.frames:
        raise InputError(
            f"Clips have {config.data.frames} frames and the motion mean {objective.mean.frames}; set data.frames or "
            "model.frames."
        )
    if config.pool_clips % config.pool_shard:
        raise InputError(
            f"pool_clips is {config.pool_clips}, which is no multiple of pool_shard, {config.pool_shard}; a pool holds "
            "whole files."
        )
    base = model.sha256
    model.label = config.label
    for part in model.parts.values():
        part.requires_grad_(False)
    objective.requires_grad_(True)

    # clips
    frozen = cast(nn.Module, model.autoencoder)
    total = config.pool_clips // config.pool_shard
    source, mine = rendered(config.data, config.seed), range(rank, total, world)
    pool = LatentPool(config.pool, source, recipe(config), frozen, mine, config.pool_shard, quiet=rank > 0)
    judged = held_out(config, frozen) if accelerator.is_main_process else {}

    # optimiser and averages
    model.to(accelerator.device)
    wrapped = accelerator.prepare(objective)
    optimisers = Optimisers(objective, "blocks.", o.weight_decay, config.adam_lr)
    ema = Ema(objective, o.ema)
    # the checkpoint holds the mean alone: another base would read other words
    identity = {"seed": config.seed, "clips": config.pool_clips, "clips per step": o.batch * world, "base": base}
    kept = config.checkpoints_kept
    checkpoints = Checkpoints(out, accelerator, objective, ema, cast(Any, optimisers), kept, identity)
    start = checkpoints.resume(resume)
    facts = {"processes": world, "parameters": sum(p.numel() for p in objective.parameters())}
    log = RunLog(out, "motion_mean", config, start, facts, accelerator.is_main_process)

    def finish(step: int) -> None:
        checkpoints.save(step)
        with ema.applied(objective):
            if accelerator.is_main_process:
                log.write(step, {name: round(judge(objective, held), 4) for name, held in judged.items()})
                model.meta.update(motion_mean_steps=step)
                model.save(out / "model.part")
                replace_folder(out / "model.part", out / "model")
                save_module(objective.mean, out / "motion_mean.part")
                replace_folder(out / "motion_mean.part", out / "motion_mean")
        accelerator.wait_for_everyone()

    means, save_now, began = Means(accelerator.device), Every(config.save_minutes), time.time()
    step, late = start, False
    while step < o.steps and not late:
        batch = drawn(pool, config, generator(config.seed, step, rank)).to(accelerator.device)
        with accelerator.autocast():
            terms = wrapped(batch)
        if not torch.isfinite(terms["diff"]):
            raise InputError(f"The loss of step {step} is not finite; resume with a lower optim.lr.")
        accelerator.backward(terms["diff"])
        norm = cast(Tensor, accelerator.clip_grad_norm_(objective.parameters(), o.clip_norm))
        optimisers.step(o.lr_at(step))
        ema.update(objective, step)
        step += 1
        means.add(diff=terms["diff"] / world, copy=terms["copy"] / world, grad_norm=norm / world)
        means.step(diff=True, copy=True, grad_norm=True)
        log.count(o.batch * world)
        if step % config.log_steps == 0 or step == o.steps:
            log.write(step, {**means.take(accelerator), "lr": o.lr_at(step - 1)})
        late, save = agreed(accelerator, (time.time() - began) / 60 > max_minutes, save_now())
        if save or (config.save_steps and step % config.save_steps == 0):
            finish(step)
    finish(step)
    accelerator.end_training()


def recipe(config: MotionMeanConfig, **changes: Any) -> dict[str, Any]:
    """What decides which clips a pool holds; where they are kept and how fast they are made does not."""
    elsewhere = {"workers", "clips", "shuffle", "rigs", "grid", "renderer", "cache", "shards"}
    folder, rigs = config.data.rigs, ""
    if folder is not None:
        files = sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.is_file())
        rigs = sha256(json.dumps(files).encode()).hexdigest()[:16]
    data = {**config.data.model_dump(mode="json", exclude=elsewhere), "rigs": rigs, **changes}
    return {"data": data, "seed": config.seed}


def held_out(config: MotionMeanConfig, autoencoder: nn.Module) -> dict[str, LatentPool]:
    """Clips of rigs that training never sees, by split and start; none without rigs."""
    data, found = config.data, {}
    if data.rigs is None or not config.held_out:
        return {}
    for split in ("near", "far"):
        for start, rest in (("rest", 1.0), ("middle", 0.0)):
            changes: dict[str, Any] = {"split": split, "rest_fraction": rest, "procedural_fraction": 0.0}
            source = rendered(data, config.seed, **changes)
            made_of = recipe(config, **changes)
            folder = config.pool / f"{split}_{start}"
            found[f"{split}_{start}"] = LatentPool(folder, source, made_of, autoencoder, [0], config.held_out)
    return found


@torch.no_grad()
def judge(objective: Objective, pool: LatentPool, at_once: int = 16) -> float:
    """Squared error of the motion mean over that of standing still, over all clips of a pool."""
    error, still = 0.0, 0.0
    for begin in range(0, len(pool), at_once):
        batch = whole(pool, range(begin, min(begin + at_once, len(pool)))).to(next(objective.parameters()).device)
        terms = objective(batch)
        error, still = error + float(terms["error"].sum()), still + float(terms["still"].sum())
    return error / max(still, 1e-12)


if __name__ == "__main__":
    main()
