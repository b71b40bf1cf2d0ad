"""4D spherical harmonics (Eq. 8) and the stored form of the asset that carries them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from t4d.geometry.camera import rig
from t4d.motion.appearance import Appearance, sh_over_time_reference
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_table import FeatureTable
from t4d.motion.field import MotionField
from t4d.splat.gaussians import Gaussians, stack_gaussians
from t4d.splat.render import render_gaussians

N, T = 7, 5
DATA = Path(__file__).parent / "data"


def static(degree=0):
    generator = torch.Generator().manual_seed(0)
    k = (degree + 1) ** 2
    return Gaussians(
        torch.rand(N, 3, generator=generator) - 0.5,
        torch.randn(N, 4, generator=generator),
        torch.full((N, 3), -2.5),
        torch.full((N,), 2.0),
        torch.randn(N, k, 3, generator=generator),
    )


def coloured(gaussians, degree=0, terms=4):
    appearance = Appearance(gaussians, T, degree, terms)
    with torch.no_grad():
        appearance.fr.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    return appearance


def full_asset(own=0, degree=0, with_table=True):
    gaussians = static(own)
    generator = torch.Generator().manual_seed(2)
    values, visible = torch.randn(N, T, 3, generator=generator), torch.rand(N, T, generator=generator) > 0.4
    field = MotionField(
        gaussians.means,
        [(6, 3), (4, 2)],
        features=2,
        levels=2,
        hidden=5,
        bias=False,
        global_transform=True,
        table=FeatureTable(values, visible) if with_table else None,
    )
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.normal_(0, 0.5, generator=generator)
    return MotionAsset(gaussians, field, T, coloured(gaussians, degree))


@pytest.mark.parametrize(("own", "degree"), [(0, 0), (1, 1), (2, 1), (0, 2)])
def test_agrees_with_the_twin_forward_and_backward(own, degree):
    appearance = coloured(static(own), degree).double()
    times = torch.tensor([0.0, 1.0, 2.7, 4.0], dtype=torch.float64)
    fast = appearance.sh(times)
    slow = torch.stack([sh_over_time_reference(appearance.still, appearance.fr, T, float(t)) for t in times])
    assert fast.shape == (4, N, (max(own, degree) + 1) ** 2, 3)
    torch.testing.assert_close(fast, slow, atol=1e-12, rtol=0)
    cotangent = torch.randn(fast.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    a, b = (torch.autograd.grad(value, appearance.fr, cotangent)[0] for value in (fast, slow))
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_eq_8_of_one_coefficient_by_hand():
    gaussians = static()
    appearance = Appearance(gaussians, T, 0, 3)
    with torch.no_grad():
        appearance.fr[0, 2, 0, 1], appearance.fr[1, 2, 0, 1] = 0.5, -0.25
    # w = 3, N_t = 5, t = 2: cos(2 pi / 5) = 0.309017, cos(4 pi / 5) = -0.809017
    expected = float(gaussians.sh[2, 0, 1]) + 0.5 * (0.309017 - 1) - 0.25 * (-0.809017 - 1)
    assert float(appearance.sh(torch.tensor([2.0]))[0, 2, 0, 1].detach()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("own", "degree"), [(0, 0), (0, 2), (1, 0)])
def test_frame_zero_is_the_static_colour_exactly(own, degree):
    asset = full_asset(own, degree)
    assert asset.appearance is not None
    assert torch.equal(asset.appearance.sh(torch.zeros(1))[0], asset.appearance.still)
    cameras = rig((0, 70), width=24, height=18)
    pictures = [
        render_gaussians(gaussians, cameras, backend="reference") for gaussians in (asset.at(0), asset.gaussians)
    ]
    assert float((pictures[0] - pictures[1]).abs().max()) == 0
    stack_gaussians([asset.at(frame) for frame in range(T)])  # frame 0 has the others' number of coefficients
    assert float((asset.at(3).sh - asset.at(0).sh).abs().max()) > 0.1


def test_impossible_series_are_refused():
    for degree, terms in ((4, 5), (0, 1)):
        with pytest.raises(ValueError, match="at least 2 terms"):
            Appearance(static(), T, degree, terms)


@pytest.mark.parametrize(("own", "degree", "with_table"), [(0, 0, True), (1, 2, True), (0, 0, False)])
def test_saved_and_loaded_asset_is_the_same_bits(tmp_path, own, degree, with_table):
    asset = full_asset(own, degree, with_table)
    asset.save(tmp_path / "asset.safetensors")
    loaded = MotionAsset.load(tmp_path / "asset.safetensors")
    assert loaded.field.config == asset.field.config and loaded.appearance and asset.appearance
    assert loaded.appearance.config == asset.appearance.config
    for frame in (0, 0.5, 1, 3.3, 4):
        for name, value in asset.at(frame).state_dict().items():
            assert torch.equal(value, loaded.at(frame).state_dict()[name]), (frame, name)


def test_files_of_the_first_format_still_move_as_they_did():
    asset = MotionAsset.load(DATA / "asset_format_1.safetensors")
    expected = load_file(DATA / "asset_format_1_frame_2.5.safetensors")  # written by the program of that format
    assert asset.frames == 4 and asset.appearance is None and asset.field.table is None
    for name, value in asset.at(2.5).state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-6, rtol=1e-6)
