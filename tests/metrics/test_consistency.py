"""Photometric agreement on scenes small enough to know the answer."""

import math

import pytest
import torch

from t4d.geometry.camera import orbit_camera
from t4d.metrics.consistency import photometric_agreement, sample_at

WIDTH, HEIGHT = 40, 30


def camera(azimuth: float):
    return orbit_camera(azimuth, 0.0, width=WIDTH, height=HEIGHT)


def flat(value: float, frames: int = 2) -> torch.Tensor:
    return torch.full((1, frames, 4, HEIGHT, WIDTH), value)


def everywhere(views: int, frames: int = 2, count: int = 3) -> torch.Tensor:
    return torch.ones(views, frames, count, dtype=torch.bool)


POINTS = 0.2 * torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))


def test_sample_at_reads_a_ramp_at_the_projection():
    x = (torch.arange(WIDTH) + 0.5).expand(2, 1, HEIGHT, WIDTH)
    y = (torch.arange(HEIGHT) + 0.5)[:, None].expand(2, 1, HEIGHT, WIDTH)
    view = camera(30.0)
    wanted, _ = view.project(POINTS)
    torch.testing.assert_close(sample_at(torch.cat([x, y], 1), view, POINTS), wanted, atol=1e-4, rtol=0)


def test_agreement_by_hand():
    held, clip = flat(0.6), flat(0.5)
    found = photometric_agreement(held, [camera(0)], clip, [camera(45)], POINTS, everywhere(1), everywhere(1))
    assert found == pytest.approx(20, abs=1e-3)  # 10 log10(1 / .1^2)


def test_only_near_views_and_common_points_are_linked():
    held, clip = flat(0.5), torch.cat([flat(0.5), flat(0.9)])
    cameras = [camera(45), camera(180)]
    assert photometric_agreement(held, [camera(0)], clip, cameras, POINTS, everywhere(1), everywhere(2)) == 100
    wide = photometric_agreement(held, [camera(0)], clip, cameras, POINTS, everywhere(1), everywhere(2), angle=181.0)
    assert wide == pytest.approx(-10 * math.log10(0.16 / 2), abs=1e-3)
    seen = everywhere(1)
    seen[:, :, 0] = False
    bright = torch.where(torch.arange(2)[None, :, None, None, None] == 1, flat(0.7), flat(0.5))
    seen[:, 1] = False  # the second frame, where colours differ, is seen by nobody
    assert photometric_agreement(bright, [camera(0)], flat(0.5), cameras[:1], POINTS, seen, everywhere(1)) == 100


def test_refusals():
    with pytest.raises(ValueError, match="no point is seen"):
        photometric_agreement(flat(0.5), [camera(0)], flat(0.5), [camera(180)], POINTS, everywhere(1), everywhere(1))
    with pytest.raises(ValueError, match="held-out views"):
        photometric_agreement(flat(0.5), [camera(0)], flat(0.5), [camera(9)], POINTS, everywhere(2), everywhere(1))
