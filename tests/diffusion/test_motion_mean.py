"""The motion mean: its own laws, and what the network and a model make of it."""

from typing import cast

import pytest
import torch
from diffusion_dummies import small_unet, unet_inputs
from torch import nn

from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.motion_mean import MotionMean
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.diffusion.weights import load_module, save_module
from t4d.errors import InputError
from train.networks import give_motion_mean

B, V, H, W, FRAMES = 2, 3, 3, 5, 6
SIZES = {"width": 16, "layers": 2, "heads": 2, "frames": FRAMES}


def alive(module: nn.Module) -> nn.Module:
    """Random numbers in every parameter: what starts at zero would make laws hold by themselves."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g) * 0.2)
    return module.double()


@pytest.fixture
def mean() -> MotionMean:
    found = alive(MotionMean(4, 32, 12, 10, 16, **SIZES))
    assert isinstance(found, MotionMean)
    return found


@pytest.fixture
def inputs() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    shapes = {"appearance": (B, V, 32, H, W), "text": (B, 7, 12), "cameras": (B, V, 16), "pooled_text": (B, 10)}
    return {name: torch.randn(shape, generator=g, dtype=torch.float64) for name, shape in shapes.items()}


def test_frame_0_is_zero_and_a_shorter_clip_is_the_beginning(mean, inputs):
    (whole, tokens), (short, same) = mean(**inputs, frames=FRAMES), mean(**inputs, frames=4)
    assert tokens.shape == (B, V, 16, H, W) and torch.equal(same, tokens)
    assert whole.shape == (B, V, FRAMES, 4, H, W)
    assert not whole[:, :, 0].any() and (whole[:, :, 1:].flatten(3).norm(dim=-1) > 0).all()
    assert torch.equal(short, whole[:, :, :4])


def test_order_of_views_is_told_by_cameras_alone(mean, inputs):
    order = [2, 0, 1]
    turned = {n: x[:, order] if n in ("appearance", "cameras") else x for n, x in inputs.items()}
    for found, straight in zip(mean(**turned), mean(**inputs)):
        assert torch.allclose(found, straight[:, order], atol=1e-12)


def test_clips_of_a_batch_and_nothing_else_do_not_meet(mean, inputs):
    found, _ = mean(**inputs, frames=FRAMES)
    for name in inputs:
        changed = {**inputs, name: inputs[name].clone()}
        changed[name][1, 0] += 1
        other, _ = mean(**changed, frames=FRAMES)
        assert torch.allclose(other[0], found[0], atol=1e-12), name
        # what one view shows, and every word, is heard by all views
        assert ((other[1] - found[1]).abs().amax((1, 2, 3, 4)) > 1e-6).all(), name


def test_gradients(mean, inputs):
    small = {n: x[:1, :2] for n, x in inputs.items() if n != "pooled_text"}
    small["appearance"] = small["appearance"][..., :2, :1]
    names = list(small)
    values = [x.clone().requires_grad_(True) for x in small.values()]
    pooled = inputs["pooled_text"][:1]
    torch.autograd.gradcheck(lambda *x: mean(**dict(zip(names, x)), pooled_text=pooled, frames=3), values)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"appearance_channels": 0}, "cond_concat_channels are 0"),
        ({"appearance_channels": 24}, "multiple of 16"),
        ({"width": 20}, "multiple of 8"),
        ({"heads": 3}, "of the heads"),
        ({"heads": 0}, "of the heads"),
        ({"frames": 1}, "2 frames"),
    ],
)
def test_sizes_that_do_not_go_together(changes, told):
    sizes = {"latent_channels": 4, "appearance_channels": 32, "text_channels": 12, "pooled_channels": None}
    with pytest.raises(InputError, match=told):
        MotionMean(**{**sizes, "camera_channels": 16, **SIZES, **changes})


def given(unet: MultiViewMotionUNet) -> VideoModel:
    """A model of that network; the other parts are not asked."""
    part = nn.Linear(1, 1)
    return VideoModel(unet, part, part, None, {"prediction_type": "sample"})  # type: ignore[arg-type]


@pytest.fixture
def pair() -> tuple[MultiViewMotionUNet, MultiViewMotionUNet]:
    """A network, and the same one with a motion mean that has something to say."""
    torch.manual_seed(1)
    old = small_unet(cond_concat_channels=32, zero_init_output=False)
    model = given(old)
    give_motion_mean(model, SIZES)
    new = model.unet
    assert isinstance(new, MultiViewMotionUNet) and new.expected_motion is not None
    nn.init.normal_(new.expected_motion.head.weight, std=0.3)
    return old.eval(), new.eval()


def asked(frames: int = FRAMES - 1) -> dict[str, torch.Tensor]:
    """Inputs of the pair, 5 x 6 cells."""
    found = unet_inputs(B, V, frames, 5, 6)
    return {**found, "cond_concat": torch.randn(B, V, 32, 5, 6, generator=torch.Generator().manual_seed(8))}


def test_a_network_that_gets_a_motion_mean_says_it_whatever_the_noise(pair):
    _, new = pair
    inputs = asked()
    names = ("text", "cameras", "cond_concat", "pooled_text")
    with torch.no_grad():
        mean, _ = new.mean_clip(*(inputs[n] for n in names), frames=FRAMES - 1)
        assert mean is not None and mean.abs().max() > 0.1
        for t in (999, 10):
            assert torch.equal(new(**{**inputs, "timestep": torch.tensor(t)}), mean)


def test_what_the_network_knew_is_kept(pair):
    old, new = pair
    inputs = asked()
    assert new.expected_motion is not None
    new.conv_out.load_state_dict(old.conv_out.state_dict())
    with torch.no_grad():
        added = new(**inputs) - old(**inputs)
        mean, _ = new.mean_clip(*(inputs[n] for n in ("text", "cameras", "cond_concat", "pooled_text")), FRAMES - 1)
        assert mean is not None and torch.allclose(added, mean, atol=1e-5)
        # the network can hear both, the mean beside the latents and the tokens behind it
        new.conv_in.weight[:, -4:] = 0.5
        hears = new(**inputs)
        assert not torch.allclose(hears - old(**inputs), mean, atol=1e-3)
        nn.init.normal_(new.expected_features.weight)
        assert not torch.allclose(new(**inputs), hears, atol=1e-3)


def test_words_of_every_view_and_appearance_of_every_frame(pair):
    _, new = pair
    inputs = asked()
    long = {**inputs, "cond_concat": inputs["cond_concat"][:, :, None].expand(-1, -1, FRAMES - 1, -1, -1, -1)}
    with torch.no_grad():
        assert torch.equal(new(**long), new(**inputs))
        each = {**inputs, "text": inputs["text"][:, None].expand(-1, V, -1, -1)}
        assert torch.isfinite(new(**each)).all()


def test_a_longer_clip_is_refused(pair):
    _, new = pair
    with pytest.raises(InputError, match="motion mean has 6"):
        new(**asked(FRAMES + 1))


def test_saved_and_loaded(pair, tmp_path):
    _, new = pair
    new.save_pretrained(tmp_path)
    again = MultiViewMotionUNet.from_pretrained(tmp_path).eval()
    inputs = asked()
    with torch.no_grad():
        assert torch.allclose(again(**inputs), new(**inputs), atol=2e-3)  # stored as float16
    assert dict(again.config["motion_mean"]) == SIZES


def test_a_trained_one_alone_goes_into_another_network(pair, tmp_path):
    _, new = pair
    save_module(new.expected_motion, tmp_path)
    alone = load_module(MotionMean, tmp_path)
    model = given(small_unet(cond_concat_channels=32))
    give_motion_mean(model, alone)
    inputs = {n: x for n, x in asked().items() if n in ("text", "cameras", "cond_concat", "pooled_text")}
    with torch.no_grad():
        networks = new, cast(MultiViewMotionUNet, model.unet)
        wanted, found = (unet.mean_clip(**inputs, frames=FRAMES)[0] for unet in networks)
        assert wanted is not None and found is not None
        assert found.abs().max() > 0 and torch.allclose(found, wanted, atol=2e-3)  # stored as float16
    other = given(small_unet(cond_concat_channels=48))
    with pytest.raises(InputError, match=r"stem\.0\.weight"):
        give_motion_mean(other, alone)


def test_the_shipped_one_knows_words():
    model = VideoModel.load("mini")
    data = ClipDataset(None, procedural_fraction=1.0, views=4, frames=2, grid=0, mirror=0.0)
    energies = []
    with torch.no_grad():
        text, pooled = model.text_encoder.encode(["an animal is jumping", "an animal is standing still"])
        for i in range(4):
            item = data[i]
            seen = cast(torch.Tensor, model.autoencoder.condition(item["rgba"][None, :, 0].float())).expand(
                2, *[-1] * 4
            )
            cameras = item["cameras"][None].expand(2, -1, -1)
            found, _ = cast(MultiViewMotionUNet, model.unet).mean_clip(text, cameras, seen, pooled, 16)
            assert found is not None and found.shape[:3] == (2, 4, 16) and torch.isfinite(found).all()
            energies.append(found.square().flatten(1).mean(1))
    jumping, still = torch.stack(energies).mean(0).tolist()
    assert jumping > 2 * still


def test_models_that_cannot_get_one(pair):
    _, new = pair
    with pytest.raises(InputError, match="already has"):
        give_motion_mean(given(new), SIZES)
    noise = given(small_unet(cond_concat_channels=32))
    noise.scheduler_config["prediction_type"] = "epsilon"
    with pytest.raises(InputError, match="predicts epsilon"):
        give_motion_mean(noise, SIZES)
    with pytest.raises(InputError, match="breadth"):
        give_motion_mean(given(small_unet(cond_concat_channels=32)), {"breadth": 4})


@pytest.mark.parametrize("frames", [1, 7])
def test_clips_of_other_lengths_are_refused_instead_of_cut(mean, inputs, frames):
    with pytest.raises(InputError, match="motion mean of 6 frames"):
        mean(**inputs, frames=frames)
