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
from typing import cast

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # launched as a file, the program's own folder stands there

from train.launch import start_processes

if __name__ == "__main__":
    start_processes()

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from t4d.errors import InputError
from t4d.tracking.losses import track_counts
from train.checkpoint import SHARDED, Checkpoints
from train.config import StageOneTrainConfig, arguments, load_config
from train.draws import Drawn, draw, noised
from train.measure import Means, TermNorms
from train.networks import build
from train.objective import Objective
from train.order import Order, micro_batches, positions, stage_at, with_steps
from train.runs import Ema, Every, RunLog, agreed, batches, clips
from train.sheets import write_sheet


def main() -> None:
    args = arguments(__doc__)
    try:
        train(load_config(StageOneTrainConfig, args.config, args.overrides), args.out, args.resume, args.max_minutes)
    except InputError as error:
        sys.exit(f"error: {error}")


def train(config: StageOneTrainConfig, out: Path | None, resume: str, max_minutes: float) -> None:
    """One run, from its start or its latest checkpoint to its last step or the time limit."""
    out = out or config.out
    if out is None:
        raise InputError("No run folder is set; give --out FOLDER or out=FOLDER.")
    accelerator = Accelerator(gradient_accumulation_steps=config.optim.accumulate)
    set_seed(config.seed)  # initial weights
    rank, world = accelerator.process_index, accelerator.num_processes

    data, count = clips(config.data, config.seed)
    config = with_steps(config, count, world)
    o = config.optim
    assert o.steps is not None

    model = build(config)
    objective = Objective(model, config)
    trained = list(objective.trained.values())
    optimiser = torch.optim.AdamW(trained, lr=o.lr, weight_decay=o.weight_decay)
    ema = Ema(objective, o.ema)
    wrapped, optimiser = accelerator.prepare(objective, optimiser)
    cast(nn.Module, model.autoencoder).to(accelerator.device).requires_grad_(False)

    identity = {"seed": config.seed, "clips": count, "clips per step": o.batch * world * o.accumulate}
    checkpoints = Checkpoints(out, accelerator, objective, ema, optimiser, config.checkpoints_kept, identity)
    start = checkpoints.resume(resume)
    order = Order(config.seed, count, config.data.shuffle)
    loader = batches(data, micro_batches(start, config, order, rank, world), config.data.workers)
    facts = {"processes": world, "parameters": sum(p.numel() for p in trained)}
    log = RunLog(out, "stage1", config, start, facts, accelerator.is_main_process)
    means = Means(accelerator.device)
    save_now, sheet_now, began = Every(config.save_minutes), Every(config.sheet_minutes), time.time()

    def ship(step: int, sheet: bool) -> None:
        """Checkpoint, and the averaged weights as a model."""
        checkpoints.save(step)
        if accelerator.is_main_process:
            ema.swap(objective)
            model.meta.update(steps=step, seed=config.seed, shared_noise=config.shared_noise)
            model.save(out / "model")
            if sheet:
                objective.eval()
                write_sheet(model, config, out / f"sheet_{step:06d}.png")
                objective.train()
            ema.swap(objective)
        accelerator.wait_for_everyone()

    step = start
    objective.train()
    while step < o.steps:
        # the whole step's clips first: what the tracking losses are divided by is counted over all of them
        stage = stage_at(step, config)
        micro = [
            draw(
                next(loader), stage, config, step, positions(m, stage.batch, rank, world), len(objective.alphas_cumprod)
            )
            for m in range(o.accumulate)
        ]
        corr_count, pos_count = accelerator.reduce(term_counts(micro, config).to(accelerator.device), "sum").tolist()
        totals = {"diff": stage.batch * world * o.accumulate, "corr": max(corr_count, 1), "pos": max(pos_count, 1)}
        weights = {
            "diff": config.tracking.lambda_diff,
            "corr": config.tracking.lambda_corr,
            "pos": config.tracking.lambda_pos,
        }

        logs = (step + 1) % config.log_steps == 0
        norms = TermNorms([] if accelerator.distributed_type in SHARDED else trained)
        for group in optimiser.param_groups:
            group["lr"] = o.lr_at(step)
        norm: Tensor | None = None
        for drawn in micro:
            with accelerator.accumulate(wrapped):
                with accelerator.autocast():
                    batch = noised(drawn, model.autoencoder, objective.alphas_cumprod, config, accelerator.device)
                sums = wrapped(batch)
                terms = {name: value / totals[name] for name, value in sums.items()}
                loss = sum(
                    (weights[name] * term for name, term in terms.items()), torch.zeros((), device=batch.z.device)
                )
                if not torch.isfinite(loss):
                    raise InputError(f"The loss of step {step} is not finite; lower optim.lr and resume.")
                if logs:
                    assert objective.tapped is not None
                    norms.add(terms, objective.tapped)
                # gradients are averaged over processes and micro-steps, and the shares are to be added
                accelerator.backward(loss * (world * o.accumulate))
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(trained, o.clip_norm)
                optimiser.step()
                optimiser.zero_grad()
            for name, value in {**terms, "loss": loss}.items():
                means.add(name, value)
            # the loss of predicting no motion, for a network of x0
            means.add("copy", batch.z[:, :, 1:].square().mean() * len(batch.z) / totals["diff"])
        ema.update(objective, step)
        step += 1
        means.step(loss=True, diff=True, copy=True, corr=corr_count > 0, pos=pos_count > 0)
        log.count(totals["diff"])
        if logs:
            values = {**means.take(accelerator), **norms.take(accelerator)}
            log.write(step, {**values, "grad_norm": float(norm), "lr": o.lr_at(step - 1)})
        late, save, sheet = agreed(accelerator, (time.time() - began) / 60 > max_minutes, save_now(), sheet_now())
        if save or sheet or (config.save_steps and step % config.save_steps == 0):
            ship(step, sheet)
        if late:
            break
    ship(step, True)
    accelerator.end_training()


def term_counts(micro: list[Drawn], config: StageOneTrainConfig) -> Tensor:
    """Terms of L_corr and L_pos in a process's clips of one step, [2]."""
    points = [drawn.points for drawn in micro if drawn.points is not None]
    counts = [torch.stack(track_counts(p.visible, p.chosen, config.tracking.masked)) for p in points]
    return torch.stack(counts).sum(0).double() if counts else torch.zeros(2, dtype=torch.float64)


if __name__ == "__main__":
    main()
