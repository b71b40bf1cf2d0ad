"""gsplat's own torch functions as outside witness of projection and harmonics."""

import pytest
import torch
from splat_scenes import assert_gradient_close, gradients, mismatch, scene

from t4d.splat._reference import project, rotation_matrices
from t4d.splat.sh import eval_sh

W, H = 40, 52


@pytest.fixture(scope="module")
def witness():
    return pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat (or a package it imports) is not installed")


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_projection_agrees_with_gsplat(witness, batch: tuple[int, ...]) -> None:
    args, K = scene(90, width=W, height=H, batch=batch)
    args[0][..., :20, :] *= 3  # some outside the picture, where the Jacobian is held
    means, quats, scales, opacities, _, viewmats = (a.clone().requires_grad_() for a in args)
    covars, _ = witness._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    radii, means2d, depths, conics, compensations = witness._fully_fused_projection(
        means, covars, viewmats, K, W, H, calc_compensations=True
    )
    mine = project(means, quats, scales, opacities, viewmats, K, W, H, antialiased=True)
    drawn = (mine.radii > 0).all(-1)
    assert drawn.sum() > 50
    assert ((radii > 0).all(-1) | ~drawn).all()  # what we draw gsplat draws; its twin knows no opacity-aware radius
    assert (mine.radii[drawn] <= radii[drawn]).all()
    expected = (means2d, conics, depths, opacities[..., None, :] * compensations)
    got = (mine.means2d, mine.conics, mine.depths, mine.opacities)
    for a, b, name in zip(got, expected, ("means2d", "conics", "depths", "opacities")):
        assert mismatch(a[drawn], b[drawn], 1e-9, 1e-9) == 0, name
    inputs = [means, quats, scales, opacities, viewmats]
    for a, b, name in zip(
        gradients(tuple(t[drawn] for t in got), inputs),
        gradients(tuple(t[drawn] for t in expected), inputs),
        ("means", "quats", "scales", "opacities", "viewmats"),
    ):
        assert_gradient_close(a, b, name, 1e-8)


def test_persp_proj_agrees_with_gsplat(witness) -> None:
    args, K = scene(40, width=W, height=H)
    means, quats, scales = args[:3]
    factor = rotation_matrices(quats) * scales[..., None, :]
    covars, _ = witness._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
    assert mismatch(factor @ factor.mT, covars, 1e-12) == 0
    means_c, covars_c = witness._world_to_cam(means, covars, args[5])
    means2d, cov2d = witness._persp_proj(means_c, covars_c, K, W, H)
    mine = project(means, quats, scales, args[3], args[5], K, W, H, eps2d=0.0)
    assert mismatch(mine.means2d, means2d, 1e-9) == 0
    assert mismatch(mine.conics[..., 1], torch.linalg.inv(cov2d)[..., 0, 1], 1e-9, 1e-9) == 0


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_agree_with_gsplat(witness, degree: int) -> None:
    g = torch.Generator().manual_seed(degree)
    dirs = torch.randn(6, 5, 3, generator=g, dtype=torch.float64)
    coeffs = torch.randn(6, 5, 16, 3, generator=g, dtype=torch.float64)
    assert mismatch(eval_sh(degree, dirs, coeffs), witness._spherical_harmonics(degree, dirs, coeffs), 1e-12) == 0
