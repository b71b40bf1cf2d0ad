"""The random rig of 4D-SDS: laws of every draw, and the distributions of many."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from t4d.errors import InputError
from t4d.geometry.camera import Camera, network_camera
from t4d.motion.random_rig import random_rig

H, W, V = 24, 40, 3


def drawn(seed: int, size: int | tuple[int, int] = (H, W), views: int = V) -> list[Camera]:
    return random_rig(torch.Generator().manual_seed(seed), size, views)


def read(camera: Camera) -> tuple[float, float, float, float]:
    """Elevation and azimuth in degrees, distance, and the tangent of half the vertical field of view."""
    x, y, z = camera.eye.tolist()
    distance = math.hypot(x, y, z)
    azimuth = math.degrees(math.atan2(y, x))
    return math.degrees(math.asin(z / distance)), azimuth, distance, 0.5 * camera.height / float(camera.K[1, 1])


@pytest.mark.parametrize("seed", range(6))
def test_every_rig_is_an_even_ring_that_looks_at_the_origin(seed: int) -> None:
    cameras = drawn(seed)
    seen = [read(camera) for camera in cameras]
    assert len(cameras) == V and all((c.width, c.height) == (W, H) for c in cameras)
    for elevation, _, distance, tangent in seen:
        assert 0 <= elevation <= 30 and 15 <= 2 * math.degrees(math.atan(tangent)) <= 60
        assert 0.8 <= distance * tangent <= 1.0, "half of what the picture's height spans at the origin"
        assert np.allclose((elevation, distance, tangent), (seen[0][0], seen[0][2], seen[0][3])), "one rig, one lens"
    steps = [(b[1] - a[1]) % 360 for a, b in itertools.pairwise(seen)]
    assert np.allclose(steps, 360 / V)
    for camera in cameras:
        xy, depth = camera.project(torch.zeros(3, dtype=torch.float64))
        assert torch.allclose(xy, torch.tensor([W / 2, H / 2], dtype=torch.float64)) and depth > 0
        above, _ = camera.project(torch.tensor([0, 0, 0.3], dtype=torch.float64))
        assert above[1] < xy[1], "z is up in the picture"
        assert float(network_camera(camera)[[3, 7, 11]].norm()) == pytest.approx(1)


def test_the_generator_alone_decides_and_always_gives_five_numbers() -> None:
    torch.manual_seed(1)
    first = drawn(4)
    torch.manual_seed(2)
    again = drawn(4)
    for a, b in zip(first, again):
        assert torch.equal(a.world_to_camera, b.world_to_camera) and torch.equal(a.K, b.K)
    assert not torch.equal(drawn(5)[0].world_to_camera, first[0].world_to_camera)
    states = set()
    for views in (1, 2, 4):
        generator = torch.Generator().manual_seed(7)
        random_rig(generator, 8, views)
        states.add(int(torch.randint(1 << 40, (), generator=generator)))
    assert len(states) == 1, "what is drawn next must not depend on the number of views"


def test_distributions_are_those_of_the_specification() -> None:
    generator = torch.Generator().manual_seed(0)
    rigs = [[read(camera) for camera in random_rig(generator, 64, 4)] for _ in range(1500)]
    elevation, azimuth, distance, tangent = np.array([rig[0] for rig in rigs]).T
    fov = 2 * np.degrees(np.arctan(tangent))

    assert stats.kstest(elevation, stats.uniform(0, 30).cdf).pvalue > 0.01  # both halves nearly are, see below
    assert stats.kstest(fov, stats.uniform(15, 45).cdf).pvalue > 0.01
    assert stats.kstest(distance * tangent, stats.uniform(0.8, 0.2).cdf).pvalue > 0.01
    assert stats.kstest(azimuth, stats.uniform(-180, 90).cdf).pvalue > 0.01, "view k lies in the k-th quarter"
    assert abs(np.corrcoef(elevation, fov)[0, 1]) < 0.1


def test_half_of_the_elevations_are_uniform_in_angle_and_half_on_the_sphere() -> None:
    by_angle = 0
    for seed in range(40):
        which, u = torch.rand(5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)[:2].tolist()
        elevation = read(drawn(seed)[0])[0]
        if which < 0.5:
            by_angle += 1
            assert elevation == pytest.approx(30 * u)
        else:  # the share of the belt's area below it is u
            assert math.sin(math.radians(elevation)) == pytest.approx(u * math.sin(math.radians(30)))
    assert 10 < by_angle < 30


@pytest.mark.parametrize(("size", "views"), [(0, 4), ((16, 0), 4), (16, 0)])
def test_empty_rigs_are_refused(size: int | tuple[int, int], views: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        random_rig(torch.Generator(), size, views)
