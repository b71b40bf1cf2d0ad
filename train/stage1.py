"""Stage One: trains the multi-view video denoiser with L_diff (Eq. 1-3), L_corr (Eq. 4) and L_pos (Eq. 5).

    accelerate launch train/stage1.py --config train/configs/mini.yaml --out FOLDER [key=value ...]

Writes log.jsonl, config.yaml, run.json, checkpoints, contact sheets and, under FOLDER/model, the averaged weights as a
`VideoModel`. Calling it again with the same folder continues an unfinished run; data, noise and points depend on
(seed, step, place in the global batch) only, so that the result is the one of an uninterrupted run, and the same for
one process and for several.
"""

import sys
import time
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

from t4d.data.latents import autoencoder_digest
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.errors import InputError
from t4d.tracking.losses import track_counts
from train.checkpoint import Checkpoints
from train.config import StageOneTrainConfig, arguments, load_config
from train.curves import check_trackers, start_curves
from train.draws import Drawn, draw, noised
from train.fork import Fork
from train.measure import Means, TermNorms
from train.networks import build
from train.objective import Objective, clip_weights
from train.order import Order, micro_batches, positions, stage_at, with_steps
from train.runs import Ema, Every, RunLog, agreed, batches
from train.sharing import prepared
from train.shipping import Shipping
from train.sources import clips


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--fork", metavar="BASE", help="train a fork of this model: the same as fork=BASE")
    args = parser.parse_intermixed_args()
    overrides = [*args.overrides, *([f"fork={args.fork}"] if args.fork else [])]
    try:
        train(load_config(StageOneTrainConfig, args.config, overrides), args.out, args.resume, args.max_minutes)
    except InputError as error:
        sys.exit(f"error: {error}")


