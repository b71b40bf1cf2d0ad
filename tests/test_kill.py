"""kill -9 and Ctrl-C at the command line: the next run goes on, and its asset has the bits of an uninterrupted one."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from t4d.motion.asset import MotionAsset
from t4d.paths import ASSETS, REPO

pytestmark = pytest.mark.slow
RECONSTRUCT, REFINE = 110, 4
TINY = [
    "splat.count=400",
    "stage1.steps=1",
    "stage1.frames=5",
    f"stage2.iterations={RECONSTRUCT}",
    f"stage2.refine_iterations={REFINE}",
    "stage2.images_per_step=4",
    "stage2.guidance.size=64",
    "export.orbit_frames=2",
    "export.orbit_size=32",
    "export.tracks=5",
]


def start(out: Path) -> subprocess.Popen:
    """The command line on one thread in a process group of its own."""
    command = [sys.executable, "-m", "t4d", "animate", str(ASSETS / "objects" / "fox.glb"), "a fox is running"]
    command += ["-o", str(out), *(word for item in TINY for word in ("-s", item))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=REPO, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)


def until(process: subprocess.Popen, iteration: int) -> int:
    """Reads the bar until the fit has done so many iterations; returns how many it shows then."""
    assert process.stderr is not None
    text = b""
    while piece := process.stderr.read1(4096):  # type: ignore[attr-defined]
        text = (text + piece)[-20000:]
        done = [int(n) for n in re.findall(rb"(?:Fitting motion|Refining), step (\d+) of", text)]
        if done and done[-1] >= iteration:
            return done[-1]
    raise AssertionError(f"it ended before iteration {iteration}: {text[-2000:].decode(errors='replace')}")


def interrupt(out: Path, iteration: int, how: signal.Signals) -> int:
    """Runs to an iteration and sends the signal; returns the exit code."""
    process = start(out)
    until(process, iteration)
    process.send_signal(how)
    process.communicate(timeout=240)
    return process.returncode


def finish(out: Path) -> bytes:
    process = start(out)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-2000:]
    return (out / "asset.safetensors").read_bytes()


def manifest(out: Path) -> tuple[dict, dict]:
    """run.json and the details of its fit."""
    whole = json.loads((out / "run.json").read_text())
    fits = [stage["details"] for stage in whole["stages"] if stage["name"] == "fit"]
    return whole, fits[0] if fits else {}


def test_killed_interrupted_and_killed_again_equals_an_uninterrupted_run(tmp_path):
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    expected = finish(straight)

    assert interrupt(parts, 60, signal.SIGKILL) == -signal.SIGKILL  # in the reconstruction
    whole, fit = manifest(parts)
    assert whole["status"] == "running" and not (parts / "player.html").exists()
    assert fit["phase"] == "reconstruct" and 50 <= fit["checkpoint"] <= fit["iteration"] < RECONSTRUCT
    reached = fit["checkpoint"]

    assert interrupt(parts, 80, signal.SIGINT) == 130  # Ctrl-C later in the reconstruction
    whole, fit = manifest(parts)
    stopped = fit["iteration"]
    assert whole["status"] == "stopped" and fit["phase"] == "reconstruct" and fit["resumed_from"] == reached
    assert f"Stopped at iteration {stopped} of {RECONSTRUCT + REFINE}" in " ".join(whole["warnings"])
    assert 80 <= stopped < RECONSTRUCT and (parts / "player.html").stat().st_size > 1e5
    assert MotionAsset.load(parts / "asset.safetensors").at(4).means.isfinite().all()
    assert (parts / "asset.safetensors").read_bytes() != expected

    assert interrupt(parts, RECONSTRUCT + 2, signal.SIGKILL) == -signal.SIGKILL  # in the refinement
    whole, fit = manifest(parts)
    assert whole["status"] == "running" and fit["resumed_from"] == stopped and fit["checkpoint"] >= RECONSTRUCT
    reached = fit["checkpoint"]

    assert finish(parts) == expected
    whole, fit = manifest(parts)
    assert whole["status"] == "done" and fit["resumed_from"] == reached and fit["phase"] == "refine"
    assert fit["threads"] == manifest(straight)[1]["threads"] == 1
