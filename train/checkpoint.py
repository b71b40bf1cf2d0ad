"""Checkpoints of a run: trained weights, EMA, optimiser state and position, whole or not there at all."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor

from t4d.errors import InputError
from train.runs import Ema

STATE = "state.json"  # present in complete checkpoints only
SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)


class Checkpoints:
    """The folder OUT/checkpoints of a run, with step_00000020/ and so on.

    A checkpoint is written under another name and renamed when complete; only then are old ones deleted. What belongs
    to it are the trained parameters; the frozen ones come from where they came from at the start.

    Args:
        out: Run folder.
        accelerator: Only its main process writes, unless the optimiser's state is split (FSDP, DeepSpeed).
        module: The bare module whose parameters with gradients are kept.
        ema: Their averages.
        optimiser: As prepared by the accelerator.
        keep: How many to keep.
        identity: What a run must have in common with a checkpoint to go on from it.
    """

    def __init__(
        self,
        out: Path,
        accelerator: Accelerator,
        module: nn.Module,
        ema: Ema,
        optimiser: torch.optim.Optimizer,
        keep: int = 1,
        identity: dict[str, Any] | None = None,
    ):
        self.folder, self.accelerator, self.module, self.ema = out / "checkpoints", accelerator, module, ema
        self.optimiser, self.keep, self.identity = optimiser, keep, identity or {}
        self.step = 0  # that the latest checkpoint holds; none is needed of the start
        self.sharded = accelerator.distributed_type in SHARDED
        if self.sharded and getattr(accelerator.state.deepspeed_plugin, "zero_stage", 0) == 3:
            raise InputError("ZeRO stage 3 leaves no process with parameters to average; use stage 2, or FSDP.")

    def complete(self) -> list[Path]:
        """Checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step_????????") if (path / STATE).is_file())

    def save(self, step: int) -> None:
        """Writes the state after `step` steps; every process calls it."""
        if step == self.step:  # nothing was learnt since
            return
        self.step = step
        part, final = self.folder / "part", self.folder / f"step_{step:08d}"
        main = self.accelerator.is_main_process
        if main:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        self.accelerator.wait_for_everyone()
        if self.sharded:
            self.accelerator.save_state(str(part))
            save_file(self._own_averages(), part / self._averages_file())
        elif main:
            trained = {n: p.detach().contiguous() for n, p in self.module.named_parameters() if p.requires_grad}
            save_file(trained, part / "weights.safetensors")
            save_file({n: t.contiguous() for n, t in self.ema.average.items()}, part / "ema.safetensors")
            scaler = self.accelerator.scaler  # of fp16
            scale = scaler.state_dict() if scaler is not None else {}
            torch.save({"optimiser": self.optimiser.state_dict(), "scaler": scale}, part / "optimiser.pt")
        self.accelerator.wait_for_everyone()
        if not main:
            return
        (part / STATE).write_text(json.dumps({"step": step, "identity": self.identity}))
        for path in part.rglob("*"):  # the bytes are on the disk before the name is: a power cut leaves no empty files
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        _delete(final)
        part.replace(final)
        whole = self.complete()
        for old in self.folder.glob("step_*"):
            if old not in whole[-self.keep :]:
                _delete(old)

    def _averages_file(self) -> str:
        return f"ema_{self.accelerator.process_index}.safetensors"

    def _own_averages(self) -> dict[str, torch.Tensor]:
        return {name: _local(value).contiguous() for name, value in self.ema.average.items()}

    def resume(self, which: str) -> int:
        """Restores a checkpoint; every process calls it.

        Args:
            which: "latest" of this run if there is one, "never", or a checkpoint's folder.

        Returns:
            Steps already made.

        Raises:
            InputError: The folder is no checkpoint, or one of another run; "never" and there are checkpoints; or the
                processes do not all find the same.
        """
        found = self.complete()
        place = Path(which) if which not in ("latest", "never") else found[-1] if found else None
        self._check_same(found, place)
        if which == "never" and found:
            raise InputError(
                f"{self.folder.parent} holds a run of {_step(found[-1])} steps and --resume is never; give another "
                "folder, or --resume latest to go on."
            )
        if place is None:
            return 0
        if not (place / STATE).is_file():
            raise InputError(f"{place} is no checkpoint (it has no {STATE}); give OUT/checkpoints/step_...")
        if found and _step(found[-1]) > _step(place):
            raise InputError(
                f"{self.folder.parent} already holds {found[-1].name}, later than {place.name}; give another --out."
            )
        state = json.loads((place / STATE).read_text())
        for name, mine in self.identity.items():
            theirs = state["identity"].get(name)
            if theirs != mine:
                raise InputError(
                    f"The checkpoint {place.name} was made with {name} {theirs}, this run has {mine}; set it as "
                    "it was, or start another run from the shipped model (weights=OUT/model)."
                )
        if self.sharded:
            self.accelerator.load_state(str(place))
            averages = self._averages_file()
            if len(list(place.glob("ema_*.safetensors"))) != self.accelerator.num_processes:
                raise InputError(f"{place} was split over another number of processes; resume with that number.")
            for name, value in load_file(place / averages).items():
                _local(self.ema.average[name]).copy_(value)
        else:
            own = dict(self.module.named_parameters())
            weights, average = load_file(place / "weights.safetensors"), load_file(place / "ema.safetensors")
            if weights.keys() != self.ema.average.keys():
                differ = sorted(weights.keys() ^ self.ema.average.keys())[:3]
                raise InputError(f"The checkpoint {place.name} trains other parameters (such as {', '.join(differ)}).")
            with torch.no_grad():
                for name, value in weights.items():
                    own[name].copy_(value)
                    self.ema.average[name].copy_(average[name])
            stored = torch.load(place / "optimiser.pt", map_location="cpu", weights_only=True)
            self.optimiser.load_state_dict(stored["optimiser"])
            if self.accelerator.scaler is not None and stored["scaler"]:
                self.accelerator.scaler.load_state_dict(stored["scaler"])
        self.step = int(state["step"]) if place in found else 0
        return int(state["step"])

    def _check_same(self, found: list[Path], place: Path | None) -> None:
        """Refuses to go on from different steps, which would go unnoticed: only the main process writes, and on a
        machine that does not see its disk there is nothing. Before all else, so that no process waits for one that has
        stopped.

        Args:
            found: Complete checkpoints of this run, as this process sees them.
            place: The one to restore.

        Raises:
            InputError: In every process, if not all see the same.
        """
        seen, state = found[-1].name if found else "no checkpoint", ""
        if place is not None and (place / STATE).is_file():
            state = (place / STATE).read_text()
        if place is not None and place not in found:
            seen += f" and {'' if state else 'not '}{place}"
        processes: dict[tuple[str, str], list[str]] = {}
        for rank, finding in enumerate(gather_object([(seen, state)])):
            processes.setdefault(finding, []).append(str(rank))
        if len(processes) > 1:
            told = "; ".join(f"process {', '.join(ranks)} sees {seen}" for (seen, _), ranks in processes.items())
            raise InputError(
                f"Not all processes see the same checkpoints in {self.folder}: {told}. Put the run folder on a disk "
                "that all machines see and give it as --out."
            )


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a split tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def replace_folder(new: Path, place: Path) -> None:
    """Puts a finished folder in another's place; a kill in between leaves it under its old name."""
    old = place.with_name(f"{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.replace(old)
    new.replace(place)
    shutil.rmtree(old, ignore_errors=True)


def _delete(place: Path) -> None:
    """A folder loses the mark of a complete checkpoint first: what a kill leaves of it is none."""
    (place / STATE).unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)


def _step(place: Path) -> int:
    return int(place.name.removeprefix("step_"))