def train(config: StageOneTrainConfig, out: Path | None, resume: str, max_minutes: float) -> None:
    """One run, from its start or a checkpoint to its last step or the time limit.

    Args:
        config: The run's settings.
        out: Run folder; None: `config.out`.
        resume: See `Checkpoints.resume`.
        max_minutes: Stop after the step in which these have passed.

    Raises:
        InputError: A setting, file or value cannot be used.
    """
    out = out or config.out
    if out is None:
        raise InputError("No run folder is set; give --out FOLDER or out=FOLDER.")
    trackers = check_trackers(config)
    accelerator = Accelerator(
        gradient_accumulation_steps=config.optim.accumulate, log_with=trackers or None, project_dir=str(out)
    )
    rank, world = accelerator.process_index, accelerator.num_processes

    # networks
    set_seed(config.seed)  # of initial weights; everything else has keys of its own
    fork = Fork.start(config) if config.fork else None
    config = fork.config if fork else config
    model = fork.model if fork else build(config)
    if config.optim.gradient_checkpointing:
        cast(MultiViewMotionUNet, model.unet).enable_gradient_checkpointing()
    objective = Objective(model, config)
    frozen = cast(nn.Module, model.autoencoder).to(accelerator.device).requires_grad_(False)

    # data
    data, count = clips(config, frozen)
    config = with_steps(config, count, world)
    o, order = config.optim, Order(config.seed, count, config.data.shuffle)
    assert o.steps is not None

    # optimiser, averages, and where an earlier part of the run has come to
    shipping = Shipping(out, accelerator, model, fork, config)
    optimiser = torch.optim.AdamW(objective.trained.values(), lr=o.lr, weight_decay=o.weight_decay)
    wrapped, optimiser = prepared(accelerator, objective, optimiser, o)
    trained = list(objective.trained.values())
    ema = Ema(objective, o.ema)
    identity = {"seed": config.seed, "clips": count, "clips per step": o.batch * world * o.accumulate}
    identity |= {"autoencoder": autoencoder_digest(frozen)[:12], **({"base": model.sha256} if config.trainable else {})}
    checkpoints = Checkpoints(out, accelerator, objective, ema, optimiser, config.checkpoints_kept, identity)
    start = checkpoints.resume(resume)
    facts = {"processes": world, "parameters": sum(p.numel() for p in trained), "trained_tensors": len(trained)}
    log = RunLog(out, "stage1", config, start, facts, accelerator.is_main_process)
    start_curves(accelerator, config, out, start)

    means, times = Means(accelerator.device), len(objective.alphas_cumprod)
    weights = {"diff": config.tracking.lambda_diff, "corr": config.tracking.lambda_corr}
    weights |= {"pos": config.tracking.lambda_pos, "mean": config.mean_weight}
    save_now, sheet_now, began = Every(config.save_minutes), Every(config.sheet_minutes), time.time()
    loader = batches(data, micro_batches(start, config, order, rank, world), config.data.workers)
    objective.train()
    # DeepSpeed takes every differentiation for the step's backward pass, also that of one term
    whole_backward = accelerator.distributed_type == DistributedType.DEEPSPEED
    step, late = start, False
    while step < o.steps and not late:
        # the whole step's clips first: what the tracking losses are divided by is counted over all of them
        stage = stage_at(step, config)
        places = [positions(m, stage.batch, rank, world) for m in range(o.accumulate)]
        micro = [draw(next(loader), stage, config, step, at, times) for at in places]
        counts = accelerator.reduce(term_counts(micro, config).to(accelerator.device), "sum")
        corr_count, pos_count = cast(Tensor, counts).tolist()
        size = stage.batch * world * o.accumulate
        totals = {"diff": size, "mean": size, "corr": max(corr_count, 1), "pos": max(pos_count, 1)}

        for group in optimiser.param_groups:
            group["lr"] = o.lr_at(step)
        logs = (step + 1) % config.log_steps == 0 or step + 1 == o.steps
        norms = TermNorms([] if checkpoints.sharded else trained) if logs and not whole_backward else None
        norm: Any = None
        for drawn in micro:
            with accelerator.accumulate(wrapped):
                with accelerator.autocast():
                    batch = noised(drawn, model.autoencoder, objective.alphas_cumprod, config, accelerator.device)
                terms = {name: total / totals[name] for name, total in wrapped(batch).items()}
                loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
                if not torch.isfinite(loss):
                    raise InputError(f"The loss of step {step} is not finite; resume with a lower optim.lr.")
                if norms is not None:
                    norms.add(terms, objective.tapped)
                # gradients are averaged over processes and micro-steps, and these are shares to be added up
                accelerator.backward(loss * (world * o.accumulate))
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(trained, o.clip_norm)
                optimiser.step()
                optimiser.zero_grad()
            # beside them the loss of predicting no motion, for a network of x0
            still = batch.z[:, :, 1:].square().flatten(1).mean(1)
            weight = clip_weights(batch.z, config.balance)
            copy = (still if weight is None else still * weight).sum() / totals["diff"]
            means.add(**terms, loss=loss, copy=copy)
        ema.update(objective, step)
        step += 1
        means.step(loss=True, copy=True, diff=True, mean=config.mean_weight > 0, corr=corr_count > 0, pos=pos_count > 0)
        log.count(totals["diff"])
        if logs:
            pulls = norms.take(accelerator) if norms is not None else {}
            values = {**means.take(accelerator), **pulls, **plain(grad_norm=norm)}
            accelerator.log(log.write(step, {**values, "lr": o.lr_at(step - 1)}), step=step)
        late, save, sheet = agreed(accelerator, (time.time() - began) / 60 > max_minutes, save_now(), sheet_now())
        if save or sheet or (config.save_steps and step % config.save_steps == 0):
            checkpoints.save(step)
            shipping.send(step, wrapped, objective, ema, sheet)
    checkpoints.save(step)
    shipping.send(step, wrapped, objective, ema, True)
    accelerator.end_training()


def plain(**values: Any) -> dict[str, float]:
    """Numbers of tensors, also of split ones; DeepSpeed tells no norm before its first own step."""
    whole = {name: x.full_tensor() if hasattr(x, "full_tensor") else x for name, x in values.items() if x is not None}
    return {name: float(x) for name, x in whole.items()}


def term_counts(micro: list[Drawn], config: StageOneTrainConfig) -> Tensor:
    """Terms of L_corr and L_pos in a process's clips of one step, [2]."""
    points = [drawn.points for drawn in micro if drawn.points is not None]
    counts = [torch.stack(track_counts(p.visible, p.chosen, config.tracking.masked)) for p in points]
    return torch.stack(counts).sum(0).long() if counts else torch.zeros(2, dtype=torch.long)


if __name__ == "__main__":
    main()
