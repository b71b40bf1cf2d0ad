"""Runs of Stage One's program as users start it, for several test files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from t4d.paths import REPO

SMOKE = REPO / "train" / "configs" / "smoke.yaml"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
PYTHON = (sys.executable,)


def command(out: Path, *more: str, start: tuple[str, ...] = PYTHON) -> list[str]:
    """Command line of a smoke run."""
    return [*start, "train/stage1.py", "--config", str(SMOKE), "--out", str(out), *more]


def train(out: Path, *more: str, start: tuple[str, ...] = PYTHON) -> list[dict]:
    """Runs the program in a process of its own and returns the log's rows of steps."""
    done = subprocess.run(
        command(out, *more, start=start),
        cwd=REPO,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return rows(out)


def rows(out: Path) -> list[dict]:
    """The log's lines of steps, without what depends on the clock."""
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    timed = ("clips_per_second", "seconds_per_step", "peak_memory_gib")
    return [{n: v for n, v in row.items() if n not in timed} for row in found if "step" in row]


def checkpoints(out: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path.parent for path in (out / "checkpoints").glob("step_*/state.json"))


def state(out: Path) -> dict[str, torch.Tensor]:
    """Everything the latest checkpoint holds, by name."""
    folder = checkpoints(out)[-1]
    found = {
        f"{kind}/{n}": t for kind in ("weights", "ema") for n, t in load_file(folder / f"{kind}.safetensors").items()
    }
    stored = torch.load(folder / "optimiser.pt", weights_only=True)["optimiser"]["state"]
    found |= {f"optimiser/{i}/{n}": torch.as_tensor(t) for i, one in stored.items() for n, t in one.items()}
    return found


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    """Bitwise."""
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, different[:5]
