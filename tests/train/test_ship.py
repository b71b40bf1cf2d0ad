"""A trained run becomes a model folder: the same networks, every run's record, and nothing of the machine's paths."""

import json
from pathlib import Path
from typing import cast

import pytest
import torch
import yaml
from stage1_program import SMOKE
from torch import nn

from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.diffusion.weights import save_module
from t4d.errors import InputError
from t4d.geometry.camera import rig
from train import ship as program
from train.config import StageOneTrainConfig, load_config
from train.networks import build
from train.ship import ship


def tiny(seed: int, label: str) -> VideoModel:
    """A network whose output is not zero."""
    torch.manual_seed(seed)
    model = build(load_config(StageOneTrainConfig, SMOKE, [f"label={label}"]))
    with torch.no_grad():
        for value in model.unet.parameters():
            value.add_(0.05 * torch.randn(value.shape))
    return model


def write_run(folder: Path, model: VideoModel | None, steps: list[int]) -> Path:
    """A finished run's folder; paths in it are of some machine."""
    folder.mkdir()
    if model is not None:
        model.save(folder / "model")
    config = {"out": str(folder), "seed": 0, "weights": "/somewhere/runs/base", "data": {"rigs": "/somewhere/rigs"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"event": "start", "config": config}, *({"step": step, "loss": 1.0 / step} for step in steps)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def clip_of(model: VideoModel) -> torch.Tensor:
    """What the model makes of two pictures in one step."""
    pictures = torch.rand((2, 4, 64, 64), generator=torch.Generator().manual_seed(0))
    *_, last = sample_clip(model, pictures, rig(azimuths=[0, 90], width=64, height=64), "a dog runs", frames=3, steps=1)
    assert last.clip_rgba is not None
    return torch.cat([last.latents.flatten(), last.clip_rgba.flatten()])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, Path]:
    """A run and the one that it started from."""
    folder = tmp_path_factory.mktemp("runs")
    before = write_run(folder / "first", None, [1, 2])
    return before, write_run(folder / "second", tiny(0, "mini v7"), [3])


def test_what_is_shipped_is_the_run_and_its_whole_record(runs, tmp_path, monkeypatch, capsys):
    before, run = runs
    out = tmp_path / "mini"
    monkeypatch.setattr("sys.argv", ["ship", str(run), "--before", str(before), "--out", str(out)])
    program.main()
    printed = capsys.readouterr().out
    assert printed.startswith("mini v7: ") and "NOTE" in printed  # there is no card
    assert not (tmp_path / "mini.part").exists()
    shipped, trained = VideoModel.load(out), VideoModel.load(run / "model")
    assert shipped.label == "mini v7" and shipped.meta == trained.meta
    found = clip_of(shipped)
    assert found.std() > 0 and torch.equal(found, clip_of(trained))
    logs = out / "training"
    assert {path.name for path in logs.iterdir()} == {
        f"stage1_{i}.{kind}" for i in (0, 1) for kind in ("jsonl", "yaml")
    }
    rows = [[json.loads(line) for line in (logs / f"stage1_{i}.jsonl").read_text().splitlines()] for i in (0, 1)]
    assert [row["step"] for row in rows[0][1:] + rows[1][1:]] == [1, 2, 3]  # oldest first, nothing left out
    assert rows[1][0]["config"]["weights"] == "base" and rows[1][0]["config"]["data"]["rigs"] == "rigs"
    assert all(
        "/somewhere" not in path.read_text() and str(tmp_path) not in path.read_text() for path in logs.iterdir()
    )

    (out / "MODEL_CARD.md").write_text("# mini v7")
    program.main()  # the same version again replaces its own record
    assert "NOTE" not in capsys.readouterr().out and len(list(logs.iterdir())) == 4


def test_an_earlier_versions_logs_are_kept_under_its_name(runs, tmp_path):
    out = tmp_path / "mini"
    ship(write_run(tmp_path / "old", tiny(1, "mini v6"), [9]), out)
    for name in ("words.jsonl", "autoencoder.jsonl", "v5_stage1.jsonl"):
        (out / "training" / name).write_text(name)
    (out / "MODEL_CARD.md").write_text("# mini v6")
    old = (out / "training" / "stage1_0.jsonl").read_text()
    model = ship(runs[1], out, guidance=1.5, label="mini v8, words follow", truncation=0.6)
    kept = {path.name for path in (out / "training").iterdir()}
    assert kept == {
        *("stage1_0.jsonl", "stage1_0.yaml", "v6_stage1_0.jsonl", "v6_stage1_0.yaml", "v6_words.jsonl"),
        *("autoencoder.jsonl", "v5_stage1.jsonl"),  # the autoencoder is still that one
    }
    assert (out / "training" / "v6_stage1_0.jsonl").read_text() == old
    again = VideoModel.load(out)
    assert again.label == model.label == "mini v8, words follow" and again.guidance == 1.5
    assert again.meta["truncation"] == 0.6
    assert (out / "MODEL_CARD.md").read_text() == "# mini v6"  # by hand


