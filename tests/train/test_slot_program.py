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

from eval import training_log
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
    rows = training_log.read(back / "log.jsonl")
    assert rows == steps and training_log.curve(rows)[-1][0] == calls[1]["trained"]["step"]
    assert 3600 * training_log.hours(rows) == pytest.approx(calls[1]["trained"]["seconds"], rel=0.2, abs=2)

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


@pytest.fixture(scope="module")
def tiny() -> SlotConfig:
    now = ["data.rigs=null", "slot.sheet_seconds=1e-9", "slot.log_seconds=1e-9"]  # a look after every step
    return load_config(SlotConfig, REPO / "train/configs/slot.yaml", [*TINY, *now])


def quick(training: SlotTraining, steps: int, monkeypatch, seconds: float = 0.0, loss: float = 1.0) -> None:
    """Makes a training do so many steps that compute nothing, half of its time before the last."""

    def step(clips, size, stage):
        nonlocal steps
        steps -= 1
        time.sleep(seconds)
        clips.place += size
        training.total = 1e-9 if steps == 0 else 1e9
        return torch.tensor([loss, 2.0, 1.0])

    monkeypatch.setattr(training, "_step", step)
    training.total = 1e9


def raising(*_, **__):
    raise RuntimeError("no such thing here")


LOOKS = {  # where it fails, the part that is told, and what comes all the same
    "train.slot_evaluate.HeldOut.losses": ("evaluation", {"model"}),
    "train.slot_evaluate.HeldOut.samples": ("evaluation", {"model"}),
    "train.slot_train.write_contact_sheet": ("evaluation", {"model"}),
    "t4d.diffusion.model.VideoModel.save": ("saving the model", {"sheet.png"}),
    "": ("hand-over", {"model", "sheet.png"}),
}


@pytest.mark.parametrize("where", LOOKS)
def test_a_failing_look_is_told_and_does_not_end_the_training(tiny, tmp_path: Path, monkeypatch, where):
    part, there = LOOKS[where]
    told, kept = [], []
    handed = kept.append if where else raising
    training = SlotTraining(tiny, tmp_path, torch.device("cpu"), 60.0, handed, told.append)
    quick(training, 3, monkeypatch)
    before = {name: value.clone() for name, value in training.objective.trained.items()}
    if where:
        monkeypatch.setattr(where, raising)
    training.train(time.monotonic() + 500)
    assert training.at.step == 3 and told == [part] * 3 and len(kept) == (3 if where else 0)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    failed = [row for row in rows if "failed" in row]
    assert [row["step"] for row in failed] == [1, 2, 3] and [row["step"] for row in rows if "diff" in row] == [1, 2, 3]
    assert failed[0] == {"failed": part, "step": 1, "error": "RuntimeError: no such thing here"}
    assert [path.name for path in training.checkpoints.complete()] == ["step_00000003"]
    assert {name for name in ("model", "sheet.png") if (tmp_path / name).exists()} == there
    # neither the averages nor evaluation's mode stay behind
    assert training.objective.training and all(torch.equal(v, before[n]) for n, v in training.objective.trained.items())


def test_a_loss_that_is_not_finite_ends_the_training(tiny, tmp_path: Path, monkeypatch):
    training = SlotTraining(tiny, tmp_path, torch.device("cpu"), 60.0)
    quick(training, 3, monkeypatch, loss=float("nan"))
    with pytest.raises(InputError, match="The loss of step 1 is not finite"):
        training.train(time.monotonic() + 500)
    assert not training.checkpoints.complete()


