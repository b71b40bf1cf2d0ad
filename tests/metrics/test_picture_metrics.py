"""Picture metrics against hand-computed values, a slow twin, scipy (and scikit-image where installed), and laws."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from t4d.metrics.pictures import C1, C2, mask_union, masked_mse, masked_ssim, psnr, silhouette_iou, ssim_map


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def square(top: int, left: int, size: int, value: float, height: int = 20, width: int = 26) -> torch.Tensor:
    """A square of one colour over grey, [4, H, W]."""
    rgba = torch.cat([torch.full((3, height, width), 0.5), torch.zeros(1, height, width)])
    rgba[:3, top : top + size, left : left + size] = value
    rgba[3, top : top + size, left : left + size] = 1
    return rgba


def test_masked_mse_by_hand():
    truth, mine = square(2, 3, 4, 1.0), square(2, 5, 4, 0.8)
    # 8 pixels overlap (error .2^2), 8 are only in the truth (.5^2), 8 only in the other (.3^2): 24 in the union.
    assert masked_mse(truth, mine) == pytest.approx((8 * 0.04 + 8 * 0.25 + 8 * 0.09) / 24, rel=1e-6)
    assert int(mask_union(truth, mine).sum()) == 24


def test_masked_mse_pools_pixels_not_pictures():
    small, large = square(0, 0, 2, 1.0), square(0, 0, 6, 1.0)
    truth = torch.stack([small, large])
    mine = torch.stack([square(0, 0, 2, 0.5), large])
    assert masked_mse(truth, mine) == pytest.approx(4 * 0.25 / 40, rel=1e-6)


def test_the_outside_does_not_count():
    truth = square(4, 4, 8, 0.9)
    mine = truth.clone()
    mine[:3, 15:, 15:] = 0.1
    assert masked_mse(truth, mine) == 0
    assert psnr(masked_mse(truth, mine)) == 100


def test_psnr_by_hand():
    assert psnr(0.01) == pytest.approx(20)
    assert psnr(1.0) == 0
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="finite number"):
            psnr(bad)


def ssim_twin(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM pixel by pixel from the definition: weighted moments of an 11 x 11 window, borders mirrored."""
    offset = np.arange(-5, 6)
    line = np.exp(-0.5 * (offset / 1.5) ** 2)
    weight = np.outer(line, line) / line.sum() ** 2
    pad_a, pad_b = (np.pad(x, 5, mode="symmetric") for x in (a, b))
    out = np.zeros_like(a)
    for i, j in np.ndindex(a.shape):
        x, y = pad_a[i : i + 11, j : j + 11], pad_b[i : i + 11, j : j + 11]
        mx, my = (weight * x).sum(), (weight * y).sum()
        vx, vy = (weight * (x - mx) ** 2).sum(), (weight * (y - my) ** 2).sum()
        cov = (weight * (x - mx) * (y - my)).sum()
        out[i, j] = (2 * mx * my + C1) * (2 * cov + C2) / ((mx**2 + my**2 + C1) * (vx + vy + C2))
    return out


@pytest.mark.parametrize("size", [(13, 17), (4, 9)])  # the second is smaller than the window: borders fold twice
def test_ssim_map_matches_the_slow_twin(size):
    a, b = pictures(*size, seed=1).double(), pictures(*size, seed=2).double()
    torch.testing.assert_close(ssim_map(a, b), torch.from_numpy(ssim_twin(a.numpy(), b.numpy())), rtol=1e-9, atol=1e-9)


