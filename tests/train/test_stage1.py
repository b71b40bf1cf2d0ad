"""Stage One's program: it runs, stops and goes on, refuses in sentences, and ships a model that the sampler takes."""

import math
import sys
from itertools import pairwise

import pytest
import torch
import yaml
from stage1_program import SMOKE, assert_same, checkpoints, rows, state, train

from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.errors import InputError
from t4d.geometry.camera import rig
from train import stage1 as program
from train.config import OptimConfig, StageOneTrainConfig, load_config
from train.runs import RunLog

LAUNCHER = ("--cpu", "--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")


def test_stop_and_resume_equals_an_uninterrupted_run(tmp_path, capsys):
    launch = (sys.executable, "-m", "accelerate.commands.launch", *LAUNCHER)
    whole = train(tmp_path / "whole", start=launch)
    train(tmp_path / "parts", "--max-minutes", "0", "sheet_clips=0")  # stops after its first step
    parts = train(tmp_path / "parts", "sheet_clips=0")
    assert [row["step"] for row in parts] == [1, 2, 3, 4] and parts == whole
    assert_same(state(tmp_path / "parts"), state(tmp_path / "whole"))
    assert len({row["loss"] for row in whole}) == 4
    for row in whole:
        total = row["diff"] + 0.1 * row["corr"] + 10 * row["pos"]  # the paper's weights of the three losses
        assert row["loss"] == pytest.approx(total, rel=1e-5)
        assert all(row[f"grad_{name}"] > 0 for name in ("diff", "corr", "pos"))
    assert [path.name for path in checkpoints(tmp_path / "parts")] == ["step_00000004"]  # the older one is gone

    model = VideoModel.load(tmp_path / "whole" / "model")
    views, cameras = torch.rand(2, 4, 64, 64), rig(azimuths=(0, 90), width=64, height=64)
    clip = [s.clip_rgba for s in sample_clip(model, views, cameras, "a fox runs", frames=3, steps=2)][-1]
    assert clip is not None and clip.shape == (2, 3, 4, 64, 64) and torch.isfinite(clip).all()
    assert model.label == "smoke" and model.prediction_type == "sample"
    assert (tmp_path / "whole" / "sheet_000004.png").stat().st_size > 0
    resolved = yaml.safe_load((tmp_path / "whole" / "config.yaml").read_text())
    assert StageOneTrainConfig.model_validate(resolved).tracking.points == 4

    # a run that has ended stays as it is, with the settings it was made with, and says so
    before, written = state(tmp_path / "whole"), (tmp_path / "whole" / "log.jsonl").read_text()
    again = load_config(StageOneTrainConfig, SMOKE, ["sheet_clips=0", "optim.lr=0.5"])
    capsys.readouterr()
    program.train(again, tmp_path / "whole", "latest", math.inf)
    assert "has all 4 steps of its run; give another folder" in capsys.readouterr().out
    assert_same(state(tmp_path / "whole"), before)
    assert (tmp_path / "whole" / "log.jsonl").read_text() == written
    assert yaml.safe_load((tmp_path / "whole" / "config.yaml").read_text()) == resolved


def test_without_tracking_losses_no_tracks_are_looked_at(tmp_path):
    off = ["tracking.lambda_corr=0", "tracking.lambda_pos=0", "optim.steps=1", "sheet_clips=0", "log_steps=20"]
    program.train(load_config(StageOneTrainConfig, SMOKE, off), tmp_path, "latest", math.inf)
    found = rows(tmp_path)
    assert len(found) == 1 and found[0]["step"] == 1  # the last step is always on record
    assert found[0]["loss"] == found[0]["diff"] and not {"corr", "pos", "grad_corr"} & found[0].keys()


def test_a_motion_mean_learns_beside_the_denoiser(tmp_path):
    own = ["model.motion_mean={width: 16, layers: 1, heads: 2, frames: 3}", "mean_weight=0.5", "optim.lr=0.01"]
    off = ["tracking.lambda_corr=0", "tracking.lambda_pos=0", "optim.steps=2", "sheet_clips=0"]
    program.train(load_config(StageOneTrainConfig, SMOKE, [*own, *off]), tmp_path, "latest", math.inf)
    found = rows(tmp_path)
    for row in found:
        assert row["loss"] == pytest.approx(row["diff"] + 0.5 * row["mean"], rel=1e-5)
        assert row["grad_mean"] > 0 and row["grad_mean_tap"] == 0  # of its own parameters only
    assert found[0]["mean"] == pytest.approx(found[0]["copy"], rel=1e-4)  # it starts as "nothing moves"
    assert found[1]["mean"] != pytest.approx(found[1]["copy"], rel=1e-6)


def test_epochs_and_a_network_that_recomputes(tmp_path):
    one = ("optim.steps=null", "optim.epochs=2", "data.clips=3", "optim.batch=2", "sheet_clips=0")
    plain = train(tmp_path / "plain", *one)
    assert len(plain) == 3  # two epochs of three clips by two
    again = train(tmp_path / "again", *one, "optim.gradient_checkpointing=true")
    for a, b in zip(plain, again):
        assert a == pytest.approx(b, rel=1e-4)
    assert rows(tmp_path / "again") == again


def test_a_half_written_line_of_the_log_does_not_stop_a_run_from_going_on(tmp_path):
    config = load_config(StageOneTrainConfig, SMOKE, [])
    RunLog(tmp_path, "stage1", config, 0, {}).write(1, {"loss": 1.0})
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 2, "lo')  # a power cut
    RunLog(tmp_path, "stage1", config, 1, {}).write(2, {"loss": 0.5})
    assert [(row["step"], row["loss"]) for row in rows(tmp_path)] == [(1, 1.0), (2, 0.5)]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optim.lr"], "has no '='"),
        (["optim.lr=["], r"'optim\.lr=\[' is not YAML"),
        (["seed=1", "seed.x=1"], "has no parts"),
        (["optim.lr=-1"], "optim.lr"),
        (["no_such=1"], "no_such"),
        (["optim.epochs=2"], "exactly one of steps and epochs"),
        (["optim.steps=null"], "exactly one of steps and epochs"),
    ],
)
def test_bad_settings_are_named(overrides, words):
    with pytest.raises(InputError, match=words):
        load_config(StageOneTrainConfig, SMOKE, overrides)


def test_warm_up_and_cosine():
    o = OptimConfig(steps=100, batch=1, lr=1.0, warmup=10)
    rates = [o.lr_at(s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[10] == pytest.approx(1.0)
    assert all(a > b for a, b in pairwise(rates[10:])) and rates[-1] == pytest.approx(0.02, abs=1e-3)
    assert OptimConfig(steps=100, batch=1, lr=1.0, warmup=10, schedule="constant_with_warmup").lr_at(99) == 1.0
