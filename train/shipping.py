"""What a run gives away: the averaged weights as a model or a fork, and contact sheets of them."""

from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import FirstFrameNoise
from train.checkpoint import SHARDED, replace_folder
from train.config import StageOneTrainConfig
from train.fork import Fork
from train.objective import Objective
from train.runs import Ema
from train.sheets import write_sheet

TRAINED_PARTS = ("unet", "text_encoder", "image_encoder")


class Shipping:
    """Writes OUT/model or OUT/fork and OUT/sheet_STEP.png. Made before the networks are split over processes.

    Args:
        out: Run folder.
        accelerator: Its main process writes.
        model: The networks in training.
        fork: The fork in training, if it is one.
        config: See `StageOneTrainConfig`.
    """

    def __init__(
        self, out: Path, accelerator: Accelerator, model: VideoModel, fork: Fork | None, config: StageOneTrainConfig
    ):
        self.out, self.accelerator, self.model, self.fork, self.config = out, accelerator, model, fork, config
        self.sharded = accelerator.distributed_type in SHARDED
        if self.sharded:
            # no process has all of the networks then: the main one fills a copy in its own memory to write from
            self.model = _copy(model) if accelerator.is_main_process else model
            self.fork = replace(fork, model=self.model) if fork else None

    def send(self, step: int, wrapped: nn.Module, objective: Objective, ema: Ema, sheet: bool) -> None:
        """Writes the averages after `step` steps; every process calls it."""
        with ema.applied(objective):
            if self.sharded:
                self._fill(self.accelerator.get_state_dict(wrapped))
            if self.accelerator.is_main_process:
                objective.eval()
                self._write(step, sheet)
                objective.train()
        self.accelerator.wait_for_everyone()

    def _fill(self, state: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        for name, part in self.model.parts.items():
            if name in TRAINED_PARTS:
                own = {n: state[f"{name}.{n}"].detach().cpu() for n in part.state_dict()}
                part.load_state_dict(own)

    def _write(self, step: int, sheet: bool) -> None:
        config, meta = self.config, self.model.meta
        meta.update(steps=step, seed=config.seed, shared_noise=config.shared_noise)
        if config.first_frame_noise:
            meta["first_frame_noise"] = asdict(FirstFrameNoise())
        name, save = ("fork", self.fork.save) if self.fork else ("model", self.model.save)
        save(self.out / f"{name}.part")
        replace_folder(self.out / f"{name}.part", self.out / name)
        if sheet:
            device = self.model.device
            write_sheet(self.model.to(self.accelerator.device), config, self.out / f"sheet_{step:06d}.png")
            self.model.to(device)


def _copy(model: VideoModel) -> VideoModel:
    """The networks on the CPU in evaluation mode; moving them moves nothing of the model in training."""
    parts: dict[str, Any] = deepcopy(model.parts)
    for part in parts.values():
        part.eval()
    return replace(model, **parts).to("cpu")