def test_a_call_goes_on_from_what_a_kill_left(tiny, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("train.slot_evaluate.HeldOut.losses", raising)  # not what is looked at here
    training = SlotTraining(tiny, tmp_path, torch.device("cpu"), 60.0)
    quick(training, 2, monkeypatch)
    training.train(time.monotonic() + 500)
    positions, log = tmp_path / "position.jsonl", tmp_path / "log.jsonl"
    whole = positions.read_text(), log.read_text()
    # killed while it wrote the position of step 3, after lines of steps that no checkpoint holds
    positions.write_text(whole[0] + '{"step": 3, "sec')
    log.write_text(whole[1] + '{"step": 3, "diff": 7.0}\n{"evaluation": {"step": 3}}\n{"step": 4, "di')
    again = SlotTraining(tiny, tmp_path, torch.device("cpu"), 60.0)
    assert again.at == training.at and again.at.step == 2
    assert (positions.read_text(), log.read_text()) == whole
    quick(again, 1, monkeypatch)
    again.train(time.monotonic() + 500)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows if "diff" in row] == [1, 2, 3] and rows[-1]["step"] == 3
    assert [json.loads(line)["step"] for line in positions.read_text().splitlines()] == [1, 2, 3]

    positions.write_text("")
    kept = log.read_text() + "half"
    log.write_text(kept)
    with pytest.raises(InputError, match=r"position.jsonl does not tell when step 3 was; give another --out"):
        SlotTraining(tiny, tmp_path, torch.device("cpu"), 60.0)
    assert log.read_text() == kept  # nothing is cut where nothing goes on


def test_its_log_gives_hours_and_memory_is_measured_anew(tiny, tmp_path: Path, monkeypatch):
    seldom = tiny.slot.model_copy(update={"sheet_seconds": 1e6, "log_seconds": 1e6})
    seen = []
    monkeypatch.setattr("train.slot_memory.PeakMemory.begin", lambda self: seen.append(training.at.step))
    training = SlotTraining(tiny.model_copy(update={"slot": seldom}), tmp_path, torch.device("cpu"), 60.0)
    training.held_out.losses = raising
    stages = iter([1, 1, 2, 2, 2])  # the first is looked at before the first step
    stage = Curriculum(until=1, views=1, frames=3, batch=1)
    monkeypatch.setattr("train.slot_train.stage_at", lambda *_: stage.model_copy(update={"views": next(stages)}))
    quick(training, 4, monkeypatch, seconds=0.25)
    training.train(time.monotonic() + 500)
    assert seen == [0, 1]  # one view, then two
    training.keep()
    assert seen == [0, 1, 4]
    rows = training_log.read(tmp_path / "log.jsonl")
    assert (
        training_log.curve(rows) == [(4, 1.0, 0.5)]
        and training_log.left_out(training_log.NAME.match("stage1"), rows) == ""
    )
    assert 3600 * training_log.hours(rows) == pytest.approx(training.at.seconds, abs=0.5) and training.at.seconds >= 1


def test_a_call_tells_what_failed_and_keeps_measurements_out_of_what_comes_back(tmp_path: Path, monkeypatch):
    options = {"config": REPO / "train/configs/slot.yaml", "out": tmp_path / "run", "back": tmp_path / "back"}
    options |= {"minutes": 9.0, "train_minutes": 1e-4, "finish_minutes": 1.0, "check_only": False, "no_bench": False}
    folders = []
    monkeypatch.setattr("train.slot_call.measure", lambda device, folder, end: folders.append(folder) or raising())
    monkeypatch.setattr("train.slot_evaluate.HeldOut.samples", raising)
    with pytest.raises(InputError, match=r"2 part\(s\) of the slot failed; see results.json"):
        # one evaluation, at the end, however slow the machine is
        call(Namespace(**options, overrides=["data.rigs=null", *TINY, "slot.sheet_seconds=3600"]), time.monotonic())
    told = json.loads((tmp_path / "back" / "results.json").read_text())["calls"][0]
    assert [error["part"] for error in told["errors"]] == ["evaluation", "measurements"]
    assert all("no such thing here" in error["error"] for error in told["errors"])
    assert told["progress"] == 1 and told["trained"]["step"] > 0 and told["evaluations"] == []
    assert folders == [tmp_path / "run" / "bench"]
    names = sorted(path.name for path in (tmp_path / "back").iterdir())
    assert names == ["log.jsonl", "model-1-of-1.tar", "results.json"]  # the weights come without their figures


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
