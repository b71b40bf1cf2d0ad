"""Ways of doing one thing on a CPU, timed in turns: what else the machine does meets all of them alike."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from eval.bench.rasterizer import hardware


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each way; a first round, which warms up, is not counted.

    Args:
        ways: What to call, by name, in the order of a round.
        rounds: Counted ones, at least 1.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if turn:
                seconds[name].append(time.process_time() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def report(medians: Mapping[str, float], peer: str, rounds: int, path: Path) -> None:
    """Prints each way beside the one that all ratios are against, and writes both to a JSON file.

    Args:
        medians: CPU seconds, by way.
        peer: The way that the ratios are against.
        rounds: Behind each median.
        path: Of the file.
    """
    ratios = {name: round(value / medians[peer], 2) for name, value in medians.items()}
    for name, ratio in ratios.items():
        print(f"{name}: {medians[name]:.3f} CPU-s a step, {ratio:.2f} times {peer}")
    result = {"hardware": hardware(), "torch": torch.__version__, "steps": rounds}
    path.write_text(json.dumps({**result, "cpu_seconds": dict(medians), "ratios": ratios}, indent=1) + "\n")
