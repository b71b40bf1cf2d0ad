"""The last minutes of a slot: the paper's size, and gsplat's build and agreement, each a program of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from t4d.paths import REPO

LEAST_SECONDS = 15  # nothing is started with less left


def commands(back: Path) -> dict[str, list[str]]:
    """Measurements by name, the surest first; the programs write their own files into `back`."""
    python = [sys.executable, "-m"]
    render = [*python, "eval.bench.device_render", "--device", "cuda", "--clips", "3"]
    render += ["--out", str(back / "bench_device_render.json")]
    step = [*python, "eval.bench.stage1_paper", "--device", "cuda", "--out", str(back / "bench_stage1_paper.json")]
    sampling = [*python, "eval.bench.paper_sampling", "--out", str(back / "bench_paper_sampling.json")]
    gpu_tests = ["tests/splat/test_gsplat_gpu.py", "-m", "gpu", "--confcutdir=tests/splat"]
    gsplat = [*python, "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:timeout", *gpu_tests]
    return {"render": render, "paper_step": step, "paper_sampling": sampling, "gsplat": gsplat}


def measure(device: torch.device, back: Path, end: float) -> dict[str, Any]:
    """Runs the measurements one after another.

    Args:
        device: Of the slot; without CUDA there is nothing to measure.
        back: Folder for their files.
        end: Moment of `time.monotonic` by which all must be over; a measurement that would pass it is ended.

    Returns:
        By name: seconds, exit status (None: out of time) and the end of what was printed.
    """
    if device.type != "cuda":
        return {"left_out": "no CUDA device"}
    torch.cuda.empty_cache()
    back.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name, command in commands(back).items():
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            found[name] = {"left_out": f"{left:.0f} s were left"}
            continue
        began = time.monotonic()
        found[name] = {**run(command, left), "seconds": round(time.monotonic() - began, 1)}
        print(name, found[name], flush=True)
    return found


def run(command: list[str], seconds: float) -> dict[str, Any]:
    """Exit status and the end of the output of a program, which is ended after so many seconds."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    try:
        done = subprocess.run(
            command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        text = error.stdout or b""
        return {"status": None, "output": (text.decode() if isinstance(text, bytes) else text)[-1500:]}
    return {"status": done.returncode, "output": (done.stdout + done.stderr)[-1500:]}
