"""Stage Two over a folder: two processes share it, each object gets its sentence and clip, a repeat takes the cache."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from t4d.data.clip import Clip
from t4d.errors import InputError
from t4d.motion.asset import MotionAsset
from t4d.paths import ASSETS, REPO
from train.object_folder import objects, read_prompts

TINY = [
    *("splat.count=300", "stage1.steps=1", "stage1.frames=3", "stage2.iterations=3", "stage2.refine_iterations=1"),
    *("stage2.guidance.size=64", "stage2.images_per_step=4", "export.orbit_frames=2", "export.orbit_size=32"),
]


def run(folder: Path, out: Path, *more: str, code: int = 0) -> str:
    """The program in two processes on the CPU, as a user starts them; returns what they said."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["train/stage2.py", str(folder), "--out", str(out), *TINY, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == code, done.stderr[-3000:]
    return done.stdout


def manifest(out: Path) -> dict:
    return json.loads((out / "run.json").read_text())


@pytest.mark.slow
def test_two_processes_fit_a_folder_and_a_repeat_goes_on(tmp_path):
    folder, out = tmp_path / "objects", tmp_path / "runs"
    folder.mkdir()
    for name in ("fox", "astronaut"):
        shutil.copyfile(ASSETS / "objects" / f"{name}.glb", folder / f"{name}.glb")
    (folder / "broken.glb").write_text("no mesh")
    (folder / "prompts.json").write_text('{"fox": "a fox is running"}')
    said = run(folder, out, "--prompt", "it is walking", code=1)  # one object is refused
    assert "fox.glb: done" in said and "astronaut.glb: done" in said and "broken.glb: refused: broken.glb" in said
    assert "(process 0 of 2)" in said and "(process 1 of 2)" in said
    assert (manifest(out / "fox")["prompt"], manifest(out / "astronaut")["prompt"]) == (
        "a fox is running",
        "it is walking",
    )
    assert manifest(out / "broken")["status"] == "failed"
    asset = out / "fox" / "asset.safetensors"
    first = asset.read_bytes()
    assert MotionAsset.load(asset).frames == 3
    rows = [json.loads(line) for line in (out / "fox" / "log.jsonl").read_text().splitlines()]
    assert rows[0]["stage"] == "prepare" and rows[-1]["stage"] == "done"

    # A clip beside its object is fitted instead of a generated one: the astronaut's own, from the first call.
    shutil.copyfile(out / "astronaut" / "clip.safetensors", folder / "astronaut.safetensors")
    (folder / "broken.glb").unlink()
    run(folder, out)
    assert asset.read_bytes() == first
    cached = {stage["name"]: stage["cached"] for stage in manifest(out / "fox")["stages"]}
    assert all(cached[name] for name in ("prepare", "clip", "features", "fit"))
    assert Clip.load(out / "astronaut" / "clip.safetensors").prompt == "it is walking"
    assert "astronaut.safetensors" in [entry["name"] for entry in manifest(out / "astronaut")["inputs"]]


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no object file"):
        objects(tmp_path)
    with pytest.raises(InputError, match="nowhere holds no object file"):
        objects(tmp_path / "nowhere")
    for name in ("a.glb", "a.obj", "b.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="two objects called a"):
        objects(tmp_path)
    (tmp_path / "a.obj").unlink()
    assert [path.name for path in objects(tmp_path)] == ["a.glb"] and read_prompts(tmp_path) == {}
    for text in ("{", "[1]", '{"a": 1}'):
        (tmp_path / "prompts.json").write_text(text)
        with pytest.raises(InputError, match=r"prompts\.json cannot be used"):
            read_prompts(tmp_path)
