"""One pass gives the three losses, and their sum over any split of a batch is the same."""

import dataclasses
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from stage1_program import SMOKE

from t4d.data.dataset import ClipDataset
from t4d.diffusion.features import FeatureTap
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.errors import InputError
from t4d.tracking.losses import correspondence_loss, position_loss
from train.config import Curriculum, StageOneTrainConfig, load_config
from train.draws import draw, noised
from train.measure import Means, TermNorms
from train.networks import build, freeze
from train.objective import Noised, Objective, Points, clip_weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config() -> StageOneTrainConfig:
    return load_config(StageOneTrainConfig, SMOKE, ["optim.batch=2"])


@pytest.fixture(scope="module")
def parts(config) -> tuple[Objective, Noised]:
    torch.manual_seed(0)
    model = build(config)
    objective = Objective(model, config)
    with torch.no_grad():  # a network at its start predicts zero, which hides mistakes
        model.unet.conv_out.weight.normal_(0, 0.05)  # type: ignore[operator, union-attr]
    data = ClipDataset(None, procedural_fraction=1.0, views=2, frames=3)
    items = torch.utils.data.default_collate([data[i] for i in range(2)])
    drawn = draw(items, Curriculum(until=1, views=2, frames=3, batch=2), config, 0, [0, 1], 1000)
    return objective, noised(drawn, model.autoencoder, objective.alphas_cumprod, config, CPU)


def single(batch: Noised, i: int) -> Noised:
    """One clip of a batch."""

    def cut(value: Any) -> Any:
        if value is None or isinstance(value, tuple):
            return value
        if isinstance(value, Noised | Points):
            return dataclasses.replace(
                value, **{f.name: cut(getattr(value, f.name)) for f in dataclasses.fields(value)}
            )
        return value[i : i + 1]

    return cut(batch)


def test_sums_add_up_over_clips(parts):
    objective, batch = parts
    whole = objective(batch)
    each = [objective(single(batch, i)) for i in range(2)]
    assert set(whole) == {"diff", "corr", "pos"}
    for name, value in whole.items():
        torch.testing.assert_close(value, each[0][name] + each[1][name], rtol=1e-5, atol=1e-6)
        assert value > 0


