"""The motion mean's program: learns, resumes exactly, hands a model on to Stage One; its pool and its batches."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
import torch
from mini_models import plain_mini
from safetensors.torch import load_file
from torch import nn

from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.motion_mean import MotionMean
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import load_module
from t4d.errors import InputError
from t4d.paths import REPO
from train import motion_mean as program
from train.config import MotionMeanConfig, OptimConfig, StageOneTrainConfig, load_config
from train.mean_batch import drawn, recolored, whole
from train.motion_mean import Objective, judge
from train.networks import give_motion_mean
from train.objective import Objective as StageOneObjective
from train.optimisers import Optimisers
from train.pool import LatentPool
from train.runs import generator

SIZES = {"width": 16, "layers": 1, "heads": 2, "frames": 5}
V, T = 4, 5


def train(out: Path, pool: Path, *more: str) -> list[dict]:
    arguments = ["train/motion_mean.py", "--config", "train/configs/motion_mean.yaml", "--out", str(out)]
    arguments += [f"pool={pool}", "pool_clips=4", "pool_shard=2", f"data.frames={T}", "log_steps=1"]
    arguments += ["model={width: 16, layers: 1, heads: 2, frames: 5}", "optim.steps=3", "optim.batch=2", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if "diff" in row]


def test_stop_and_resume_equals_an_uninterrupted_run(tmp_path):
    pool, weights = tmp_path / "pool", f"weights={tmp_path / 'plain'}"
    plain_mini().save(tmp_path / "plain")
    whole_run = train(tmp_path / "whole", pool, weights)
    made = {path.name: path.stat().st_mtime_ns for path in pool.iterdir()}
    train(tmp_path / "parts", pool, weights, "--max-minutes", "0")
    parts = train(tmp_path / "parts", pool, weights)
    assert [row["diff"] for row in parts] == [row["diff"] for row in whole_run] and len(whole_run) == 3
    last = "checkpoints/step_00000003/weights.safetensors"
    a, b = (load_file(tmp_path / run / last) for run in ("whole", "parts"))
    assert a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
    assert made == {path.name: path.stat().st_mtime_ns for path in pool.iterdir()}  # rendered once

    # what Stage One goes on from: everything but the motion mean and the layers that meet it is as it was
    model, before = (VideoModel.load(tmp_path / name) for name in ("whole/model", "plain"))
    new, old = (cast(MultiViewMotionUNet, m.unet).state_dict() for m in (model, before))
    own = [n for n in new if n.startswith("expected_motion.")]
    assert own and any(new[n].any() for n in own if "head" in n)
    kept = [n for n in old if not n.startswith(("conv_in.weight", "conv_out.", "expected_"))]
    assert all(torch.equal(new[n], old[n]) for n in kept) and model.meta["motion_mean_steps"] == 3

    # and the motion mean alone, from which a run with another length can go on
    alone = load_module(MotionMean, tmp_path / "whole" / "motion_mean").state_dict()
    assert all(torch.equal(alone[n], new[f"expected_motion.{n}"]) for n in alone) and len(alone) == len(own)
    on = train(tmp_path / "on", pool, weights, f"motion_mean={tmp_path / 'whole' / 'motion_mean'}", "optim.steps=1")
    first = [row["copy"] == whole_run[0]["copy"] and row["diff"] != whole_run[0]["diff"] for row in on]
    assert first == [True]  # the same clips, a network that knows something
    refused = [f"weights={tmp_path / 'whole' / 'model'}", f"motion_mean={tmp_path / 'whole' / 'motion_mean'}"]
    with pytest.raises(AssertionError, match="already has a motion mean"):
        train(tmp_path / "refused", pool, *refused)
    with pytest.raises(AssertionError, match=r"'layers': 1.* set model to these"):
        train(tmp_path / "refused", pool, refused[0], "model.layers=2")
    # the checkpoint holds the mean alone, so it goes on with the base that it was trained on only
    other = VideoModel.load(tmp_path / "plain")
    other.label = "another base"
    other.save(tmp_path / "other")
    with pytest.raises(AssertionError, match="base"):
        train(tmp_path / "parts", pool, f"weights={tmp_path / 'other'}")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["optim.accumulate=4"], "optim.accumulate"),
        (["trackers=[trackio]"], "trackers"),
        (["data.frames=24"], "Clips have 24 frames and the motion mean 16"),
        (["pool_clips=700"], "no multiple of pool_shard, 500"),
    ],
)
def test_what_cannot_be_trained_is_told_before_anything_is_rendered(overrides, told, tmp_path):
    given = ["weights=mini", f"pool={tmp_path / 'pool'}", *overrides]
    config = load_config(MotionMeanConfig, REPO / "train" / "configs" / "motion_mean.yaml", given)
    with pytest.raises(InputError, match=told):
        program.train(config, tmp_path / "out", "latest", 1.0)
    assert not (tmp_path / "pool").exists()


@pytest.fixture(scope="module")
def model() -> VideoModel:
    found = plain_mini()
    give_motion_mean(found, SIZES)
    return found


@pytest.fixture(scope="module")
def clips(model, tmp_path_factory) -> LatentPool:
    source = ClipDataset(None, procedural_fraction=1.0, views=V, frames=T, grid=0, mirror=0.0)
    folder = tmp_path_factory.mktemp("pool")
    return LatentPool(folder, source, {"seed": 0}, cast(nn.Module, model.autoencoder), [0, 1], 3)


def test_the_residual_recipe_trains_everything_but_the_mean_and_the_words():
    recipe = load_config(StageOneTrainConfig, REPO / "train" / "configs" / "mini_residual.yaml", [])
    model = plain_mini()
    give_motion_mean(model, SIZES)
    objective = StageOneObjective(model, recipe)
    still = {"unet.expected_motion.": cast(MultiViewMotionUNet, model.unet).expected_motion}
    still |= {"text_encoder.": model.text_encoder}
    frozen = {prefix + name for prefix, part in still.items() for name, _ in cast(nn.Module, part).named_parameters()}
    every = {name for name, _ in objective.named_parameters()}
    assert frozen < every and objective.trained.keys() == every - frozen


def settings(**changes) -> MotionMeanConfig:
    optim = OptimConfig(steps=1, batch=6, lr=1e-3)
    return MotionMeanConfig(weights="mini", pool=Path("nowhere"), optim=optim, **changes)


def test_a_pool_holds_what_was_rendered(clips, model, tmp_path):
    assert len(clips) == 6 and clips.latents.shape == (6, V, T, 8, 8, 8)
    source = ClipDataset(None, procedural_fraction=1.0, views=V, frames=T, grid=0, mirror=0.0)
    item, batch = source[4], whole(clips, [4])
    assert batch.captions == [item["caption"]] and torch.equal(batch.cameras[0], item["cameras"])
    assert torch.allclose(batch.references[0], item["rgba"][:, 0], atol=0.002)
    assert not batch.latents[:, :, 0].any() and batch.latents[:, :, 1:].any()


def test_pools_of_other_clips_are_refused(model, tmp_path):
    source = ClipDataset(None, procedural_fraction=1.0, views=2, frames=3, grid=0)
    autoencoder = cast(nn.Module, model.autoencoder)
    LatentPool(tmp_path, source, {"seed": 0}, autoencoder, [0], 1)
    with pytest.raises(InputError, match="made with seed 0, this run has 1"):
        LatentPool(tmp_path, source, {"seed": 1}, autoencoder, [0], 1)
    with pytest.raises(InputError, match="no clips"):
        LatentPool(tmp_path, source, {"seed": 0}, autoencoder, [], 1)
    (tmp_path / "clips_000000.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="delete it"):
        LatentPool(tmp_path, source, {"seed": 0}, autoencoder, [0], 1)


def test_batches_are_a_function_of_their_key_and_do_what_they_say(clips):
    plain = settings(turn_views=0, text_dropout=0, recolor=0, fewer_views=0)
    a, b = (drawn(clips, plain, generator(1, 2)) for _ in range(2))
    assert torch.equal(a.latents, b.latents) and a.captions == b.captions
    known = [clips.latents[i].float() for i in range(len(clips))]
    assert all(any(torch.equal(z, k) for k in known) for z in a.latents)

    turned = drawn(clips, settings(turn_views=1, text_dropout=1, recolor=0, fewer_views=0), generator(1, 2))
    assert turned.captions == [""] * 6
    for z, picture in zip(turned.latents, turned.references):
        places = [
            (i, k) for i, other in enumerate(known) for k in range(1, V) if torch.equal(z, other.roll(k, 0))
        ]  # pictures go with their motion
        assert any(torch.equal(picture, clips.references[i].float().roll(k, 0) / 255) for i, k in places)

    few = drawn(clips, settings(fewer_views=1), generator(1, 3))
    assert few.latents.shape[1] in (1, 2) and few.references.shape[1] == few.cameras.shape[1] == few.latents.shape[1]


def test_other_colours_leave_shape_and_background(clips):
    picture = clips.references[0].float() / 255
    found = recolored(picture, generator(7))
    assert torch.equal(found[:, 3], picture[:, 3]) and not torch.allclose(found, picture, atol=0.02)
    assert found.min() >= 0 and found.max() <= 1
    empty = (picture[:, 3:] == 0).expand(-1, 3, -1, -1)
    assert torch.allclose(found[:, :3][empty], torch.tensor(0.5), atol=0.01)


def test_a_few_steps_learn_the_pool_by_heart(clips, model):
    objective = Objective(model, 0.3)
    before = judge(objective, clips)
    optimisers = Optimisers(objective, "blocks.", 0.0, 1.0)
    for _ in range(80):
        objective(whole(clips, range(6)))["diff"].backward()
        optimisers.step(1e-2)
    after = judge(objective, clips)
    assert before == 1 and after < 0.8
    assert all(
        p.grad is None for part in (model.autoencoder, model.text_encoder) for p in cast(nn.Module, part).parameters()
    )


def test_states_of_both_optimisers_are_kept():
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(4, 4)]), "head": nn.Linear(4, 2)})

    def step(module: nn.Module, optimisers: Optimisers) -> None:
        parts = cast(nn.ModuleDict, module)
        x = torch.linspace(-1, 1, 12).view(3, 4)
        parts["head"](torch.relu(cast(nn.ModuleList, parts["blocks"])[0](x))).square().sum().backward()
        optimisers.step(0.05)

    whole_run, first = network(), network()
    a, b = Optimisers(whole_run, "blocks.", 0.01, 0.5), Optimisers(first, "blocks.", 0.01, 0.5)
    assert [p.ndim for p in a.muon.param_groups[0]["params"]] == [2] and len(a.adamw.param_groups[0]["params"]) == 3
    for _ in range(2):
        step(whole_run, a)
        step(first, b)
    second = network()
    second.load_state_dict(first.state_dict())
    c = Optimisers(second, "blocks.", 0.01, 0.5)
    c.load_state_dict(b.state_dict())
    for _ in range(2):
        step(whole_run, a)
        step(second, c)
    assert all(torch.equal(p, q) for p, q in zip(whole_run.parameters(), second.parameters()))
