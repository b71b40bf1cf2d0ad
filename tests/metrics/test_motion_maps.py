"""Motion in pictures, on clips where every figure is known by hand."""

import math

import pytest
import torch

from t4d.diffusion.segmenter import srgb_to_lab as segmenter_lab
from t4d.metrics.motion_maps import (
    ever_inside,
    first_frame_psnr,
    gain_over_still,
    lab_shift,
    magnitude,
    map_correlation,
    second_difference,
    srgb_to_lab,
    temporal_variance,
)


def square(places: list[int], side: int = 4, size: int = 16, level: float = 1.0) -> torch.Tensor:
    """One view of a square of brightness `level` over grey whose left edge is at `places`, [1, T, 4, size, size]."""
    clip = torch.full((1, len(places), 4, size, size), 0.5)
    clip[:, :, 3] = 0
    for t, left in enumerate(places):
        clip[0, t, :3, 4 : 4 + side, left : left + side] = level
        clip[0, t, 3, 4 : 4 + side, left : left + side] = 1
    return clip


def test_variance_of_a_moving_square():
    found = temporal_variance(square([2, 3, 4, 5]))
    inside = torch.zeros(16)  # of 4 frames, in how many a column of the square's rows shows it
    inside[2:9] = torch.tensor([1, 2, 3, 4, 3, 2, 1.0])
    share = (inside / 4).double()
    assert torch.allclose(found[0, 5], share * (1 - share) * 0.5**2)
    assert not found[0, 0].any()


def test_region_is_where_the_object_ever_is():
    region = ever_inside(square([2, 3]), square([6, 6]))
    columns = region[0].any(0).nonzero()[:, 0].tolist()
    assert columns == [2, 3, 4, 5, 6, 7, 8, 9] and int(region.sum()) == 8 * 4


def test_flicker_and_even_change():
    base, where = square([4] * 6), torch.ones(1, 16, 16, dtype=torch.bool)
    sign = torch.tensor([1.0, -1, 1, -1, 1, -1])[None, :, None, None, None]
    flicker = base.clone()
    flicker[:, :, :3] = 0.5 + 0.1 * sign
    assert magnitude(flicker, where) == pytest.approx(0.1, rel=1e-5)
    assert second_difference(flicker, where) == pytest.approx(0.4, rel=1e-5)
    ramp = base.clone()
    ramp[:, :, :3] = torch.linspace(0.2, 0.7, 6)[None, :, None, None, None]
    assert second_difference(ramp, where) == pytest.approx(0, abs=1e-6)
    assert magnitude(ramp, where) == pytest.approx(0.1 * math.sqrt(35 / 12), rel=1e-5)  # of 0, 1, .. 5 tenths


def test_a_still_copy():
    truth = square([2, 3, 4, 5])
    still = truth[:, :1].expand_as(truth)
    where = ever_inside(still, truth)
    assert gain_over_still(still, truth) == 0
    assert magnitude(still, where) == 0 and second_difference(still, where) == 0
    assert map_correlation(temporal_variance(still), temporal_variance(truth), where) == 0


def test_correlation_is_one_for_the_same_motion_at_another_phase_and_low_elsewhere():
    truth, late = square([2, 3, 5, 3]), square([3, 5, 3, 2])
    where = ever_inside(truth, late)
    maps = [temporal_variance(x) for x in (truth, late)]
    assert map_correlation(maps[1], maps[0], where) == pytest.approx(1)
    assert map_correlation(3 * maps[0] + 0.1, maps[0], where) == pytest.approx(1)
    assert map_correlation(-maps[0], maps[0], where) == pytest.approx(-1)
    with pytest.raises(ValueError, match="does not move"):
        map_correlation(maps[0], torch.zeros_like(maps[0]), where)


def test_gain_is_the_ratio_of_squared_errors():
    truth = square([4, 4, 4])
    truth[:, 1:, :3] += 0.3 * truth[:, 1:, 3:]  # brighter from frame 1 on: copying is off by 0.3
    made = truth.clone()
    made[:, 1:, :3] -= 0.03 * truth[:, 1:, 3:]
    assert gain_over_still(made, truth) == pytest.approx(20, abs=1e-3)
    made[:, 1:, :3] = truth[:, 1:, :3] + 0.6 * truth[:, 1:, 3:]
    assert gain_over_still(made, truth) == pytest.approx(-20 * math.log10(2), abs=1e-3)


def test_leaving_the_picture_is_not_free():
    truth = square([4, 4, 4])
    truth[:, 1:, :3] -= 0.1 * truth[:, 1:, 3:]
    gone = square([4, 4, 4], level=0.5)
    gone[:, 1:, 3] = 0
    gone[:, 0] = truth[:, 0]
    assert gain_over_still(gone, truth) == pytest.approx(20 * math.log10(0.1 / 0.4), abs=1e-3)


def test_first_frame():
    clip = square([4, 9])
    assert first_frame_psnr(clip, clip[:, 0]) == 100
    off = clip[:, 0].clone()
    off[:, :3] -= 0.1 * off[:, 3:]
    assert first_frame_psnr(clip, off) == pytest.approx(20, abs=1e-4)
    elsewhere = square([8])[:, 0]  # beside it: all of both squares is off by a half
    assert first_frame_psnr(clip, elsewhere) == pytest.approx(20 * math.log10(2), abs=1e-4)


def test_lab_is_that_of_the_tables_and_of_the_segmenter():
    colors = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 1], [0.0, 0, 0]])
    table = torch.tensor([[100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86], [0, 0, 0.0]])
    assert torch.allclose(srgb_to_lab(colors), table.double(), atol=0.02)
    any_colors = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(srgb_to_lab(any_colors), torch.from_numpy(segmenter_lab(any_colors.numpy())), atol=1e-3)


def test_lab_shift():
    clip = square([2, 6, 9], level=1.0)
    assert lab_shift(clip) == pytest.approx(0, abs=1e-9)  # moving is no change of colour
    clip[:, 1, :3] = torch.where(clip[:, 1, 3:] > 0, 0.0, clip[:, 1, :3])  # black in one of two frames
    assert lab_shift(clip) == pytest.approx(50, abs=1e-3)
    clip[:, 1, 3] = 0  # not there at all
    assert lab_shift(clip) == pytest.approx(50, abs=1e-3)


def test_refusals():
    with pytest.raises(ValueError, match="expected \\[V, T, 4, H, W\\]"):
        temporal_variance(torch.zeros(1, 2, 3, 4, 4))
    with pytest.raises(ValueError, match="at least 3"):
        second_difference(square([1, 2]), torch.ones(1, 16, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match="some pixels"):
        magnitude(square([1, 2]), torch.zeros(1, 16, 16, dtype=torch.bool))
