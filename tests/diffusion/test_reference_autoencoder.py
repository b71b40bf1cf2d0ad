"""Laws of the reference-conditioned autoencoder; V != T and moving pictures throughout."""

import pytest
import torch
import torch.nn.functional as F

from t4d.data.dataset import warp
from t4d.diffusion.autoencoders.reference import Decoded, ReferenceAutoencoder, warp_reference
from t4d.diffusion.weights import load_module, save_module
from t4d.errors import InputError

V, T = 2, 3


@pytest.fixture(scope="module")
def autoencoder() -> ReferenceAutoencoder:
    torch.manual_seed(0)
    made = ReferenceAutoencoder(widths=(8, 16, 24)).eval()
    with torch.no_grad():  # as after training: a fresh decoder would pass many of these laws by doing nothing
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


def disc(shift: float, side: int = 128) -> torch.Tensor:
    """A textured disc moved to the right by `shift` (-1..1 units), [4, side, side]."""
    at = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = torch.meshgrid(at, at, indexing="ij")
    alpha = ((0.5 - ((x - shift) ** 2 + y**2).sqrt()) * side / 2).clamp(0, 1)
    color = torch.stack([0.5 + 0.4 * torch.sin(5 * (x - shift)), 0.5 + 0.4 * torch.cos(4 * y), 0 * x + 0.2])
    return torch.cat([0.5 + alpha * (color - 0.5), alpha[None]])


def clip(side: int = 128) -> torch.Tensor:
    """[1, V, T, 4, side, side]; the second view moves the other way."""
    shifts = torch.tensor([[0, 0.1, 0.25], [0, -0.1, -0.25]])
    return torch.stack([torch.stack([disc(float(s), side) for s in row]) for row in shifts])[None]


@torch.no_grad()
def test_frame_zero_and_zero_latents_are_the_reference(autoencoder):
    rgba = clip()
    z = autoencoder.encode(rgba)
    assert z.shape == (1, V, T, 8, 8, 8)
    assert z[:, :, 0].abs().max() == 0 and z[:, :, 1:].abs().max() > 1e-3
    out = autoencoder.decode(z, rgba[:, :, 0])
    assert out.shape == rgba.shape and torch.isfinite(out).all()
    assert (out[:, :, 0] - rgba[:, :, 0]).square().mean() < 10**-5
    assert (out[:, :, 1:] - rgba[:, :, :1]).abs().max() > 1e-2  # the heads do something elsewhere


@torch.no_grad()
def test_a_still_clip_has_zero_latents(autoencoder):
    still = clip()[:, :, :1].expand(1, V, T, 4, 128, 128)
    assert autoencoder.encode(still).abs().max() < 1e-4


def test_the_reference_alone_encodes_to_zero(autoencoder):
    assert autoencoder.encode(clip()[:, :, :1]).shape == (1, V, 1, 8, 8, 8)
    assert autoencoder.encode(clip(64)[:, :, :1]).abs().max() == 0


def test_flow_survives_the_latent(autoencoder):
    flow = 0.4 * torch.randn(3, 2, 8, 8).tanh()
    flow = F.interpolate(flow, scale_factor=4, mode="nearest")
    z = autoencoder.latents_of_flow(flow, torch.ones(3, 1, 32, 32))
    found = F.interpolate(autoencoder.flow_of_latents(z), scale_factor=2, mode="nearest")
    torch.testing.assert_close(found, flow, atol=1e-5, rtol=1e-4)


def test_flow_off_the_object_has_no_say(autoencoder):
    flow, coverage = torch.full((1, 2, 32, 32), 0.1), torch.zeros(1, 1, 32, 32)
    coverage[..., 8:16, 8:16] = 1
    wild = torch.where(coverage > 0, flow, torch.full_like(flow, 7.0))
    z = autoencoder.latents_of_flow(wild, coverage)
    torch.testing.assert_close(z, autoencoder.latents_of_flow(flow, coverage))
    grid = autoencoder.flow_of_latents(z)
    torch.testing.assert_close(grid[..., 4:8, 4:8], torch.full((1, 2, 4, 4), 0.1))
    assert grid[..., 15, 15].abs().max() == 0 and torch.isfinite(z).all()


def test_wild_latents_stay_finite(autoencoder):
    with torch.no_grad():
        out = autoencoder.decode(1e3 * torch.randn(1, V, T, 8, 8, 8), clip()[:, :, 0])
    assert torch.isfinite(out).all() and out.min() >= 0 and out.max() <= 1


def test_warping_agrees_with_the_data_and_moves_the_disc():
    reference, moved = disc(0.0)[None], disc(0.2)[None]
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0] = -0.2  # the picture moved right: a pixel came from its left
    nothing = torch.zeros(1, 1, 64, 64), torch.zeros(1, 3, 64, 64)
    out = warp_reference(reference, Decoded(flow, *nothing))
    torch.testing.assert_close(out[:, 3], warp(reference, flow)[:, 3], atol=1e-4, rtol=0)
    inside = (-torch.nn.functional.max_pool2d(-moved[:, 3:], 5, 1, 2)).expand_as(moved) > 0.99
    assert (out - moved).abs()[inside].max() < 0.02
    assert (out[:, 3] - moved[:, 3]).abs().mean() < 0.003


def test_uncovering_leaves_the_background_grey():
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0] = -0.2
    out = warp_reference(disc(0.0)[None], Decoded(flow, torch.full((1, 1, 64, 64), -1.0), torch.ones(1, 3, 64, 64)))
    assert (out[:, :3] - 0.5).abs().max() < 1e-6


def test_gradients_reach_every_parameter(autoencoder):
    rgba = clip()
    parts = autoencoder.decode_parts(autoencoder.latents(rgba[0, :, 1], rgba[0, :, 0]), rgba[0, :, 0])
    out = warp_reference(rgba[0, :, 0], parts)
    names, parameters = zip(*autoencoder.named_parameters())
    found = torch.autograd.grad(out.square().mean(), parameters, allow_unused=True)
    # biases after the last nonlinearity cancel in the subtraction of the output for "nothing changed"
    dead = {n for n, g in zip(names, found) if g is None or not torch.isfinite(g).all() or g.abs().max() == 0}
    linear = {"after_look.1.second.bias", "encoder.at_eighth.2.second.bias", "to_latent.bias", "to_parts.bias"}
    assert dead <= linear, dead


def test_saving_keeps_the_function(autoencoder, tmp_path):
    save_module(autoencoder, tmp_path, torch.float32)
    again = load_module(ReferenceAutoencoder, tmp_path)
    z = torch.randn(1, V, T, 8, 8, 8)
    with torch.no_grad():
        a, b = autoencoder.decode(z, clip()[:, :, 0]), again.decode(z, clip()[:, :, 0])
    torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(1, V, T, 4, 96, 128), (1, V, T, 4, 100, 100)])
def test_other_sizes_are_refused(autoencoder, shape):
    with pytest.raises(InputError, match="squares of 64 px"):
        autoencoder.encode(torch.zeros(shape))
