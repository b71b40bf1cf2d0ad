"""Which networks Stage One trains: settings that contradict each other are refused, none is passed over."""

import pytest
import torch
from torch import nn

from t4d.diffusion.motion_mean import MotionMean
from t4d.diffusion.weights import save_module
from t4d.errors import InputError
from t4d.paths import REPO
from train.config import StageOneTrainConfig, load_config
from train.networks import build

SMOKE = REPO / "train" / "configs" / "smoke.yaml"


def config(*overrides: str) -> StageOneTrainConfig:
    return load_config(StageOneTrainConfig, SMOKE, list(overrides))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["weights=mini"], "autoencoder and model and text and image are of new networks"),
        (["weights=mini", "autoencoder=null", "model={}", "image={}"], "text are of new networks"),
        (["motion_mean=/does/not/exist"], "No MotionMean found"),
    ],
)
def test_settings_that_would_be_passed_over_are_refused(overrides, told):
    with pytest.raises(InputError, match=told):
        build(config(*overrides))


def test_new_networks_get_the_motion_mean_that_is_named(tmp_path):
    plain = build(config())
    names = ("out_channels", "cond_concat_channels", "cross_attention_dim", "text_pooled_dim", "camera_embedding_dim")
    mean = MotionMean(*(plain.unet.config[name] for name in names), width=16, layers=1, heads=2, frames=16)  # type: ignore[index]
    nn.init.normal_(mean.head.weight)
    save_module(mean, tmp_path / "mean")
    found = build(config(f"motion_mean={tmp_path / 'mean'}")).unet.expected_motion
    assert isinstance(found, MotionMean) and torch.allclose(found.head.weight, mean.head.weight, atol=1e-2)
    with pytest.raises(InputError, match="already has a motion mean"):
        sized = "model.motion_mean={width: 16, layers: 1, heads: 2, frames: 16}"
        build(config(f"motion_mean={tmp_path / 'mean'}", sized))
