"""Training for so many minutes: learning rate and curriculum go by time, the batch grows while that pays."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from t4d.data.latents import autoencoder_digest
from t4d.diffusion.model import VideoModel
from t4d.errors import InputError
from t4d.export.contact_sheet import write_contact_sheet
from train.checkpoint import Checkpoints, replace_folder
from train.config import Curriculum
from train.networks import build
from train.objective import Objective
from train.order import stage_at
from train.runs import Ema, Every
from train.slot_batch import GrowingBatch
from train.slot_check import wait
from train.slot_clips import SlotClips
from train.slot_config import SlotConfig
from train.slot_draw import noised, still_loss
from train.slot_evaluate import HeldOut
from train.slot_log import append, cut_back, read_until
from train.slot_memory import PeakMemory


@dataclass
class Position:
    """How far a training has come.

    Attributes:
        step: Optimiser steps.
        seconds: Of training, over all calls.
        place: Clips trained on.
    """

    step: int = 0
    seconds: float = 0.0
    place: int = 0


@dataclass
class Interval:
    """What lies between two lines of the log.

    Attributes:
        since: Where it begins.
        totals: Sums of loss, of the loss of predicting no motion and of gradient norms, [3].
        began: `time.perf_counter` there.
    """

    since: Position
    totals: Tensor
    began: float = field(default_factory=time.perf_counter)


class SlotTraining:
    """Networks, optimiser and averages of a slot, continued from the run folder where it holds some.

    Args:
        config: See `SlotConfig`.
        out: Run folder.
        device: Where to train.
        total_seconds: Training time over all calls, to which lr and curriculum are stretched.
        kept: Called after weights and figures were written; hands them over.
        failed: Called with the name of a part that failed while its exception is handled; training goes on.

    Attributes:
        at: See `Position`.
        model: The networks.
        batches: Sizes of batch by stage.
        memory: See `PeakMemory`; anew with every size of clips and after evaluation.
        history: Figures on unseen clips, as they came.
    """

    def __init__(
        self,
        config: SlotConfig,
        out: Path,
        device: torch.device,
        total_seconds: float,
        kept: Callable[["SlotTraining"], None] = lambda _: None,
        failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.config, self.out, self.device, self.total = config, out, device, total_seconds
        self.kept, self.failed, self.memory = kept, failed, PeakMemory(device)
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        torch.set_float32_matmul_precision("high")
        self.model: VideoModel = build(config)
        frozen = cast(nn.Module, self.model.autoencoder)
        frozen.requires_grad_(False)
        self.objective = Objective(self.model, config).to(device)
        self.model.to(device)
        o = config.optim
        parameters = list(self.objective.trained.values())
        fused = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(parameters, lr=o.lr, weight_decay=o.weight_decay, fused=fused)
        self.ema = Ema(self.objective, o.ema)
        identity = {"seed": config.seed, "autoencoder": autoencoder_digest(frozen)[:12], "base": self.model.sha256}
        accelerator = Accelerator(cpu=device.type == "cpu")
        self.checkpoints = Checkpoints(out, accelerator, self.objective, self.ema, self.optimiser, 1, identity)
        self.at = self._continued(self.checkpoints.resume("latest"))
        self.held_out = HeldOut(config)
        self.batches: dict[str, GrowingBatch] = {}
        self.history: list[dict[str, Any]] = []

    def _continued(self, step: int) -> Position:
        """Where step `step` was; of what a killed call wrote after it nothing stays.

        Raises:
            InputError: position.jsonl does not tell.
        """
        positions = self.out / "position.jsonl"
        found = [row for row in read_until(positions, step) if row["step"] == step]
        if step and not found:
            raise InputError(f"{positions} does not tell when step {step} was; give another --out.")
        for path in (positions, self.out / "log.jsonl"):
            cut_back(path, step)  # later steps are made again
        return Position(**found[-1]) if step else Position()

    @property
    def progress(self) -> float:
        """0 at the start, 1 when the time is used."""
        return min(self.at.seconds / self.total, 1.0)

    @property
    def virtual_step(self) -> int:
        """Where the schedule stands."""
        assert self.config.optim.steps is not None
        return min(int(self.progress * self.config.optim.steps), self.config.optim.steps - 1)

    def batch_of(self, views: int, frames: int) -> GrowingBatch:
        """The growing batch of clips of this size."""
        s = self.config.slot
        name = f"{views}x{frames}"
        if name not in self.batches:
            self.batches[name] = GrowingBatch(s.batch, s.most, s.grow_while, s.trial_steps, s.warm_steps)
        return self.batches[name]

    def train(self, until: float) -> None:
        """Trains until a moment of `time.monotonic`, or until the schedule's end; keeps and evaluates on the way.

        What fails of keeping and evaluating beyond the checkpoint is recorded and does not end the training.

        Raises:
            InputError: The loss is not finite, or not even the smallest batch fits into memory.
        """
        s = self.config.slot
        clips = SlotClips(self.config, self.device, s.chunk, s.workers, self.at.place)
        log_now, keep_now = Every(s.log_seconds / 60), Every(s.sheet_seconds / 60)
        interval = Interval(self.at, torch.zeros(3, device=self.device))
        self.objective.train()
        stage = stage_at(self.virtual_step, self.config)
        size, kind = self.batch_of(stage.views, stage.frames).size, (0, 0)
        while self.progress < 1 and time.monotonic() < until:
            stage = stage_at(self.virtual_step, self.config)
            batch = self.batch_of(stage.views, stage.frames)
            if kind != (stage.views, stage.frames):
                kind = stage.views, stage.frames
                self.memory.begin()
            started, size = time.perf_counter(), batch.size
            try:
                interval.totals += self._step(clips, size, stage)
                if not batch.settled:
                    wait(self.device)
            except torch.cuda.OutOfMemoryError as error:
                self.optimiser.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                if not batch.too_large(s.chunk):
                    raise InputError(f"A batch of {size} clips does not fit into memory; shrink slot.chunk.") from error
                continue
            seconds = time.perf_counter() - started
            batch.stepped(seconds, self.memory.room(s.memory))
            self.at = Position(self.at.step + 1, self.at.seconds + seconds, clips.place)
            log, keep = log_now(), keep_now()
            if log or keep:
                self._log(interval, clips.waited, stage, size)
                if keep:
                    self.keep()
                interval, clips.waited = Interval(self.at, torch.zeros_like(interval.totals)), 0.0
        if self.at.step > interval.since.step:
            self._log(interval, clips.waited, stage, size)

    def _step(self, clips: SlotClips, size: int, stage: Curriculum) -> Tensor:
        """One optimiser step; sums of loss, of the loss of predicting no motion, and of gradient norms, [3]."""
        o, place = self.config.optim, clips.place
        for group in self.optimiser.param_groups:
            # warm-up by steps as well: a few large first steps would be no warm-up
            group["lr"] = min(o.lr_at(self.virtual_step), o.lr * (self.at.step + 1) / max(o.warmup, 1))
        shown = clips.take(size, stage)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            drawn = noised(shown, self.model.autoencoder, self.objective.alphas_cumprod, self.config, place)
            terms = self.objective(drawn)
            loss = (terms["diff"] + self.config.mean_weight * terms.get("mean", 0.0)) / size
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.objective.trained.values(), o.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.ema.update(self.objective, self.at.step)
        return torch.stack(
            [terms["diff"].detach().float() / size, still_loss(drawn.z, self.config.balance), norm.float()]
        )

    def _log(self, interval: "Interval", waited: float, stage: Curriculum, size: int) -> None:
        since, seconds = interval.since, time.perf_counter() - interval.began
        steps = self.at.step - since.step
        diff, copy, norm = (interval.totals / max(steps, 1)).tolist()
        if not math.isfinite(diff):
            raise InputError(f"The loss of step {self.at.step} is not finite; lower optim.lr.")
        row: dict[str, Any] = {"step": self.at.step, "trained_seconds": round(self.at.seconds, 1)}
        row |= {"progress": round(self.progress, 4), "clips": self.at.place, "diff": round(diff, 5)}
        row |= {"copy": round(copy, 5), "grad_norm": round(norm, 4), "lr": self.optimiser.param_groups[0]["lr"]}
        row |= {"views": stage.views, "frames": stage.frames, "batch": size}
        row["clips_per_second"] = round((self.at.place - since.place) / max(seconds, 1e-9), 2)
        row["seconds_per_step"] = round(seconds / max(steps, 1), 6)  # as RunLog does: eval.training_log sums it up
        row["waited_share"] = round(waited / max(seconds, 1e-9), 3)
        if self.device.type == "cuda":
            row["peak_gpu_gib"] = round(self.memory.overall / 2**30, 2)
        self.write(row)

    def write(self, row: dict[str, Any]) -> None:
        """A line of log.jsonl, also printed."""
        print(json.dumps(row), flush=True)
        append(self.out / "log.jsonl", row)

    def keep(self, sampled: int | None = None, steps: int | None = None) -> None:
        """Checkpoint, averaged weights in OUT/model, their figures on unseen clips, OUT/sheet.png and hand-over.

        What fails after the checkpoint is written goes to log.jsonl and `failed`; the other parts are still done.

        Raises:
            InputError: Weights are not finite; what was kept before stays.
        """
        if not all(bool(torch.isfinite(value).all()) for value in self.objective.trained.values()):
            raise InputError(f"The weights of step {self.at.step} are not finite and are not kept; lower optim.lr.")
        append(self.out / "position.jsonl", vars(self.at), on_disk=True)
        self.checkpoints.save(self.at.step)
        with self._may_fail("saving the model"), self.ema.applied(self.objective):
            self.model.meta.update(steps=self.at.step, seed=self.config.seed, shared_noise=self.config.shared_noise)
            self.model.save(self.out / "model.part")
            replace_folder(self.out / "model.part", self.out / "model")
        with self._may_fail("evaluation"):
            self._evaluate(sampled or self.config.slot.sampled, steps or self.config.slot.sample_steps)
        with self._may_fail("hand-over"):
            self.kept(self)
        self.memory.begin()  # what evaluation took says nothing of a step

    def _evaluate(self, sampled: int, steps: int) -> None:
        """Figures of the averaged weights on unseen clips into `history` and the log, samples into OUT/sheet.png."""
        began = time.perf_counter()
        self.objective.eval()
        try:
            with self.ema.applied(self.objective):
                figures = self.held_out.losses(self.model, self.objective)
                more, rows = self.held_out.samples(self.model, sampled, steps)
        finally:
            self.objective.train()
        figures = {"step": self.at.step, "trained_seconds": round(self.at.seconds, 1), **figures, **more}
        figures["evaluation_seconds"] = round(time.perf_counter() - began, 1)
        self.history.append(figures)
        self.write({"evaluation": figures})
        write_contact_sheet(self.out / "sheet.png", torch.stack(rows))

    @contextmanager
    def _may_fail(self, part: str) -> Iterator[None]:
        """A failure within is told and recorded, no more: a lent machine's minutes are for training."""
        try:
            yield
        except Exception as error:
            self.failed(part)
            self.write({"failed": part, "step": self.at.step, "error": f"{type(error).__name__}: {error}"[:1500]})
