"""Stage One's program: it runs, resumes exactly, learns, and ships a model that the sampler takes."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.errors import InputError
from t4d.geometry.camera import rig
from t4d.paths import REPO
from train.config import OptimConfig, StageOneTrainConfig, load_config
from train.stage1 import draw, stage_at, step_indices

CONFIG = REPO / "train" / "configs" / "mini_smoke.yaml"


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("autoencoder")
    ReferenceAutoencoder(widths=(8, 8, 8)).save_pretrained(folder)
    return folder


def train(out: Path, autoencoder: Path, *more: str, launcher: bool = False) -> list[dict]:
    """Runs the program in a process of its own and returns the log's rows of steps."""
    program = [sys.executable, "-m", "accelerate.commands.launch"] if launcher else [sys.executable]
    flags = ["--cpu", "--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    arguments = ["train/stage1.py", "--config", str(CONFIG), "--out", str(out), f"autoencoder={autoencoder}", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    command = program + (flags if launcher else []) + arguments
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "step" in row]


def test_stop_and_resume_equals_an_uninterrupted_run(autoencoder, tmp_path):
    whole = train(tmp_path / "whole", autoencoder, launcher=True)
    train(tmp_path / "parts", autoencoder, "--max-minutes", "0")  # stops after its first step
    parts = train(tmp_path / "parts", autoencoder)
    assert [row["step"] for row in parts] == [row["step"] for row in whole] == [1, 2, 3, 4]
    assert [row["loss"] for row in parts] == [row["loss"] for row in whole]
    for name in ("weights", "ema"):
        a, b = (load_file(tmp_path / run / "checkpoint" / f"{name}.safetensors") for run in ("whole", "parts"))
        assert a.keys() == b.keys()
        assert all(torch.equal(a[n], b[n]) for n in a), name
    assert len({row["loss"] for row in whole}) == 4

    model = VideoModel.load(tmp_path / "whole" / "model")
    views, cameras = torch.rand(2, 4, 64, 64), rig(azimuths=(0, 90), width=64, height=64)
    clip = [state.clip_rgba for state in sample_clip(model, views, cameras, "a fox runs", frames=3, steps=2)][-1]
    assert clip is not None and clip.shape == (2, 3, 4, 64, 64) and torch.isfinite(clip).all()
    assert model.label == "smoke" and model.prediction_type == "sample"
    assert (tmp_path / "whole" / "sheet_000004.png").stat().st_size > 0


def config(**more) -> StageOneTrainConfig:
    stages = [{"until": 0.5, "views": 2, "frames": 3, "batch": 4}]
    return StageOneTrainConfig(optim=OptimConfig(steps=6, batch=1, lr=1e-3), curriculum=stages, **more)  # type: ignore[arg-type]


def test_the_curriculum_uses_every_clip_once():
    c = config()
    assert [stage_at(s, c).batch for s in range(6)] == [4, 4, 4, 1, 1, 1]
    alone = [i for indices in step_indices(0, c, 0, 1) for i in indices]
    assert alone == list(range(15))
    shared = [i for rank in (0, 1) for indices in step_indices(0, c, rank, 2) for i in indices]
    assert sorted(shared) == list(range(30))
    assert list(step_indices(2, c, 0, 1)) == list(step_indices(0, c, 0, 1))[2:]


def test_draws_keep_pictures_flow_and_cameras_together():
    clip = {
        "rgba": torch.arange(4.0).view(1, 4, 1, 1, 1, 1).expand(2, 4, 5, 4, 8, 8),
        "flow": torch.arange(4.0).view(1, 4, 1, 1, 1, 1).expand(2, 4, 5, 2, 4, 4),
        "cameras": torch.arange(4.0).view(1, 4, 1).expand(2, 4, 16),
        "caption": ["a", "b"],
    }
    turned = set()
    for seed in range(20):
        g = torch.Generator().manual_seed(seed)
        found = draw(clip, stage_at(0, config()), config(text_dropout=0.5), g)
        assert found["rgba"].shape[:3] == (2, 2, 3) and found["cameras"].shape == (2, 2, 16)
        views, cameras = found["rgba"][0, :, 0, 0, 0, 0], found["cameras"][0, :, 0]
        assert torch.equal(found["flow"][0, :, 0, 0, 0, 0], views)
        turn = (cameras - views) % 4
        assert (turn == turn[0]).all()  # one turn for all views
        turned.add(int(turn[0]))
        assert set(found["captions"]) <= {"a", "b", ""}
    assert len(turned) > 1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [(["optim.lr"], "has no '='"), (["optim.lr=-1"], "optim.lr"), (["no_such=1"], "no_such")],
)
def test_bad_settings_are_named(overrides, words):
    with pytest.raises(InputError, match=words):
        load_config(StageOneTrainConfig, CONFIG, overrides)


def test_warm_up_and_cosine():
    o = OptimConfig(steps=100, batch=1, lr=1.0, warmup=10)
    rates = [o.lr_at(s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[10] == pytest.approx(1.0)
    assert all(a > b for a, b in pairwise(rates[10:])) and rates[-1] == pytest.approx(0.02, abs=1e-3)
    assert OptimConfig(steps=100, batch=1, lr=1.0, warmup=10, schedule="constant_with_warmup").lr_at(99) == 1.0