def test_logs_of_labels_without_a_version_are_kept(runs, tmp_path):
    out = tmp_path / "mini"
    ship(write_run(tmp_path / "fox", tiny(1, "my fox model"), [9]), out)
    ship(write_run(tmp_path / "crab", tiny(2, "my crab model"), [4]), out)
    logs = {path.name: path.read_text() for path in (out / "training").glob("*.jsonl")}
    assert logs.keys() == {"stage1_0.jsonl", "earlier_stage1_0.jsonl"}
    assert '"step": 9' in logs["earlier_stage1_0.jsonl"] and '"step": 4' in logs["stage1_0.jsonl"]


def test_the_motion_means_log_is_named_after_its_program(runs, tmp_path):
    mean, out = write_run(tmp_path / "mean", None, [5]), tmp_path / "mini"
    first, *rows = (mean / "log.jsonl").read_text().splitlines()
    (mean / "log.jsonl").write_text("\n".join([json.dumps({**json.loads(first), "program": "motion_mean"}), *rows]))
    ship(runs[1], out, [runs[0], mean])
    logs = out / "training"
    names = {path.stem for path in logs.iterdir()}
    assert names == {"stage1_0", "motion_mean_1", "stage1_2"}
    assert '"step": 5' in (logs / "motion_mean_1.jsonl").read_text()
    ship(runs[1], out)  # the same version again leaves nothing of it
    assert {path.stem for path in logs.iterdir()} == {"stage1_0"}


def test_a_later_autoencoder_takes_its_place_if_its_latents_are_the_same(runs, tmp_path):
    out = tmp_path / "mini"
    ship(runs[1], out)
    (out / "training" / "autoencoder.jsonl").write_text("of the old one")
    later = write_run(tmp_path / "later", None, [5])
    network = cast(nn.Module, VideoModel.load(runs[1] / "model").autoencoder)
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(1.01)
    save_module(network, later / "autoencoder")
    ship(runs[1], out, autoencoder=later, label="mini v8")
    logs = out / "training"
    assert (logs / "v7_autoencoder.jsonl").read_text() == "of the old one"
    assert '"step": 5' in (logs / "autoencoder.jsonl").read_text() and (logs / "mini_autoencoder.yaml").is_file()
    shipped, trained = VideoModel.load(out), VideoModel.load(runs[1] / "model")
    assert all(torch.equal(a, b) for a, b in zip(shipped.unet.parameters(), trained.unet.parameters()))
    assert not torch.equal(clip_of(shipped), clip_of(trained))

    config = json.loads((later / "autoencoder" / "config.json").read_text())
    (later / "autoencoder" / "config.json").write_text(json.dumps({**config, "latent_scale": 2.5}))
    with pytest.raises(InputError, match="has latent_scale 2"):
        ship(runs[1], out, autoencoder=later)


def test_what_cannot_be_shipped_changes_nothing(runs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "mini"
    ship(runs[1], out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    bad = tiny(2, "mini v9")
    with torch.no_grad():
        next(bad.unet.parameters())[0] = float("nan")
    bare = tmp_path / "bare"
    bare.mkdir()
    broken = write_run(tmp_path / "broken", tiny(3, "mini v9"), [1])
    (broken / "log.jsonl").write_text('{"step": 1\n{"step": 2}\n')
    for run, told in (
        (bare, "has no log.jsonl"),
        (runs[0], "No video model was found"),
        (write_run(tmp_path / "nan", bad, [1]), "float16 cannot hold"),
        (broken, "Line 1 of"),
    ):
        monkeypatch.setattr("sys.argv", ["ship", str(run), "--out", str(out)])
        with pytest.raises(SystemExit) as stopped:
            program.main()
        assert str(stopped.value.code).startswith("error: ") and told in str(stopped.value.code)
    with pytest.raises(InputError, match="has no log"):
        ship(runs[1], out, before=[bare])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "mini.part").exists() and capsys.readouterr().out == ""