def test_ssim_map_matches_scipy():
    a, b = pictures(2, 3, 31, 24, seed=3).double(), pictures(2, 3, 31, 24, seed=4).double()

    def blur(x: torch.Tensor) -> np.ndarray:
        return gaussian_filter(x.numpy(), sigma=(0, 0, 1.5, 1.5), truncate=3.5, mode="reflect")

    mx, my = blur(a), blur(b)
    vx, vy, cov = blur(a * a) - mx**2, blur(b * b) - my**2, blur(a * b) - mx * my
    wanted = (2 * mx * my + C1) * (2 * cov + C2) / ((mx**2 + my**2 + C1) * (vx + vy + C2))
    np.testing.assert_allclose(ssim_map(a, b).numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_ssim_map_matches_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pictures(28, 33, seed=5).double().numpy(), pictures(28, 33, seed=6).double().numpy()
    _, wanted = metrics.structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, full=True
    )
    np.testing.assert_allclose(ssim_map(torch.from_numpy(a), torch.from_numpy(b)).numpy(), wanted, atol=1e-9)


def test_ssim_laws():
    a, b = pictures(5, 19, 23, seed=7), pictures(5, 19, 23, seed=8)
    torch.testing.assert_close(ssim_map(a, a), torch.ones_like(a))
    torch.testing.assert_close(ssim_map(a, b), ssim_map(b, a))
    assert float(ssim_map(a, 1 - a).mean()) < 0 < float(ssim_map(a, a + 0.1 * (b - 0.5)).mean())
    # constant pictures: only the luminance term is left
    dark, light = torch.full((9, 12), 0.2), torch.full((9, 12), 0.6)
    wanted = (2 * 0.2 * 0.6 + C1) / (0.2**2 + 0.6**2 + C1)
    torch.testing.assert_close(ssim_map(dark, light), torch.full((9, 12), wanted))


def test_masked_ssim_is_the_mean_of_the_map_inside_the_union():
    truth = torch.stack([square(2, 3, 7, 0.9), square(9, 12, 5, 0.3)])[None]  # [1, 2, 4, H, W]
    mine = truth.clone()
    mine[:, :, :3] = (mine[:, :, :3] + 0.1 * pictures(1, 2, 3, 20, 26)).clamp(0, 1)
    union = mask_union(truth, mine).expand(-1, -1, 3, -1, -1)
    wanted = float(ssim_map(truth[:, :, :3], mine[:, :, :3])[union].mean())
    assert masked_ssim(truth, mine) == pytest.approx(wanted, rel=1e-6)
    assert masked_ssim(truth[0, 0], mine[0, 0]) < 1
    assert masked_ssim(truth, truth) == pytest.approx(1)


def test_iou_by_hand():
    truth, mine = square(2, 3, 4, 1.0), square(2, 5, 4, 1.0)
    assert silhouette_iou(truth, mine) == pytest.approx(8 / 24)
    empty = torch.zeros_like(truth)
    assert silhouette_iou(empty, empty) == 1
    assert silhouette_iou(truth, empty) == 0
    assert silhouette_iou(torch.stack([truth, truth]), torch.stack([truth, mine])) == pytest.approx((1 + 8 / 24) / 2)


def test_floors_rank_truth_above_noisy_above_shifted_above_absent():
    truth = square(5, 6, 9, 0.9)
    noisy = truth.clone()
    noisy[:3] += 0.05 * (pictures(3, 20, 26) - 0.5)
    shifted, absent = square(5, 9, 9, 0.9), square(0, 0, 0, 0.5)
    errors = [masked_mse(truth, other) for other in (truth, noisy, shifted, absent)]
    assert errors == sorted(errors) and errors[0] < errors[1] < errors[2] < errors[3]


def test_refusals():
    a = square(2, 3, 4, 1.0)
    with pytest.raises(ValueError, match="same"):
        masked_mse(a, a[:, :-1])
    with pytest.raises(ValueError, match="same"):
        mask_union(a[:3], a[:3])
    with pytest.raises(ValueError, match="no picture shows the object"):
        masked_mse(torch.zeros(4, 5, 6), torch.zeros(4, 5, 6))
    with pytest.raises(ValueError, match="no picture shows the object"):
        masked_ssim(torch.zeros(4, 5, 6), torch.zeros(4, 5, 6))
    with pytest.raises(ValueError, match="same"):
        ssim_map(a, a[:, :-1])
