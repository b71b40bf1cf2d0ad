"""The first guess over "still" by split and start, and what a memorising run knows by heart."""

import sys
from pathlib import Path
from typing import cast

import pytest
import torch
from mini_models import plain_mini
from mini_world import make_rigs

from eval import first_guess, memorised
from eval.memorised import angles
from eval.stage1_runs import train
from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.motion_mean import MotionMean
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import save_module
from t4d.geometry.camera import network_camera, orbit_camera
from t4d.paths import REPO


def test_a_network_that_predicts_no_motion_scores_one(tmp_path: Path):
    model = plain_mini()
    with torch.no_grad():
        for parameter in model.unet.conv_out.parameters():
            parameter.zero_()
    rigs = make_rigs(tmp_path / "rigs")
    data = ClipDataset(rigs, split="far", side=64, views=2, frames=5, grid=0, procedural_fraction=0, exclude=())
    sums = first_guess.measure(model, data, 2)
    assert set(sums) == {"a/dog.glb"}
    still, *losses = sums["a/dog.glb"]
    assert still > 0.01 and losses == pytest.approx([still] * 3, rel=1e-5)


@pytest.mark.slow
def test_table_of_first_guesses(tmp_path: Path, monkeypatch, capsys):
    rigs = make_rigs(tmp_path / "rigs")
    monkeypatch.setattr(first_guess, "SPLITS", ("near", "far"))
    monkeypatch.setattr(sys, "argv", ["first_guess", "--rigs", str(rigs), "--clips", "1"])
    first_guess.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(row[0].strip(), row[1].strip()) for row in rows] == [
        (split, start) for split in ("near", "far") for start in ("rest", "middle")
    ]
    stills = [row[3] for row in rows]
    assert stills[0] != stills[1] and stills[2] != stills[3]  # another start is another clip
    # the nearer to the clip the input is, the less is left to guess
    for row in rows:
        ratios = [float(cell.split()[0]) for cell in row[4:]]
        assert ratios[0] > ratios[1] > ratios[2] > 0


@pytest.mark.slow
def test_the_motion_mean_is_measured_alone(tmp_path: Path, monkeypatch, capsys):
    config = cast(MultiViewMotionUNet, VideoModel.load("mini").unet).config
    names = ("out_channels", "cond_concat_channels", "cross_attention_dim", "text_pooled_dim", "camera_embedding_dim")
    mean = MotionMean(*(config[name] for name in names), width=16, layers=1, heads=2, frames=16)
    torch.nn.init.constant_(mean.head.bias, 0.5)
    save_module(mean, tmp_path / "mean")
    monkeypatch.setattr(first_guess, "SPLITS", ("far",))
    plain_mini().save(tmp_path / "plain")
    options = ["--weights", str(tmp_path / "plain"), "--rigs", str(make_rigs(tmp_path / "rigs")), "--clips", "1"]
    options += ["--motion-mean", str(tmp_path / "mean")]
    monkeypatch.setattr(sys, "argv", ["first_guess", *options])
    first_guess.main()
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines()[2:]]
    for row in rows:
        found, *later = [float(cell.split()[0]) for cell in row[4:]]
        assert found != pytest.approx(1, abs=0.01) and later == [found] * 2
    monkeypatch.setattr(sys, "argv", ["first_guess", *options[:-1], str(tmp_path / "rigs")])
    with pytest.raises(SystemExit):
        first_guess.main()
    assert "No MotionMean found" in capsys.readouterr().err


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 15), (90, 0), (200, 28.5), (-45, 60)])
def test_angles_of_a_network_camera(azimuth: float, elevation: float):
    found, around = angles(network_camera(orbit_camera(azimuth, elevation, width=8, height=6)))
    assert found == pytest.approx(elevation, abs=1e-4) and around % 360 == pytest.approx(azimuth % 360, abs=1e-4)


@pytest.mark.slow
def test_a_short_run_is_judged(tmp_path: Path, monkeypatch, capsys):
    run = tmp_path / "run"
    short = {"optim.steps": 2, "optim.batch": 1, "data.clips": 2, "data.procedural_fraction": 1, "data.workers": 0}
    stage = [{"until": 1.0, "views": 1, "frames": 16, "batch": 1}]
    train(REPO / "train/configs/memory.yaml", run, {**short, "curriculum": stage, "log_steps": 1})
    monkeypatch.setattr(sys, "argv", ["memorised", str(run), "--steps", "2"])
    memorised.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[-1].startswith("| mean | ")
    for line in lines[2:4]:
        sample, copy, exact = (float(cell) for cell in line.split("|")[3:6])
        assert exact > copy and 0 < sample < exact  # two steps teach nothing
    assert (run / "memorised.png").is_file()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("clips: 2", "clips: 0"))
    with pytest.raises(SystemExit):
        memorised.main()
    assert "endless" in capsys.readouterr().err


@pytest.mark.parametrize("program", [first_guess, memorised])
def test_no_clips_are_refused(program, tmp_path: Path, monkeypatch, capsys):
    place = ["--rigs", str(tmp_path)] if program is first_guess else [str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["program", *place, "--clips", "0"])
    with pytest.raises(SystemExit):
        program.main()
    assert "--clips is 0" in capsys.readouterr().err
