"""Held-out clips that the motion mean's program judges."""

from pathlib import Path

import pytest
import torch
from mini_world import make_rigs
from torch import nn

from t4d.diffusion.model import VideoModel
from t4d.errors import InputError
from train.config import DataConfig, MotionMeanConfig, OptimConfig
from train.motion_mean import held_out, recipe, train


def settings(pool: Path, **data) -> MotionMeanConfig:
    optim = OptimConfig(steps=1, batch=1, lr=1e-3)
    own = DataConfig(**{"views": 2, "frames": 3, "verbs": ("walk", "run"), "mirror": 0.0, "speed": 0.0, **data})
    return MotionMeanConfig(weights="mini", pool=pool, optim=optim, data=own, held_out=3)


def test_rigs_of_both_splits_from_both_starts(tmp_path: Path):
    config = settings(tmp_path / "pool", rigs=make_rigs(tmp_path / "rigs"))
    autoencoder = VideoModel.load("mini").autoencoder
    assert isinstance(autoencoder, nn.Module)
    found = held_out(config, autoencoder)
    assert sorted(found) == ["far_middle", "far_rest", "near_middle", "near_rest"]
    for name, pool in found.items():
        assert len(pool) == 3 and pool.latents.shape == (3, 2, 3, 8, 8, 8)
        assert all(("dog" if "far" in name else "wolf") in caption for caption in pool.captions), name
        assert pool.latents[:, :, 1:].any()
    assert not torch.equal(found["near_rest"].references, found["near_middle"].references)
    again = held_out(config, autoencoder)  # kept
    assert torch.equal(again["far_rest"].latents, found["far_rest"].latents)
    assert held_out(settings(tmp_path / "pool"), autoencoder) == {}


def test_other_rigs_are_other_clips(tmp_path: Path):
    rigs = make_rigs(tmp_path / "rigs")
    with_rigs, without = (recipe(settings(tmp_path, rigs=x)) for x in (rigs, None))
    assert with_rigs["data"]["rigs"] and not without["data"]["rigs"]
    (rigs / "more.npz").write_bytes(b"1")
    assert recipe(settings(tmp_path, rigs=rigs)) != with_rigs
    # where rigs lie and who renders does not matter
    assert recipe(settings(tmp_path, workers=3)) == without


def test_stored_clips_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="unset data"):
        train(settings(tmp_path, cache=tmp_path), tmp_path / "run", "latest", 1.0)
