"""Motion metrics by hand and by law."""

import math

import pytest
import torch

from t4d.geometry.rotations import quat_to_matrix
from t4d.metrics.motion import (
    area_change,
    color_drift,
    distances,
    jitter,
    maximum_difference,
    relative_rigidity,
    share_of_gap,
    within,
)
from t4d.motion.arap import arap_loss, nearest_neighbours


def test_within_by_hand_and_strictly():
    truth = torch.zeros(2, 3, 3)
    points = truth.clone()
    points[0, 0, 0], points[0, 1, 1], points[1, 2, 2] = 0.03, 0.1, -0.5  # of a diagonal of 1
    distance = distances(points, truth)
    assert distance.shape == (2, 3)
    # exactly at a threshold is not within it
    assert within(distance, 1.0, (0.03, 0.05, 0.1, 0.2, 1.0)) == pytest.approx(
        {0.03: 3 / 6, 0.05: 4 / 6, 0.1: 4 / 6, 0.2: 5 / 6, 1.0: 1.0}
    )
    assert within(distance, 2.0, (0.02,)) == {0.02: 4 / 6}  # thresholds grow with the object


def test_within_laws():
    generator = torch.Generator().manual_seed(0)
    truth, off = torch.rand(4, 7, 3, generator=generator), torch.rand(4, 7, 3, generator=generator)
    values = list(within(distances(truth + 0.2 * off, truth), 1.5).values())
    assert values == sorted(values)
    turn = quat_to_matrix(torch.nn.functional.normalize(torch.rand(4, generator=generator), dim=0))
    torch.testing.assert_close(distances(truth @ turn.T, off @ turn.T), distances(truth, off))
    with pytest.raises(ValueError, match="expected > 0"):
        within(distances(truth, off), 0.0)
    with pytest.raises(ValueError, match="same"):
        distances(truth, off[:3])


def test_share_of_gap_by_hand():
    assert share_of_gap(0.04, 0.04, 0.01) == 0
    assert share_of_gap(0.04, 0.01, 0.01) == 1
    assert share_of_gap(0.04, 0.02, 0.01) == pytest.approx(2 / 3)
    assert share_of_gap(0.04, 0.07, 0.01) == pytest.approx(-1)
    with pytest.raises(ValueError, match="no motion"):
        share_of_gap(0.01, 0.01, 0.01)


def test_jitter_by_hand():
    frames = torch.arange(40.0)
    even = frames[:, None, None] * torch.tensor([[1.0, -2.0, 0.5]])
    assert jitter(even) == pytest.approx(0, abs=1e-6)
    assert jitter((frames % 2)[:, None, None]) == pytest.approx(2)  # to and fro
    noise = torch.randn(4000, 5, 3, generator=torch.Generator().manual_seed(1))
    assert jitter(noise) == pytest.approx(math.sqrt(3), rel=0.01)
    assert jitter(torch.ones(5, 2, 3)) == 0
    path = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(2))
    assert jitter(7 * path + 3) == pytest.approx(jitter(path))  # blind to amount and place
    with pytest.raises(ValueError, match="at least 3"):
        jitter(path[:2])


def test_color_drift_by_hand():
    still = torch.full((2, 3), 0.5)
    colors = still.expand(3, 2, 3).clone()
    colors[1, 0] += torch.tensor([0.1, -0.2, 0.3])
    assert color_drift(colors, still) == pytest.approx(0.6 / 18)
    assert color_drift(colors, still.expand(3, 2, 3)) == pytest.approx(0.6 / 18)
    where = torch.zeros(3, 2, dtype=torch.bool)
    where[1, 0] = True
    assert color_drift(colors, still, where) == pytest.approx(0.2)
    with pytest.raises(ValueError, match="that count"):
        color_drift(colors, still, torch.zeros(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"\[T, N, 3\]"):
        color_drift(colors, still[:1])


def test_area_change_by_hand():
    still = torch.zeros(1, 2, 6, 8)
    still[:, :, :2, :2] = 1  # 4 pixels
    moved = torch.zeros(3, 2, 6, 8)
    moved[:, 0, :2, :2] = 1
    moved[:, 1, :4, :2] = 1  # 8 pixels
    assert area_change(moved, still) == pytest.approx(math.log(2) / 2)
    assert area_change(moved, moved) == 0
    assert area_change(still.expand(3, -1, -1, -1), moved) == pytest.approx(math.log(2) / 2)  # symmetric
    with pytest.raises(ValueError, match="expected"):
        area_change(moved, still[:, :1])


def test_relative_rigidity_is_free_of_units_and_of_rigid_motion():
    generator = torch.Generator().manual_seed(3)
    rest = torch.rand(60, 3, generator=generator)
    moved = rest[None] + 0.03 * torch.rand(2, 60, 3, generator=generator)
    neighbours, every = nearest_neighbours(rest), torch.arange(60)

    def energy(a: torch.Tensor, b: torch.Tensor) -> float:
        return relative_rigidity(float(arap_loss(a, b, neighbours, every)), a, neighbours)

    assert energy(rest, moved) > 1e-3
    assert energy(10 * rest, 10 * moved) == pytest.approx(energy(rest, moved), rel=1e-4)
    turn = quat_to_matrix(torch.nn.functional.normalize(torch.rand(4, generator=generator), dim=0))
    assert energy(rest, (rest @ turn.T + 0.3)[None]) == pytest.approx(0, abs=1e-6)
    # every edge longer by a tenth: error (0.1 e)^2 for every edge
    assert energy(rest, 1.1 * rest[None]) == pytest.approx(0.01, rel=1e-3)
    with pytest.raises(ValueError, match="coincide"):
        relative_rigidity(0.0, torch.zeros(4, 3), nearest_neighbours(torch.zeros(4, 3)))


def test_maximum_difference():
    a = {"x": torch.tensor([1.0, 2.0]), "y": torch.zeros(2, 2)}
    b = {"x": torch.tensor([1.0, 2.5]), "y": torch.zeros(2, 2)}
    assert maximum_difference(a, a) == 0
    assert maximum_difference(a, b) == 0.5
    with pytest.raises(ValueError, match="same names"):
        maximum_difference(a, {"x": a["x"]})
