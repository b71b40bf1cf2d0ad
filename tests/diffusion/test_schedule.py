"""Noise, its inverses and the loss against formulas written out."""

import math

import pytest
import torch

from t4d.diffusion.losses import diffusion_loss
from t4d.diffusion.schedule import (
    FirstFrameNoise,
    add_noise,
    alpha_bar,
    first_frame_noise,
    from_x0,
    linear_alphas_cumprod,
    noisy_clip,
    target_of,
    to_x0,
)

ALPHAS = linear_alphas_cumprod()
KINDS = ["epsilon", "sample", "v_prediction"]


def draw(seed=0, B=2):
    g = torch.Generator().manual_seed(seed)
    shape = (B, 3, 5, 4, 6, 2)
    return torch.randn(shape, generator=g), torch.randn(shape, generator=g), torch.tensor([40, 970][:B])


def test_alpha_bar_is_the_product_of_linear_betas():
    product = 1.0
    for i in range(1000):
        product *= 1 - (0.00085 + (0.012 - 0.00085) * i / 999)
        if i in (0, 500, 999):
            assert float(ALPHAS[i]) == pytest.approx(product, rel=1e-4)
    between = alpha_bar(500.5, ALPHAS)
    assert ALPHAS[501] < between < ALPHAS[500]
    assert torch.equal(alpha_bar(torch.tensor([3, 999]), ALPHAS), ALPHAS[[3, 999]])


def test_add_noise_eq_1_per_object():
    z, noise, t = draw()
    z_t = add_noise(z, noise, t, ALPHAS)
    for b in range(2):
        a = float(ALPHAS[t[b]])
        torch.testing.assert_close(z_t[b], math.sqrt(a) * z[b] + math.sqrt(1 - a) * noise[b])


@pytest.mark.parametrize("kind", KINDS)
def test_prediction_types_convert_both_ways(kind):
    z, noise, t = draw()
    z_t = add_noise(z, noise, t, ALPHAS)
    target = target_of(z, noise, t, ALPHAS, kind)
    torch.testing.assert_close(to_x0(target, z_t, t, ALPHAS, kind), z, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(from_x0(z, z_t, t, ALPHAS, kind), target, rtol=1e-3, atol=1e-3)


def test_first_frame_noise_eq_2_leaves_later_frames_to_eq_1():
    z, noise, t = draw()
    law = FirstFrameNoise("power", beta_max=0.5, power=2.0)
    z_t = noisy_clip(z, noise, t, ALPHAS, law)
    for b in range(2):
        beta = 0.5 * (float(t[b]) / 1000) ** 2
        torch.testing.assert_close(z_t[b, :, 0], z[b, :, 0] + beta * noise[b, :, 0])
    torch.testing.assert_close(z_t[:, :, 1:], add_noise(z, noise, t, ALPHAS)[:, :, 1:])
    assert torch.equal(noisy_clip(z, noise, t, ALPHAS, None)[:, :, 0], z[:, :, 0])
    assert torch.equal(first_frame_noise(z, noise, 0.0), z)


def test_sigmoid_law_is_larger_at_large_times_and_its_mean_is_exact():
    law = FirstFrameNoise()
    g = torch.Generator().manual_seed(0)
    means = []
    for t in (50, 600, 999):
        beta = law.beta(torch.full((40_000,), t), g)
        assert 0 < beta.min() and beta.max() < 1
        assert float(beta.mean()) == pytest.approx(law.mean_beta(t), abs=4e-3)
        means.append(law.mean_beta(t))
    assert means[0] < means[1] < means[2]
    assert float(FirstFrameNoise("off").beta(torch.tensor([999.0])).sum()) == FirstFrameNoise("off").mean_beta(999) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_loss_eq_3_ignores_frame_0_and_is_the_mean_square(kind):
    z, noise, t = draw()
    target = target_of(z, noise, t, ALPHAS, kind)
    wrong = target.clone()
    wrong[:, :, 0] += 100
    assert float(diffusion_loss(wrong, z, noise, t, ALPHAS, kind)) == 0
    wrong[:, :, 2] += 3
    assert float(diffusion_loss(wrong, z, noise, t, ALPHAS, kind)) == pytest.approx(9 / 4, rel=1e-5)
    weight = torch.tensor([2.0, 0.0])
    assert float(diffusion_loss(wrong, z, noise, t, ALPHAS, kind, weight)) == pytest.approx(9 / 4, rel=1e-5)
