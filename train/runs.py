"""What both training programs share: data order, checkpoints, EMA and the log. No random state is ever stored:
data and noise are functions of (seed, step), so a resumed run equals an uninterrupted one."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from t4d.data.cache import CachedClips
from t4d.data.dataset import ClipDataset
from t4d.paths import REPO
from train.config import DataConfig


def clips(config: DataConfig, seed: int) -> Dataset:
    """The training clips; item i is a pure function of the configuration, the seed and i."""
    if config.cache is not None:
        return CachedClips(config.cache)
    fraction = config.procedural_fraction if config.rigs is not None else 1.0
    return ClipDataset(
        config.rigs,
        side=config.side,
        views=config.views,
        frames=config.frames,
        procedural_fraction=fraction,
        rest_fraction=config.rest_fraction,
        seed=seed,
    )


def batches(config: DataConfig, seed: int, indices: Iterator[list[int]]) -> Iterator[dict[str, Any]]:
    """Batches of clips in a given order, rendered ahead by worker processes."""
    data = clips(config, seed)
    count = config.clips or len(data)  # type: ignore[arg-type]

    ahead = {"prefetch_factor": 4, "multiprocessing_context": "spawn"} if config.workers else {}
    return iter(
        DataLoader(
            _Cycled(data, count),
            batch_sampler=indices,
            num_workers=config.workers,
            collate_fn=default_collate,
            **ahead,  # type: ignore[arg-type]
        )
    )


class _Cycled(Dataset):
    """The first `count` clips again and again."""

    def __init__(self, data: Dataset, count: int):
        self.data, self.count = data, count

    def __getitem__(self, index: int) -> Any:
        return self.data[index % self.count]


def generator(*key: int) -> torch.Generator:
    """Random numbers of one purpose, from (seed, step, rank, ...)."""
    seed = 0
    for part in key:
        seed = (seed * 1_000_003 + part + 0x9E3779B97F4A7C15) % (2**63)
    return torch.Generator().manual_seed(seed)


class Ema:
    """Exponential moving average of a module's parameters, warmed up so that early steps do not linger."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.average = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """After optimiser step `step` (0-based)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        now = dict(module.named_parameters())
        torch._foreach_lerp_(list(self.average.values()), [now[n].detach() for n in self.average], weight)

    def state(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's state dict with averaged parameters."""
        return {**module.state_dict(), **self.average}


def save_checkpoint(folder: Path, step: int, module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer) -> None:
    """Writes weights, EMA and optimiser state; the old checkpoint is replaced only by a complete new one."""
    part, final = folder / "checkpoint.part", folder / "checkpoint"
    part.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in module.state_dict().items()}, part / "weights.safetensors")
    save_file({n: t.contiguous() for n, t in ema.average.items()}, part / "ema.safetensors")
    torch.save(optimiser.state_dict(), part / "optimiser.pt")
    (part / "state.json").write_text(json.dumps({"step": step}))
    old = folder / "checkpoint.old"
    if final.exists():
        final.replace(old)
    part.replace(final)
    for stale in sorted(old.glob("*")) if old.exists() else []:
        stale.unlink()
    if old.exists():
        old.rmdir()


def load_checkpoint(folder: Path, module: nn.Module, ema: Ema, optimiser: torch.optim.Optimizer) -> int:
    """Restores what `save_checkpoint` wrote, if there is any; returns the number of steps already made."""
    place = next((p for p in (folder / "checkpoint", folder / "checkpoint.old") if p.exists()), None)
    if place is None:
        return 0
    module.load_state_dict(load_file(place / "weights.safetensors"))
    ema.average.update({n: t.to(ema.average[n]) for n, t in load_file(place / "ema.safetensors").items()})
    optimiser.load_state_dict(torch.load(place / "optimiser.pt", weights_only=True))
    return int(json.loads((place / "state.json").read_text())["step"])


class RunLog:
    """`log.jsonl`: one object a line; losses are averaged between lines."""

    def __init__(self, path: Path, facts: dict[str, Any]):
        self.path, self.sums, self.count, self.clips, self.since = path, {}, 0, 0, time.time()
        path.parent.mkdir(parents=True, exist_ok=True)
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True, check=False)
        self._write({"event": "start", "time": time.time(), "commit": commit.stdout.strip(), **facts})

    def add(self, values: dict[str, float], clips: int) -> None:
        """Values of one step."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count, self.clips = self.count + 1, self.clips + clips

    def flush(self, step: int, **facts: float) -> dict[str, Any]:
        """Writes the means since the last line."""
        seconds = time.time() - self.since
        row = {"step": step, **{n: round(s / max(self.count, 1), 6) for n, s in self.sums.items()}, **facts}
        row["clips_per_second"] = round(self.clips / max(seconds, 1e-9), 3)
        self.sums, self.count, self.clips, self.since = {}, 0, 0, time.time()
        self._write(row)
        return row

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


class Every:
    """True once per so many minutes."""

    def __init__(self, minutes: float):
        self.seconds, self.last = 60 * minutes, time.time()

    def __call__(self) -> bool:
        if time.time() - self.last < self.seconds:
            return False
        self.last = time.time()
        return True
