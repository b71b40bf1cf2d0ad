"""The slot's command as it will be typed, with a tiny network and seconds instead of minutes."""

import json
import os
import subprocess
import sys
import tarfile
import time
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml

from t4d.diffusion.model import VideoModel
from t4d.errors import InputError
from t4d.paths import REPO
from train.config import Curriculum, load_config
from train.ship import ship
from train.slot_back import send
from train.slot_call import call
from train.slot_clips import SlotClips
from train.slot_config import SlotConfig
from train.slot_train import SlotTraining

TINY = [
    *("model.block_out_channels=[16,32]", "model.layers_per_block=1", "model.norm_num_groups=8"),
    *("model.num_attention_heads=2", "model.motion_num_attention_heads=2", "model.kv_pool=[2,1]"),
    "model.motion_mean={width: 16, layers: 1, heads: 2, frames: 3}",
    *("text.width=32", "text.pooled=32", "image.width=16", "data.views=2", "data.frames=3"),
    *("slot.workers=0", "slot.chunk=1", "slot.batch=1", "slot.most=4", "slot.trial_steps=1", "slot.warm_steps=1"),
    *("slot.held_out=2", "slot.sampled=1", "slot.sample_steps=2", "slot.log_seconds=0.001", "slot.sheet_seconds=2"),
    "curriculum=[{until: 0.2, views: 1, frames: 3, batch: 1}]",
]


def slot(out: Path, back: Path, *more: str, train: float) -> subprocess.CompletedProcess:
    """Runs the program."""
    command = [sys.executable, "train/slot.py", "--config", "train/configs/slot.yaml", "--out", str(out)]
    command += ["--back", str(back), "--minutes", "4", "--train-minutes", str(train), *more, *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_two_calls_are_one_training(tmp_path: Path):
    out, back = tmp_path / "run", tmp_path / "back"
    first = slot(out, back, train=0.03)
    assert first.returncode == 0, first.stderr[-3000:]
    trained = json.loads((back / "results.json").read_text())["calls"][0]["trained"]["seconds"]
    second = slot(out, back, train=2 * trained / 60)  # on a busy machine one step may have taken all of the time
    assert second.returncode == 0, second.stderr[-3000:]

    calls = json.loads((back / "results.json").read_text())["calls"]
    assert len(calls) == 2 and all(c["errors"] == [] for c in calls)
    assert all(c["check"]["agrees"] and c["check"]["renderer"] == "device" for c in calls)
    assert [c["progress"] for c in calls] == [1, 1] and calls[1]["bench"] == {"left_out": "no CUDA device"}
    assert calls[0]["trained"]["seconds"] == trained >= 1.8 and calls[1]["trained"]["seconds"] >= 2 * trained
    assert calls[1]["trained"]["step"] > calls[0]["trained"]["step"] > 0
    assert {"far_loss_999", "sample_gain", "sample_map"} <= calls[1]["evaluations"][-1].keys()
    assert "procedural objects" in calls[1]["held_out"]

    lines = [json.loads(line) for line in (back / "log.jsonl").read_text().splitlines()]
    starts = [line for line in lines if line.get("event") == "start"]
    assert [s["step"] for s in starts] == [0, calls[0]["trained"]["step"]]
    assert starts[1]["place"] == calls[0]["trained"]["place"]  # the clips go on, none comes twice
    steps = [line for line in lines if "diff" in line]
    assert steps[0]["views"] == 1 and steps[-1]["views"] == 2  # the curriculum went by time
    assert steps[-1]["clips"] == calls[1]["trained"]["place"]

    names = sorted(path.name for path in back.iterdir())
    assert names == ["log.jsonl", "model-1-of-1.tar", "results.json", "sheet.png"]
    with tarfile.open(back / "model-1-of-1.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    assert (tmp_path / "config.yaml").is_file()
    model = VideoModel.load(tmp_path / "model")
    assert model.meta["steps"] == calls[1]["trained"]["step"] and model.label == "mini v4"
    assert model.scheduler_config["rescale_betas_zero_snr"] is True


def test_the_motion_mean_learns_from_its_own_error_too(tmp_path: Path):
    config = load_config(SlotConfig, REPO / "train" / "configs" / "slot.yaml", [*TINY, "mean_weight=0.25"])
    training = SlotTraining(config, tmp_path, torch.device("cpu"), 60.0)
    trained = training.objective.trained["unet.expected_motion.head.bias"]
    before = training.objective.forward

    def forward(batch):
        return before(batch) | {"diff": 0 * trained.sum(), "mean": 8 * trained.sum()}

    training.objective.forward = forward
    *_, norm = training._step(
        SlotClips(config, torch.device("cpu"), 1, 0), 1, Curriculum(until=1, views=1, frames=3, batch=1)
    )
    assert float(norm) == pytest.approx(0.25 * 8 * len(trained) ** 0.5, rel=1e-4)


def test_what_comes_back_can_be_shipped_and_bad_weights_do_not_replace_it(tmp_path: Path):
    out, back = tmp_path / "run", tmp_path / "back"
    config = load_config(SlotConfig, REPO / "train/configs/slot.yaml", ["data.rigs=null", *TINY])
    training = SlotTraining(config, out, torch.device("cpu"), 60.0)
    (out / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    training.keep(steps=1)
    send(out, back)
    with tarfile.open(back / "model-1-of-1.tar") as archive:
        archive.extractall(back, filter="data")
    assert ship(back, tmp_path / "shipped").meta["steps"] == 0
    assert "far_loss_999" in (tmp_path / "shipped" / "training" / "stage1_0.jsonl").read_text()

    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with torch.no_grad():
        next(iter(training.objective.trained.values())).fill_(float("nan"))
    with pytest.raises(InputError, match="are not finite and are not kept"):
        training.keep(steps=1)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_bad_input_is_one_sentence(tmp_path: Path):
    options = {"config": REPO / "train/configs/slot.yaml", "out": tmp_path / "run", "back": tmp_path / "back"}
    options |= {"minutes": 1.0, "train_minutes": 1.0, "finish_minutes": 2.0, "check_only": False, "no_bench": True}
    with pytest.raises(InputError, match="leaves nothing beside --finish-minutes 2"):
        call(Namespace(**options, overrides=[]), time.monotonic())
    with pytest.raises(InputError, match="--train-minutes 0 "):
        call(Namespace(**{**options, "minutes": 3.0, "train_minutes": 0.0}, overrides=[]), time.monotonic())
    with pytest.raises(InputError, match="L_diff alone"):
        call(Namespace(**{**options, "minutes": 3.0}, overrides=["data.cache=somewhere"]), time.monotonic())
    done = slot(tmp_path / "run", tmp_path / "back", "--wheels", "tests/train", train=1)
    assert done.returncode == 1 and done.stderr.startswith("error: tests/train holds no wheels")
    assert len(done.stderr.strip().splitlines()) == 1
