"""4D-SDS (Eq. 11): against the formulas spelled out, its laws, and what must not get gradient."""

import math
from typing import Any

import pytest
import torch
from sds_dummies import PROMPT, H, Letters, Mixer, Pixel, T, Table, Told, V, W, guidance, model, moving, seeded
from torch import Tensor, nn

from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import PAPER_SCHEDULE, linear_alphas_cumprod
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.errors import InputError
from t4d.geometry.camera import network_camera, rig
from t4d.motion.fit import fit_motion
from t4d.motion.random_rig import random_rig
from t4d.motion.sds import VideoGuidance
from t4d.splat.render import render_gaussians

KINDS = ("epsilon", "sample", "v_prediction")


def twin(guide: VideoGuidance, asset: Table, generator: torch.Generator, kind: str, shared: float = 0.0):
    """MV_VDM_SPEC 2.7 spelled out, picture by picture; returns the loss and dL/dz.

    All T frames fit into one step here; the network is asked twice instead of with one batch of two.
    """
    cameras = random_rig(generator, (H, W), V)
    t = int(torch.randint(guide.t_min, guide.t_max + 1, (), generator=generator))
    torch.rand((), generator=generator)  # the phase, without effect where all frames are taken
    shape = (1, V, T - 1, 4, H // 4, W // 4)
    noise = torch.randn(shape, generator=generator)
    if shared:
        common = torch.randn((1, V, 1, *shape[3:]), generator=generator)
        noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * noise
    later = asset.batch(torch.arange(1, T))
    z = torch.empty(V, T, 4, H // 4, W // 4)
    first = torch.empty(V, 4, H, W)
    for v in range(V):
        first[v] = render_gaussians(asset.gaussians, [cameras[v]])[0].clamp(0, 1).detach()
        for f in range(T):
            one = later.map(lambda x, f=f: x[f - 1])
            picture = first[v] if f == 0 else render_gaussians(one, [cameras[v]])[0].clamp(0, 1)
            z[v, f] = 2 * nn.functional.avg_pool2d(picture, 4) - 1
    a = float(torch.cumprod(1 - torch.linspace(0.00085, 0.012, 1000), 0)[t])
    z_t = z.detach().clone()
    for v in range(V):
        for f in range(1, T):
            z_t[v, f] = math.sqrt(a) * z_t[v, f] + math.sqrt(1 - a) * noise[0, v, f - 1]
    image = first.mean(dim=(-1, -2))[None]
    vectors = torch.stack([network_camera(camera) for camera in cameras])[None]

    def ask(sentence: str, picture: Tensor) -> Tensor:
        with torch.no_grad():
            text = guide.model.text_encoder.encode([sentence])[0]
            return guide.model.unet(z_t[None], torch.tensor([t]), text=text, image_embeds=picture, cameras=vectors)[0]

    def clean(said: Tensor) -> Tensor:
        if kind == "sample":
            return said
        if kind == "epsilon":
            return (z_t - math.sqrt(1 - a) * said) / math.sqrt(a)
        return math.sqrt(a) * z_t - math.sqrt(1 - a) * said

    c, u = ask(PROMPT, image), ask("", torch.zeros_like(image))
    z0_nocfg, z0_hat = clean(c), clean(u + guide.scale * (c - u))
    if guide.scale != 1:
        f = (z0_nocfg[:, 1:].std() + 1e-8) / (z0_hat[:, 1:].std() + 1e-8)
        z0_hat = guide.rescale * (f * z0_hat) + (1 - guide.rescale) * z0_hat
    loss = torch.zeros(())
    slope = torch.zeros_like(z)
    for v in range(V):
        for f in range(1, T):
            loss = loss + 0.5 * (z[v, f] - z0_hat[v, f]).square().sum() / (V * T) * T / (T - 1)
            slope[v, f] = (z[v, f] - z0_hat[v, f]).detach() / (V * (T - 1))
    return loss, z, slope


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scale", "rescale", "shared"), [(6.0, 0.25, 0.0), (1.0, 0.25, 0.0), (2.5, 0.0, 0.7)])
def test_loss_and_gradient_are_those_of_the_formulas(kind: str, scale: float, rescale: float, shared: float) -> None:
    asset = moving()
    guide = guidance(model(kind, shared_noise=shared), scale=scale, rescale=rescale)
    loss = guide(asset, seeded())
    got = torch.autograd.grad(loss, (asset.means, asset.quats))
    expected, z, slope = twin(guide, asset, seeded(), kind, shared)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    for a, b in zip(got, torch.autograd.grad(z, (asset.means, asset.quats), slope)):
        assert float(b.norm()) > 0
        assert float((a - b).norm() / b.norm()) < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_no_loss_and_no_gradient_where_the_network_agrees(kind: str) -> None:
    told, asset = Told(kind), moving()
    guide = guidance(model(kind, told), scale=4.0, rescale=0.0)
    cameras = random_rig(seeded(), (H, W), V)
    told.x0 = guide.encode(guide.render(asset, cameras, torch.arange(1, T))).detach()
    loss = guide(asset, seeded())
    slope = torch.autograd.grad(loss, asset.means)[0]
    assert float(loss.detach()) < 1e-9 and float(slope.abs().max()) < 1e-5
    told.x0 = told.x0 + 0.3  # a known disagreement in every latent number: half of .09 x 4 x 6 x 8
    assert float(guide(asset, seeded()).detach()) == pytest.approx(0.5 * 0.09 * 4 * (H // 4) * (W // 4), rel=1e-3)


def test_frame_zero_is_clean_in_the_network_and_has_no_loss() -> None:
    class Wild(Mixer):
        wildness: float = 0.0

        def forward(self, sample: Tensor, timestep: Tensor, **told) -> Tensor:
            said = super().forward(sample, timestep, **told).clone()
            said[:, :, 0] += self.wildness
            return said

    network, asset = Wild(), moving()
    guide = guidance(model("sample", network), rescale=0.5)
    losses = []
    for network.wildness in (0.0, 1e3):
        losses.append(float(guide(asset, seeded()).detach()))
    assert losses[0] == losses[1], "what the network says about frame 0 must not count"
    cameras = random_rig(seeded(), (H, W), V)
    z = guide.encode(guide.render(asset, cameras, torch.arange(1, T))).detach()
    asked = network.calls[0]["sample"]
    assert torch.equal(asked[:1, :, 0], z[:, :, 0]) and torch.equal(asked[1:, :, 0], z[:, :, 0])
    assert float((asked[:1, :, 1:] - z[:, :, 1:]).abs().amin(dim=(0, 1, 3, 4, 5)).max()) > 0
    noise = (asked[:1] - z)[:, :, 1:].flatten(3).std(-1)
    assert float(noise.min()) > 0.01, "frames 1..T-1 are all noised, the last among them"


@pytest.mark.parametrize("frames", [2, T, 9])
def test_gradient_goes_to_every_frame_but_the_first_and_to_the_asset_alone(frames: int) -> None:
    asset, found = moving(frames), model("epsilon", Mixer())
    found.unet.train()
    guide = guidance(found, frames=frames)
    asset.gaussians.means.requires_grad_()  # frame 0 is drawn from these, and only from these
    guide(asset, seeded()).backward()
    assert asset.means.grad is not None and asset.gaussians.means.grad is None
    assert float(asset.means.grad.abs().amax(dim=(1, 2)).min()) > 0, "the last frame too: no off by one"
    for part in found.parts.values():
        assert not part.training
        assert all(p.grad is None and not p.requires_grad for p in part.parameters())


def test_the_generator_alone_decides_bit_by_bit() -> None:
    asset, guide = moving(), guidance(model("v_prediction", shared_noise=0.5))

    def run(seed: int, world: int) -> tuple[Tensor, Tensor, Tensor]:
        torch.manual_seed(world)
        generator = seeded(seed)
        loss = guide(asset, generator)
        return loss.detach(), torch.autograd.grad(loss, asset.means)[0], torch.rand(3, generator=generator)

    one, same, other = run(1, 1), run(1, 2), run(2, 1)
    assert all(torch.equal(a, b) for a, b in zip(one, same)), "resume is bitwise only if nothing else is drawn from"
    assert not any(torch.equal(a, b) for a, b in zip(one, other))
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    guide(asset, seeded())
    assert torch.equal(torch.rand(4), expected), "the global generator is left alone"


def test_scale_asks_with_and_without_the_sentence_and_picture() -> None:
    network, asset = Mixer(), moving()
    guidance(model("epsilon", network), scale=1.0)(asset, seeded())
    guidance(model("epsilon", network), scale=6.0)(asset, seeded())
    guidance(model("epsilon", network, drop_image=False), scale=6.0)(asset, seeded())
    once, twice, kept = network.calls
    assert len(once["sample"]) == 1 and len(twice["sample"]) == 2
    assert twice["text"][0, 0, 0] == 0 and twice["text"][1, 0, 0] == len(PROMPT)
    assert float(twice["image"][0].abs().max()) == 0 and torch.equal(twice["image"][1:], once["image"])
    assert torch.equal(kept["image"][0], kept["image"][1])
    assert len(set(twice["timestep"].tolist())) == 1, "one time for the whole rig"


def test_times_lie_in_the_closed_range() -> None:
    network, asset = Mixer(), moving()
    guide = guidance(model("epsilon", network), t_min=20, t_max=22, scale=1.0)
    generator = seeded()
    for _ in range(12):
        with torch.no_grad():
            guide(asset, generator)
    assert {int(call["timestep"][0]) for call in network.calls} == {20, 21, 22}


@pytest.mark.parametrize(("most", "total"), [(T, T), (16, 16), (4, 3), (16, 2), (5, 64), (16, 24)])
def test_frames_are_all_or_evenly_spaced(most: int, total: int) -> None:
    guide, generator, seen = guidance(model(), frames=most), seeded(), set()
    for _ in range(60 * total // most):
        frames = guide.frames_of(total, generator)
        assert len(frames) == min(most, total) - 1 and 1 <= int(frames.min()) and int(frames.max()) <= total - 1
        steps = frames.diff()
        assert bool((steps >= 1).all()) and (len(steps) == 0 or int(steps.max() - steps.min()) <= 1)
        seen |= set(frames.tolist())
    assert seen == set(range(1, total)), "every frame 1..T-1 is judged now and then"


def test_noise_of_the_model_is_shared_among_frames_as_in_its_training() -> None:
    network, asset = Mixer(), moving(amount=0.0)  # a still object: z is the same in all frames
    guidance(model("sample", network, shared_noise=0.8), t_min=200, t_max=200, scale=1.0)(asset, seeded())
    noisy = network.calls[0]["sample"][0, :, 1:].flatten(2)  # [V, T-1, C h w]
    a = float(linear_alphas_cumprod()[200])
    noise = (noisy - math.sqrt(a) * network.calls[0]["sample"][0, :, :1].flatten(2)) / math.sqrt(1 - a)
    correlation = torch.stack([torch.corrcoef(view) for view in noise])
    off = correlation[:, ~torch.eye(T - 1, dtype=torch.bool)]
    assert float(off.mean()) == pytest.approx(0.8, abs=0.08)
    assert float(noise.std()) == pytest.approx(1, abs=0.1)


def test_reference_conditioned_latents_and_the_project_network() -> None:
    torch.manual_seed(0)
    autoencoder = ReferenceAutoencoder(widths=(8, 8, 16), working_side=32, image_side=64)
    network = MultiViewMotionUNet(
        sample_size=4,
        in_channels=8,
        out_channels=8,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=2,
        num_attention_heads=(1, 1, 2, 2),
        motion_num_attention_heads=(1, 2, 2, 2),
        image_embed_dim=4,
        image_tokens=2,
        text_pooled_dim=None,
        cond_concat_channels=64,
        strides=(1, 1, 2),
        kv_pool=(1, 1, 1, 1),
        first_up_motion_groups=None,
    )
    config = {**PAPER_SCHEDULE, "prediction_type": "sample"}
    found = VideoModel(network, autoencoder, Letters(), Pixel(), config, "small")  # type: ignore[arg-type]
    asset = moving()
    guide = VideoGuidance(found, PROMPT, size=64, frames=T, views=V, scale=2.0)
    rgba = guide.render(asset, random_rig(seeded(), 64, V), torch.arange(1, T))
    assert rgba.shape == (V, T, 4, 64, 64)
    z = guide.encode(rgba)
    assert z.shape == (1, V, T, 8, 4, 4) and float(z[:, :, 0].abs().max()) == 0 and float(z.std()) > 1e-3
    guide(asset, seeded()).backward()
    assert asset.means.grad is not None and float(asset.means.grad.abs().amax(dim=(1, 2)).min()) > 0
    assert all(p.grad is None for part in found.parts.values() for p in part.parameters())
    with pytest.raises(InputError, match="at most 32"):
        VideoGuidance(found, PROMPT, size=64, frames=33)
    with pytest.raises(InputError, match="multiples of 16"):
        VideoGuidance(found, PROMPT, size=72)
    with pytest.raises(InputError, match="squares of 32 px or a multiple"):
        VideoGuidance(found, PROMPT, size=48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 30}, "multiples of 4"),
        ({"size": (24, 31)}, "31x24"),
        ({"frames": 1}, "at least 2"),
        ({"t_min": 30, "t_max": 20}, "in order"),
        ({"t_max": 1000}, r"0\.\.999"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        guidance(model(), **options)


def test_a_broken_network_is_named_and_gives_no_gradient() -> None:
    class Broken(Mixer):
        def forward(self, sample: Tensor, timestep: Tensor, **told) -> Tensor:
            return super().forward(sample, timestep, **told) / 0

    with pytest.raises(RuntimeError, match="not finite"):
        guidance(model("epsilon", Broken()))(moving(), seeded())


def test_a_guided_fit_resumed_in_its_refinement_is_bitwise_the_uninterrupted_one() -> None:
    still = moving().gaussians
    clip = torch.rand(V, T, 3, H, W, generator=seeded()), torch.ones(V, T, 1, H, W)
    cameras = rig((0, 120, 240), width=W, height=H)
    options = {"iterations": 2, "refine_iterations": 3, "lambda_sds": 10.0, "images_per_step": 4}
    options["field"] = {"planes": ((8, 4),), "features": 4, "levels": 1}

    def fit(**more: Any) -> list[Any]:
        return list(fit_motion(still, cameras, *clip, **options, guidance=guidance(model()), **more))  # type: ignore

    saved = {}
    for state in fit_motion(still, cameras, *clip, **options, guidance=guidance(model())):  # type: ignore[arg-type]
        saved[state.iteration] = state.checkpoint()
    resumed = fit(resume=saved[3])
    assert [state.phase for state in resumed] == ["refine", "refine"]
    whole, parts = (states[-1].asset.field.state_dict() for states in (fit(), resumed))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert resumed[-1].terms["sds"] > 0
    unguided = list(fit_motion(still, cameras, *clip, **options))[-1].asset.field.state_dict()  # type: ignore[arg-type]
    assert any(not torch.equal(whole[name], unguided[name]) for name in whole), "the guidance moves the field"
