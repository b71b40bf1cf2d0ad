"""Runs of the Stage One program as users start it, and paired statistics of their figures."""

import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from t4d.paths import REPO


def train(config: Path, out: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Runs ``python train/stage1.py`` to its end in one thread; an unfinished run in `out` is continued.

    Args:
        config: YAML file.
        out: Run folder; the program's output goes to ``out/output.txt``.
        overrides: "optim.lr" and the like.

    Returns:
        cpu_seconds, peak_memory_gib, and curve: the logged lines [{step, loss, diff, corr, pos, ...}].

    Raises:
        RuntimeError: The program failed; with the end of its output.
    """
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(REPO / "train/stage1.py"), "--config", str(config), "--out", str(out)]
    command += [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (out / "output.txt").open("w") as output:
        done = subprocess.run(command, cwd=REPO, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        tail = (out / "output.txt").read_text()[-1500:]
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{tail}")
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    curve = [line for line in lines if "loss" in line]
    return {
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_memory_gib": max((line["peak_memory_gib"] for line in curve), default=None),
        "curve": curve,
    }


def t_interval(values: Sequence[float], level: float = 0.95) -> dict[str, Any]:
    """Mean of a few independent values with Student's interval.

    Returns:
        mean, low, high (NaN-free only for two values and more: low and high are None otherwise), values.
    """
    x = np.asarray(values, np.float64)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"{x.tolist()} were given, expected one or more finite numbers")
    mean = float(x.mean())
    if len(x) == 1:
        return {"mean": mean, "low": None, "high": None, "values": x.tolist()}
    half = float(student.ppf((1 + level) / 2, len(x) - 1)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": x.tolist()}


def paired(
    figures: Mapping[tuple[str, int], Mapping[str, float]], row: str, other: str, key: str, seeds: Sequence[int]
) -> dict[str, Any]:
    """`t_interval` of row minus other, seed by seed."""
    return t_interval([figures[row, seed][key] - figures[other, seed][key] for seed in seeds])


def shown(interval: Mapping[str, Any], digits: int) -> str:
    """ "mean [low, high]"; a difference whose interval leaves out zero ends with a star."""
    if interval["low"] is None:
        return f"{interval['mean']:.{digits}f}"
    star = "*" if interval["low"] > 0 or interval["high"] < 0 else ""
    return f"{interval['mean']:.{digits}f} [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]{star}"
