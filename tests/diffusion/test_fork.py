"""Forks: exactness, size, their base and nothing else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusion_dummies import Blocks, Letters, Pixel, small_unet, unet_inputs
from safetensors.torch import load_file, save_file

from t4d.diffusion.checkpoints import is_delta
from t4d.diffusion.fork import LEVELS, SCALE, ForkBase, load_fork, save_fork
from t4d.diffusion.model import VideoModel, fork_folder, weights_files
from t4d.diffusion.weights import load_module, read_folder, save_module
from t4d.errors import InputError

FILE = "diffusion_pytorch_model.safetensors"


def base_model(seed: int = 0) -> VideoModel:
    """A base whose values float16 holds, as those of every loaded file."""
    torch.manual_seed(seed)
    unet = small_unet().eval()
    for parameter in unet.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    unet.half().float()
    return VideoModel(unet, Blocks(), Letters(), Pixel(), label=f"base {seed}", meta={"guidance": 2.0, "size": 64})


def tuned_model(seed: int = 0, size: float = 0.01) -> VideoModel:
    """The base after training: every adapter and motion parameter moved, none of the others."""
    model = base_model(seed)
    g = torch.Generator().manual_seed(7)
    for name, parameter in model.unet.named_parameters():
        if is_delta(name):
            parameter.data += size * torch.randn(parameter.shape, generator=g)
    return replace(model, label="fork", meta={**model.meta, "guidance": 3.0, "steps": 9})


def forked(model: VideoModel) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.unet.named_parameters() if is_delta(name)}


def test_fp16_fork_is_the_whole_model_in_fp16_to_the_bit(tmp_path):
    tuned = tuned_model()
    save_fork(base_model(), tuned, tmp_path / "fork", "fp16")
    save_module(tuned.unet, tmp_path / "whole")
    whole = load_module(type(tuned.unet), tmp_path / "whole")
    back = load_fork(base_model(), tmp_path / "fork")
    assert all(torch.equal(value, back.unet.state_dict()[name]) for name, value in whole.state_dict().items())
    assert back.label == "fork" and back.meta == {"guidance": 3.0, "size": 64, "steps": 9} and len(back.sha256) == 64
    with torch.no_grad():
        assert torch.equal(back.unet(**unet_inputs()), whole(**unet_inputs()))


def test_int8_fork_is_off_by_half_a_step_of_its_row_at_most(tmp_path):
    tuned, base = tuned_model(), base_model()
    save_fork(base, tuned, tmp_path, "int8")
    stored = read_folder(tmp_path)
    back, before, wanted = forked(load_fork(base_model(), tmp_path)), forked(base), forked(tuned)
    worst = 0.0
    for name, value in wanted.items():
        error = (back[name] - value).abs()
        if value.ndim < 2:
            assert float(error.max()) <= 1e-7, name  # vectors are stored in float32: only the sum rounds
            continue
        assert stored[name].dtype == torch.int8 and name + SCALE in stored
        rows = (value - before[name]).flatten(1).abs().amax(1)
        torch.testing.assert_close(stored[name + SCALE], rows / LEVELS)
        over = error.flatten(1) - (rows / LEVELS / 2)[:, None]
        assert float(over.max()) <= 1e-6, name
        worst = max(worst, float((error.flatten(1).amax(1) / (rows / LEVELS)).max()))
    assert 0.4 < worst <= 0.51  # the bound is reached, so it is the right one


def test_int8_of_nothing_and_of_rows_of_zeros(tmp_path):
    base = base_model()
    save_fork(base, replace(base, label="same"), tmp_path, "int8")
    back = forked(load_fork(base_model(), tmp_path))
    assert all(torch.equal(value, back[name]) for name, value in forked(base).items())


def test_a_fork_is_made_of_what_its_base_was(tmp_path):
    """The base may be remembered before training and its networks trained in place, as the program does."""
    model = base_model()
    kept = ForkBase.of(model)
    for name, parameter in model.unet.named_parameters():
        if is_delta(name):
            parameter.data += 0.5
    save_fork(kept, model, tmp_path)
    back = forked(load_fork(base_model(), tmp_path))
    name = "mid_block.motion_modules.0.proj_in.bias"
    torch.testing.assert_close(back[name], forked(base_model())[name] + 0.5)


def test_another_base_is_refused_and_so_is_the_fork_itself(tmp_path):
    save_fork(base_model(), tuned_model(), tmp_path)
    with pytest.raises(InputError, match=r"made from 'base 0'.*not from 'base 1'"):
        load_fork(base_model(1), tmp_path)
    once = load_fork(base_model(), tmp_path)
    with pytest.raises(InputError, match="not from 'fork'"):
        load_fork(once, tmp_path)


def test_the_base_is_its_numbers_not_its_precision_label_or_decoder(tmp_path):
    save_fork(base_model(), tuned_model(), tmp_path)
    other = replace(base_model(), label="renamed", autoencoder=Blocks(), meta={})
    assert load_fork(other, tmp_path).label == "fork"
    half = base_model()
    half.unet.half()
    assert next(load_fork(half, tmp_path).unet.parameters()).dtype == torch.float16


def test_training_anything_else_is_refused_by_name(tmp_path):
    tuned = tuned_model()
    tuned.unet.get_parameter("conv_in.bias").data += 1e-3
    with pytest.raises(InputError, match=r"1 tensors outside .*unet\.conv_in\.bias.*i2v and motion_modules"):
        save_fork(base_model(), tuned, tmp_path)
    config = {**base_model().scheduler_config, "prediction_type": "sample"}
    with pytest.raises(InputError, match="predicts sample and its base epsilon"):
        save_fork(base_model(), replace(tuned_model(), scheduler_config=config), tmp_path)


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "int8"), (7e4, "fp16"), (float("inf"), "fp16")])
def test_values_that_cannot_be_held_are_refused(tmp_path, value, dtype):
    tuned = tuned_model()
    tuned.unet.get_parameter("mid_block.motion_modules.0.proj_in.weight").data[0, 0] = value
    with pytest.raises(InputError, match=rf"mid_block.motion_modules.0.proj_in.weight has values that {dtype}"):
        save_fork(base_model(), tuned, tmp_path, dtype)


def test_broken_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"fork\.json is missing"):
        load_fork(base_model(), tmp_path)
    save_fork(base_model(), tuned_model(), tmp_path)
    state, index = load_file(tmp_path / FILE), json.loads((tmp_path / "fork.json").read_text())
    scale = next(name for name in state if name.endswith(SCALE))
    save_file({name: value for name, value in state.items() if name != scale}, tmp_path / FILE)
    with pytest.raises(InputError, match="lacks 1 tensors and has 0 others"):
        load_fork(base_model(), tmp_path)
    save_file({**state, scale: torch.zeros(3)}, tmp_path / FILE)
    with pytest.raises(InputError, match="of shape"):
        load_fork(base_model(), tmp_path)
    for broken in ("[", "[1]", json.dumps({**index, "format": 99}), json.dumps({**index, "dtype": "int4"})):
        (tmp_path / "fork.json").write_text(broken)
        with pytest.raises(InputError, match="not the index of a fork"):
            load_fork(base_model(), tmp_path)


@pytest.mark.parametrize("dtype", ["int8", "fp16"])
def test_minis_forks_are_small_and_load_by_folder_and_by_name(tmp_path, dtype):
    mini = VideoModel.load("mini")
    base = ForkBase.of(mini)
    g = torch.Generator().manual_seed(3)
    for name, parameter in mini.unet.named_parameters():
        if is_delta(name):
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=g)
    mini.label = "mini, no_corr"
    folder = save_fork(base, mini, tmp_path / "base-forks" / "no_corr", dtype)
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size <= 4e6, size
    assert size < (1.8e6 if dtype == "int8" else 3.3e6)

    loaded = VideoModel.load("mini", folder)
    plain = VideoModel.load("mini")
    assert loaded.label == "mini, no_corr" and loaded.sha256 not in ("", plain.sha256)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model_index.json").write_text("{}")
    assert fork_folder(tmp_path / "base", "no_corr") == folder
    assert weights_files(tmp_path / "base", "no_corr") == [tmp_path / "base", folder]


@pytest.mark.parametrize("name", ["full", "no_corr", "no_pos", "no_track"])
def test_the_shipped_forks_are_of_the_shipped_mini(name):
    base, fork, folder = VideoModel.load("mini"), VideoModel.load("mini", name), fork_folder("mini", name)
    assert folder is not None and fork.sha256 != base.sha256
    assert json.loads((folder / "fork.json").read_text())["base"]["label"] == base.label


def test_forks_that_are_not_there_are_told_in_a_sentence():
    assert fork_folder("mini", "") is None and weights_files("public") is None
    with pytest.raises(InputError, match=r"no fork 'no_such' of the 'mini' weights .*mini-forks.*fork mini") as caught:
        fork_folder("mini", "no_such")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"'no_track' of the 'public' weights .*without tracking losses"):
        VideoModel.load("public", "no_track")


def test_a_job_with_a_variant_that_is_not_shipped_says_so_before_it_works(tmp_path):
    from t4d.config import Config
    from t4d.job import Job
    from t4d.pipeline import AnimateRequest

    config = Config.load("mini", ["stage1.fork=no_such"])
    request = AnimateRequest(path=Path("no.glb"), prompt="a fox walks", out=tmp_path, config=config)
    with pytest.raises(InputError, match="no fork 'no_such'"):
        Job(request, "a fox walks", lambda: False)