def test_the_terms_are_those_of_the_tapped_features(parts, config):
    objective, batch = parts
    sums = objective(batch)
    with torch.no_grad(), FeatureTap(objective.unet, ["up_blocks.1.motion_modules.1"]) as tap:
        text, pooled = objective.text_encoder.encode(batch.captions)
        prediction = objective.unet(
            batch.z_t,
            batch.t,
            text=text,
            pooled_text=pooled,
            image_embeds=objective.image_encoder.encode(batch.reference),
            cameras=batch.cameras,
            cond_concat=batch.appearance,
        )
        maps = tap.maps()["up_blocks.1.motion_modules.1"]
    assert objective.layer == "up_blocks.1.motion_modules.1"  # mini's second up block has two
    p = batch.points
    assert p is not None
    corr = correspondence_loss(maps, p.xy, p.visible, p.chosen, p.image_size)
    pos = position_loss(maps, p.xy, p.visible, p.chosen, p.image_size)
    both = (p.visible & p.chosen[:, :, None])[:, :, :-1] & p.visible[:, :, 1:]
    first = (p.visible & p.chosen[:, :, None])[:, :, :1] & p.visible[:, :, 1:]
    torch.testing.assert_close(sums["corr"], corr * both.sum(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sums["pos"], pos * first.sum(), rtol=1e-4, atol=1e-5)
    diff = (prediction[:, :, 1:] - batch.z[:, :, 1:]).square().mean()  # Eq. 3 for a network of x0
    torch.testing.assert_close(sums["diff"], 2 * diff, rtol=1e-4, atol=1e-5)


def test_all_points_hidden_leaves_the_diffusion_loss(parts):
    objective, batch = parts
    assert batch.points is not None
    hidden = dataclasses.replace(batch.points, visible=torch.zeros_like(batch.points.visible))
    sums = objective(dataclasses.replace(batch, points=hidden))
    assert sums["corr"] == 0 and sums["pos"] == 0 and sums["diff"] > 0
    torch.stack(list(sums.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.trained.values() if p.grad is not None)
    objective.zero_grad()
    assert set(objective(dataclasses.replace(batch, points=None))) == {"diff"}


def test_every_trained_parameter_gets_a_gradient(parts):
    """Several processes wait for the gradients of all."""
    objective, batch = parts
    objective(batch)["diff"].backward()
    missing = [name for name, p in objective.trained.items() if p.grad is None]
    objective.zero_grad()
    assert not missing


def test_the_motion_means_own_error(parts, config):
    """Its clip against the clean latents, frame 0 left out, weighted and summed over clips as L_diff is."""
    _, batch = parts
    with pytest.raises(InputError, match="no motion mean; set model"):
        Objective(build(config), config.model_copy(update={"mean_weight": 0.7}))
    changed = load_config(StageOneTrainConfig, SMOKE, ["optim.batch=2", "mean_weight=0.7", "balance=0.2"])
    sized = {**changed.model, "motion_mean": {"width": 16, "layers": 1, "heads": 2, "frames": 4}}
    objective = Objective(build(changed.model_copy(update={"model": sized})), changed)
    unet = cast(MultiViewMotionUNet, objective.unet)
    network = unet.expected_motion
    assert network is not None
    torch.nn.init.normal_(network.head.weight, 0, 0.05)

    found = objective(batch)
    text, pooled = objective.text_encoder.encode(batch.captions)  # type: ignore[operator]
    clip, _ = unet.mean_clip(text, batch.cameras, batch.appearance, pooled, 3)
    assert clip is not None
    expected = 0.0
    for i in range(2):
        error = (clip[i, :, 1:] - batch.z[i, :, 1:]).square().mean()
        expected += float((error / (1 + batch.z[i, :, 1:].square().mean() / 0.2)).detach())
    assert float(found["mean"].detach()) == pytest.approx(expected, rel=1e-4)
    assert not network._forward_hooks  # none is left

    found["mean"].backward()
    moved = {n.split(".")[0] for n, p in unet.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"expected_motion"}
    plain = Objective(build(changed.model_copy(update={"model": sized})), config)
    assert "mean" not in plain(batch)


def test_norms_of_terms_are_those_of_their_gradients(parts):
    objective, batch = parts
    accelerator, trained = Accelerator(cpu=True), list(objective.trained.values())
    norms, means = TermNorms(trained), Means(CPU)
    for i in range(2):  # micro-steps
        terms = objective(single(batch, i))
        norms.add(terms, objective.tapped)
        means.add(**terms)
    means.step(diff=True, corr=True, pos=False)
    means.add(diff=torch.tensor(1.0))
    means.step(diff=True, corr=False)
    found, mean, sums = norms.take(accelerator), means.take(accelerator), objective(batch)
    assert mean["diff"] == pytest.approx((float(sums["diff"].detach()) + 1) / 2, rel=1e-5)
    assert mean["corr"] == pytest.approx(float(sums["corr"].detach()), rel=1e-4) and "pos" not in mean
    for name, value in sums.items():
        gradients = torch.autograd.grad(value, trained, retain_graph=True, allow_unused=True)
        norm = float(torch.cat([g.flatten() for g in gradients if g is not None]).norm())
        assert found[f"grad_{name}"] == pytest.approx(norm, rel=1e-4)
        assert objective.tapped is not None
        tapped = torch.autograd.grad(value, objective.tapped, retain_graph=True)[0]
        assert found[f"grad_{name}_tap"] == pytest.approx(float(tapped.norm()), rel=1e-4)


def test_frozen_parts():
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    assert list(freeze(module, ("b.",))) == ["b.weight", "b.bias"]
    assert [p.requires_grad for p in module.parameters()] == [False, False, True, True]
    assert len(freeze(module, ())) == 4
    with pytest.raises(InputError, match="No parameter's name holds c or d"):
        freeze(module, ("c", "d"))


def test_clips_are_balanced_by_their_motion():
    z = torch.zeros(3, 2, 4, 1, 2, 3)
    z[:, :, 0] = 7.0  # frame 0 is the condition and counts for nothing
    z[1, :, 1:], z[2, :, 1:] = 0.5**0.5, 3.0
    assert clip_weights(z, 0.0) is None
    torch.testing.assert_close(clip_weights(z, 0.5), torch.tensor([1.0, 0.5, 0.5 / 9.5]))
