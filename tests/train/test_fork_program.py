"""Forks: what the configuration may say, and a fork trained by the program from mini."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t4d.diffusion.checkpoints import is_delta
from t4d.diffusion.model import VideoModel
from t4d.errors import InputError
from t4d.paths import REPO
from train.config import StageOneTrainConfig, load_config
from train.fork import Fork, settled

CONFIG = REPO / "train" / "configs" / "fork.yaml"


def config(*overrides: str) -> StageOneTrainConfig:
    return load_config(StageOneTrainConfig, CONFIG, ["fork=mini", *overrides])


def test_a_fork_takes_from_its_base_what_is_not_set():
    meta = json.loads((REPO / "assets" / "weights" / "mini" / "model_index.json").read_text())
    found = settled(config())
    assert (found.weights, found.trainable) == ("mini", ("i2v", "motion_modules"))
    assert (found.prediction, found.shared_noise, found.guidance) == (
        meta["prediction_type"],
        meta["shared_noise"],
        meta["guidance"],
    )
    assert found.tracking.enabled and found.optim == config().optim
    assert settled(config("guidance=4")).guidance == 4
    assert settled(config("fork=public")).prediction == "epsilon"
    assert Fork.start(config()).base.label == meta["label"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["weights=public"], "remove weights"),
        (["trainable=[unet]"], "remove trainable"),
        (["autoencoder=runs/x"], "remove autoencoder"),
        (["model={block_out_channels: [8]}"], "remove model"),
        (["scheduler={beta_end: 0.02}"], "remove scheduler"),
        (["text_encoder=runs/x"], "remove text_encoder"),
        (["motion_mean=runs/x"], "remove motion_mean"),
        (["fork=runs/nowhere"], "No video model was found in runs/nowhere"),
    ],
)
def test_what_contradicts_the_base_is_refused(overrides, said):
    with pytest.raises(InputError, match=said):
        settled(config(*overrides))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["prediction=epsilon"], "predicts sample; set prediction=sample"),
        (["fork_type=fp16", "fork_megabytes=2"], r"takes 3\.1 MB as fp16 and fork_megabytes is 2; set fork_type=int8"),
    ],
)
def test_a_fork_that_cannot_be_shipped_is_refused_before_training(overrides, said):
    with pytest.raises(InputError, match=said):
        Fork.start(config(*overrides))


def test_the_program_trains_a_fork_and_base_plus_fork_is_its_average(tmp_path):
    size = ["data.side=64", "data.views=2", "data.frames=3", "data.workers=0", "sheet_clips=0"]
    command = [sys.executable, "train/stage1.py", "--config", CONFIG, "--fork", "mini", "--out", tmp_path, *size]
    command += ["optim.steps=2", "optim.batch=1", "optim.gradient_checkpointing=true", "log_steps=1"]
    done = subprocess.run([str(part) for part in command], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (tmp_path / "model").exists()
    fork: Path = tmp_path / "fork"
    assert sum(file.stat().st_size for file in fork.iterdir()) <= 4e6

    base, loaded = VideoModel.load("mini"), VideoModel.load("mini", fork)
    assert loaded.label == "mini fork" and loaded.meta["steps"] == 2
    average = load_file(next((tmp_path / "checkpoints").glob("step_*2")) / "ema.safetensors")
    before, after = ({n: p.detach() for n, p in m.unet.named_parameters()} for m in (base, loaded))
    assert {name.removeprefix("unet.") for name in average} == {name for name in before if is_delta(name)}
    moved = 0
    for name, value in before.items():
        if not is_delta(name):
            assert torch.equal(value, after[name]), name
            continue
        wanted = average[f"unet.{name}"]
        step = (wanted - value).abs().max() / 127  # no row's step is larger
        assert float((after[name] - wanted).abs().max()) <= float(step) / 2 + 1e-6, name
        moved += not torch.equal(after[name], value)
    assert moved > 0.9 * len(average)
