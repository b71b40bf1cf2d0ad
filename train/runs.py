"""What both training programs share: data, random keys, EMA and the log. No random state is ever stored: data and noise
are functions of (seed, step), so a resumed run equals an uninterrupted one."""

import json
import math
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from t4d.data.device_render import DeviceClips
from t4d.paths import REPO
from train.config import RunConfig


def batches(data: Dataset, indices: Iterator[list[int]], workers: int) -> Iterator[dict[str, Any]]:
    """Batches of clips in a given order, made ahead by worker processes."""
    if isinstance(data, DeviceClips):
        return data.batches(indices, workers)
    ahead: dict[str, Any] = {"prefetch_factor": 4, "multiprocessing_context": "spawn"} if workers else {}
    return iter(DataLoader(data, batch_sampler=indices, num_workers=workers, collate_fn=default_collate, **ahead))  # type: ignore[arg-type]


def generator(*key: int) -> torch.Generator:
    """Random numbers of one purpose, from a key such as (seed, step, place)."""
    seed = 0
    for part in key:
        seed = (seed * 1_000_003 + part + 0x9E3779B97F4A7C15) % (2**63)
    return torch.Generator().manual_seed(seed)


class Ema:
    """Exponential moving average of a module's parameters, in float32, warmed up so that early steps do not linger."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.average = {n: p.detach().float().clone() for n, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """After optimiser step `step` (0-based)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        now = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.average.values()), [now[n].detach().float() for n in self.average], weight)

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's state dict with averaged parameters."""
        return {**module.state_dict(), **self.average}

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """Within it the module has the averages as parameters."""
        own = {n: p for n, p in module.named_parameters() if n in self.average}
        with torch.no_grad():
            kept = {n: p.detach().clone() for n, p in own.items()}
            for name, parameter in own.items():
                parameter.copy_(self.average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in own.items():
                    parameter.copy_(kept[name])


class RunLog:
    """A run's record: config.yaml (resolved), run.json (versions, commit) and log.jsonl, one object a line.

    Args:
        out: Run folder.
        program: Its name.
        config: Resolved configuration.
        start: Steps already made; lines of later ones, from a run that was killed, are removed.
        facts: More for run.json.
        main: Whether this process writes.
    """

    def __init__(
        self, out: Path, program: str, config: RunConfig, start: int, facts: dict[str, Any], main: bool = True
    ):
        self.path, self.main, self.clips, self.since, self.first = out / "log.jsonl", main, 0, time.time(), start
        if not main:
            return
        if start and start == config.optim.steps:
            # the settings of this call trained nothing: those that did stay on record
            self.main = False
            print(f"{out} has all {start} steps of its run; give another folder, or more optim.steps, to train.")
            return
        out.mkdir(parents=True, exist_ok=True)
        settings = config.model_dump(mode="json")
        (out / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True, check=False)
        facts = {"program": program, "commit": commit.stdout.strip(), "versions": _versions(), **facts}
        (out / "run.json").write_text(json.dumps(facts, indent=1))
        if self.path.is_file():
            rows = [line for line in self.path.read_text().splitlines() if _step_of(line) <= start]
            part = self.path.with_suffix(".part")
            part.write_text("".join(row + "\n" for row in rows))
            part.replace(self.path)
        self._write({"event": "start", "time": time.time(), "step_before": start, **facts, "config": settings})

    def count(self, clips: int) -> None:
        """Clips that all processes took in a step."""
        self.clips += clips

    def write(self, step: int, values: dict[str, float]) -> dict[str, float]:
        """A line of values at a step, with speed and memory since the last one; returns it."""
        seconds = time.time() - self.since
        usage = resource.getrusage(resource.RUSAGE_SELF)
        row: dict[str, float] = {name: round(value, 8) for name, value in values.items()}
        row["clips_per_second"] = round(self.clips / max(seconds, 1e-9), 3)
        row["seconds_per_step"] = round(seconds / max(step - self.first, 1), 4)
        row["peak_memory_gib"] = round(usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20), 3)
        if torch.cuda.is_available():
            row["peak_gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        self.clips, self.since, self.first = 0, time.time(), step
        if self.main:
            self._write({"step": step, **row})
            print({"step": step, **row}, flush=True)
        return row

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def _step_of(line: str) -> float:
    """Step of a line of a log; of one that a power cut left half written, beyond all."""
    try:
        return json.loads(line).get("step", 0)
    except ValueError:
        return math.inf


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torch", "accelerate", "diffusers", "numpy", "safetensors"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return {"python": platform.python_version(), **found}


def agreed(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """The main process's flags on every process: clocks differ, decisions must not."""
    told = torch.tensor(flags, dtype=torch.float32, device=accelerator.device) * accelerator.is_main_process
    return [bool(flag) for flag in accelerator.reduce(told, "sum")]


class Every:
    """True once per so many minutes."""

    def __init__(self, minutes: float):
        self.seconds, self.last = 60 * minutes, time.time()

    def __call__(self) -> bool:
        if time.time() - self.last < self.seconds:
            return False
        self.last = time.time()
        return True
