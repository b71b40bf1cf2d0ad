"""The two-way bootstrap: exact cases, known variance, and that it respects clusters."""

import numpy as np
import pytest

from t4d.metrics.bootstrap import Interval, two_way_bootstrap


def test_constant_table_has_an_interval_of_no_width():
    found = two_way_bootstrap(np.full((4, 3), 2.5))
    assert (found.mean, found.low, found.high) == pytest.approx((2.5, 2.5, 2.5))


def test_one_row_two_columns_by_hand():
    # Columns 0 and 1: the resampled mean is 0, .5 or 1 with chances 1/4, 1/2, 1/4.
    found = two_way_bootstrap(np.array([[0.0, 1.0]]), level=0.9)
    assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
    narrow = two_way_bootstrap(np.array([[0.0, 1.0]]), level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_width_matches_the_variance_of_resampled_means():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 1))
    found = two_way_bootstrap(np.repeat(rows, 3, axis=1))
    # Seeds that agree add nothing: the interval is that of 200 independent rows.
    assert found.high - found.low == pytest.approx(2 * 1.96 * rows.std() / np.sqrt(200), rel=0.05)


def test_clusters_are_wider_than_cells():
    rng = np.random.default_rng(1)
    table = rng.normal(size=(10, 1)) + 0.05 * rng.normal(size=(10, 30))
    cells = two_way_bootstrap(table.reshape(-1, 1))
    ours = two_way_bootstrap(table)
    assert ours.high - ours.low > 3 * (cells.high - cells.low)
    assert ours.low < ours.mean < ours.high


def test_rows_columns_and_shifts():
    rng = np.random.default_rng(2)
    table = rng.normal(size=(6, 3))
    first = two_way_bootstrap(table)
    assert first == two_way_bootstrap(table)
    shifted = two_way_bootstrap(2 * table + 1)
    assert (shifted.low, shifted.high) == pytest.approx((2 * first.low + 1, 2 * first.high + 1))


def test_excludes_zero():
    assert Interval(1.0, 0.1, 2.0).excludes_zero() and Interval(-1.0, -2.0, -0.1).excludes_zero()
    assert not Interval(0.5, -0.1, 1.0).excludes_zero() and not Interval(0.5, 0.0, 1.0).excludes_zero()


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((0, 2)), np.array([[1.0, np.nan]])])
def test_refusals(bad):
    with pytest.raises(ValueError, match="finite numbers"):
        two_way_bootstrap(bad)
