"""The last minutes of a slot: the paper's size, and gsplat's build and agreement, each a program of its own. What they
report comes back in results.json: files of their own would be too many beside the model's."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from t4d.paths import REPO

LEAST_SECONDS = 15  # nothing is started with less left


def commands(folder: Path) -> dict[str, list[str]]:
    """Measurements by name, the surest first; a program that reports in a file writes FOLDER/NAME.json."""
    python = [sys.executable, "-m"]
    render = [*python, "eval.bench.device_render", "--device", "cuda", "--clips", "3"]
    step = [*python, "eval.bench.stage1_paper", "--device", "cuda"]
    programs = {"render": render, "paper_step": step, "paper_sampling": [*python, "eval.bench.paper_sampling"]}
    found = {name: [*program, "--out", str(report(folder, name))] for name, program in programs.items()}
    gpu_tests = ["tests/splat/test_gsplat_gpu.py", "-m", "gpu", "--confcutdir=tests/splat"]
    gsplat = [*python, "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "no:timeout", *gpu_tests]
    return {**found, "gsplat": gsplat}


def report(folder: Path, name: str) -> Path:
    """Where the program of a measurement writes."""
    return folder / f"{name}.json"


def measure(device: torch.device, folder: Path, end: float) -> dict[str, Any]:
    """Runs the measurements one after another.

    Args:
        device: Of the slot; without CUDA there is nothing to measure.
        folder: For the programs' files, of the run and not of what comes back; made if absent.
        end: Moment of `time.monotonic` by which all must be over; a measurement that would pass it is ended.

    Returns:
        By name: seconds, exit status (None: out of time), the end of what was printed, and "report", what a program
        that ended well wrote.
    """
    if device.type != "cuda":
        return {"left_out": "no CUDA device"}
    torch.cuda.empty_cache()
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name, command in commands(folder).items():
        left = end - time.monotonic()
        if left < LEAST_SECONDS:
            found[name] = {"left_out": f"{left:.0f} s were left"}
            continue
        began, file = time.monotonic(), report(folder, name)
        file.unlink(missing_ok=True)  # of an earlier call
        found[name] = {**run(command, left), "seconds": round(time.monotonic() - began, 1)}
        print(name, found[name], flush=True)
        if found[name]["status"] == 0 and file.is_file():
            found[name]["report"] = json.loads(file.read_text())
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
