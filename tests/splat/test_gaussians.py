"""The parameter set, its colours, and pictures of it."""

import pytest
import torch

from t4d.geometry.camera import orbit_camera, rig
from t4d.splat import PIXEL_FILTER, Gaussians, eval_sh, rasterize, render_gaussians, rgb_to_sh0, sh0_to_rgb
from t4d.splat.gaussians import stack_gaussians


def _gaussians(n: int = 30, degree: int = 0, seed: int = 0) -> Gaussians:
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        means=0.3 * torch.randn(n, 3, generator=g),
        quats=torch.randn(n, 4, generator=g),
        log_scales=torch.full((n, 3), -2.5),
        opacity_logits=torch.full((n,), 2.0),
        sh=0.3 * torch.randn(n, (degree + 1) ** 2, 3, generator=g),
    )


def test_state_round_trip_and_stack() -> None:
    a, b = _gaussians(seed=0), _gaussians(seed=1)
    again = Gaussians.from_state_dict(a.state_dict())
    assert all(torch.equal(x, again.state_dict()[k]) for k, x in a.state_dict().items())
    both = stack_gaussians([a, b])
    assert both.means.shape == (2, 30, 3)
    assert len(both) == 30
    assert a.to(torch.float64).sh.dtype == torch.float64
    with pytest.raises(ValueError, match="expected"):
        Gaussians.from_state_dict({"means": a.means})
    with pytest.raises(ValueError, match=r"quats has shape \[29, 4\]"):
        a.replace(quats=a.quats[1:])
    with pytest.raises(ValueError, match="sh has 2 coefficients"):
        a.replace(sh=torch.zeros(30, 2, 3))


def test_sh0_and_rgb_are_inverse() -> None:
    rgb = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(sh0_to_rgb(rgb_to_sh0(rgb)), rgb, atol=1e-6)
    g = _gaussians(5).replace(sh=rgb_to_sh0(rgb)[:, None])
    assert torch.allclose(g.colors(), rgb, atol=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_are_orthonormal(degree: int) -> None:
    """Integral over the sphere of every pair of bases, on a product grid that is exact for these degrees."""
    import numpy as np

    z, wz = np.polynomial.legendre.leggauss(8)
    phi = (torch.arange(16, dtype=torch.float64) + 0.5) * 2 * torch.pi / 16
    zz, pp = torch.meshgrid(torch.from_numpy(z), phi, indexing="ij")
    r = (1 - zz**2).sqrt()
    dirs = torch.stack([r * pp.cos(), r * pp.sin(), zz], -1).reshape(-1, 3)
    weight = (torch.from_numpy(wz)[:, None] * 2 * torch.pi / 16).expand(8, 16).reshape(-1)
    k = (degree + 1) ** 2
    values = eval_sh(degree, dirs[:, None], torch.eye(k, dtype=torch.float64)[:, :, None].expand(1, k, k, 1))[..., 0]
    assert torch.allclose(values.T @ (values * weight[:, None]), torch.eye(k, dtype=torch.float64), atol=1e-9)


def test_harmonics_refuse_bad_input() -> None:
    with pytest.raises(ValueError, match="degree is 4"):
        eval_sh(4, torch.ones(3), torch.zeros(25, 3))
    with pytest.raises(ValueError, match="K >= 9"):
        eval_sh(2, torch.ones(3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="pass the cameras' eyes"):
        _gaussians(degree=1).colors()


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
@pytest.mark.parametrize("degree", [0, 2])
def test_render_is_rasterize_over_grey(batch: tuple[int, ...], degree: int) -> None:
    g = _gaussians(degree=degree).map(lambda t: t.expand(*batch, *t.shape))
    cameras = rig(width=36, height=28)
    rgba = render_gaussians(g, cameras)
    assert rgba.shape == (*batch, 4, 4, 28, 36)
    one = g.map(lambda t: t.reshape(-1, *t.shape[len(batch) :])[0])
    for v, camera in enumerate(cameras):
        view, K = camera.world_to_camera.float()[None], camera.K.float()[None]
        colors = one.colors(camera.eye.float()[None])
        picture, alpha, _ = rasterize(
            *(one.means, one.quats, one.scales, one.opacities, colors, view, K, 36, 28),
            backend="reference",
            backgrounds=torch.full((1, 3), 0.5),
            **PIXEL_FILTER,
        )
        expected = torch.cat([picture, alpha], -1)[0].permute(2, 0, 1)
        assert (rgba.reshape(-1, 4, 4, 28, 36)[-1, v] - expected).abs().max() < 1e-4


def test_mixed_camera_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size for all"):
        render_gaussians(_gaussians(), [orbit_camera(0, 0, width=w, height=10) for w in (10, 12)])


def test_thin_gaussians_far_away_keep_their_light() -> None:
    """The antialiased pixel filter: total alpha of a faint dot stays, however few pixels it covers."""
    g = Gaussians(
        torch.zeros(1, 3),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.full((1, 3), -5.0),
        torch.tensor([-1.0]),
        torch.zeros(1, 1, 3),
    )
    near = render_gaussians(g, [orbit_camera(0, 0, width=400, height=400)])[0, 3].sum() / 400**2
    far = render_gaussians(g, [orbit_camera(0, 0, width=100, height=100)])[0, 3].sum() / 100**2
    assert abs(far / near - 1) < 0.15
