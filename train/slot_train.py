"""Training for so many minutes: learning rate and curriculum go by time, the batch grows while that pays."""

import json
import math
import time
from collections.abc import Callable
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
        kept: Called after weights and figures were written.

    Attributes:
        at: See `Position`.
        model: The networks.
        batches: Sizes of batch by stage.
        history: Figures on unseen clips, as they came.
    """

    def __init__(
        self,
        config: SlotConfig,
        out: Path,
        device: torch.device,
        total_seconds: float,
        kept: Callable[["SlotTraining"], None] = lambda _: None,
    ) -> None:
        self.config, self.out, self.device, self.total, self.kept = config, out, device, total_seconds, kept
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        torch.set_float32_matmul_precision("high")
        self.model: VideoModel = build(config)
        if config.slot.compile:
            self.model.unet.forward = torch.compile(self.model.unet.forward)  # type: ignore[method-assign]
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
        if not step:
            return Position()
        for line in reversed((self.out / "position.jsonl").read_text().splitlines()):
            row = json.loads(line)
            if row["step"] == step:
                return Position(**row)
        raise InputError(f"{self.out / 'position.jsonl'} does not tell when step {step} was; give another --out.")

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

        Raises:
            InputError: The loss is not finite, or not even the smallest batch fits into memory.
        """
        s = self.config.slot
        clips = SlotClips(self.config, self.device, s.chunk, s.workers, self.at.place)
        log_now, keep_now = Every(s.log_seconds / 60), Every(s.sheet_seconds / 60)
        interval = Interval(self.at, torch.zeros(3, device=self.device))
        self.objective.train()
        stage = stage_at(self.virtual_step, self.config)
        size = self.batch_of(stage.views, stage.frames).size
        while self.progress < 1 and time.monotonic() < until:
            stage = stage_at(self.virtual_step, self.config)
            batch = self.batch_of(stage.views, stage.frames)
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
            batch.stepped(seconds, self._room())
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

    def _room(self) -> bool:
        if self.device.type != "cuda":
            return True
        total = torch.cuda.get_device_properties(self.device).total_memory
        return 2 * torch.cuda.max_memory_allocated(self.device) < self.config.slot.memory * total

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
        row["steps_per_second"] = round(steps / max(seconds, 1e-9), 3)
        row["waited_share"] = round(waited / max(seconds, 1e-9), 3)
        if self.device.type == "cuda":
            row["peak_gpu_gib"] = round(torch.cuda.max_memory_allocated(self.device) / 2**30, 2)
        self.write(row)

    def write(self, row: dict[str, Any]) -> None:
        """A line of log.jsonl, also printed."""
        print(json.dumps(row), flush=True)
        with (self.out / "log.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")

    def keep(self, sampled: int | None = None, steps: int | None = None) -> None:
        """Checkpoint, averaged weights in OUT/model, their figures on unseen clips and OUT/sheet.png.

        Raises:
            InputError: Weights are not finite; what was kept before stays.
        """
        s = self.config.slot
        if not all(bool(torch.isfinite(value).all()) for value in self.objective.trained.values()):
            raise InputError(f"The weights of step {self.at.step} are not finite and are not kept; lower optim.lr.")
        began = time.perf_counter()
        with (self.out / "position.jsonl").open("a") as stream:
            stream.write(json.dumps(vars(self.at)) + "\n")
        self.checkpoints.save(self.at.step)
        with self.ema.applied(self.objective):
            self.objective.eval()
            self.model.meta.update(steps=self.at.step, seed=self.config.seed, shared_noise=self.config.shared_noise)
            self.model.save(self.out / "model.part")
            replace_folder(self.out / "model.part", self.out / "model")
            figures = self.held_out.losses(self.model, self.objective)
            more, rows = self.held_out.samples(self.model, sampled or s.sampled, steps or s.sample_steps)
            self.objective.train()
        write_contact_sheet(self.out / "sheet.png", torch.stack(rows))
        figures = {"step": self.at.step, "trained_seconds": round(self.at.seconds, 1), **figures, **more}
        figures["evaluation_seconds"] = round(time.perf_counter() - began, 1)
        self.history.append(figures)
        self.write({"evaluation": figures})
        self.kept(self)
