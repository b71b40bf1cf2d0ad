"""Agreement against published values (Shrout and Fleiss 1979; Krippendorff) and by law."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4d.metrics.ratings_reliability import alpha_interval, icc, krippendorff_alpha
from t4d.metrics.ratings_variance import variance_components, variance_of_mean

SHROUT_FLEISS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
_ = np.nan
#: Three coders, fifteen units, with missing values: the example of Krippendorff's text and of `krippendorff`'s README.
CODERS = np.array(
    [
        [_, _, _, _, _, 3, 4, 1, 2, 1, 1, 3, 3, _, 3],
        [1, _, 2, 1, 3, 3, 4, 3, _, _, _, _, _, _, _],
        [_, _, 2, 1, 3, 4, 4, _, 2, 1, 1, 3, 3, _, 4],
    ]
).T
SCORES = st.sampled_from([1, 2, 3, 4, 5, _])


def test_icc_of_shrout_and_fleiss():
    found = icc(SHROUT_FLEISS)
    assert found.k == pytest.approx(4)
    values = (found.one1, found.a1, found.c1, found.onek, found.ak, found.ck)
    assert values == pytest.approx((0.166, 0.290, 0.715, 0.443, 0.620, 0.909), abs=5e-4)


def test_ordinal_alpha_of_the_published_example():
    assert krippendorff_alpha(CODERS, 4) == pytest.approx(0.807, abs=5e-4)
    # more levels on the scale than were used change nothing
    assert krippendorff_alpha(CODERS, 7) == pytest.approx(krippendorff_alpha(CODERS, 4))


def test_alpha_by_hand():
    # Two raters, two units: 1 1 and 1 2. Coincidences: 11 twice, 12 and 21 once each; n_1 = 3, n_2 = 1, n = 4.
    # With two levels the ordinal metric has one distance: alpha = 1 - 3 * (2 * 1) / (2 * 3 * 1).
    assert krippendorff_alpha(np.array([[1.0, 1], [1, 2]]), 2) == pytest.approx(1 - 3 * 2 / 6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([1, 2, 3, 4, 5, _]), min_size=4, max_size=4), min_size=2, max_size=8), st.data()
)
def test_order_of_raters_and_units_and_direction_do_not_matter(rows, data):
    table = np.array(rows, float)
    other = table[data.draw(st.permutations(range(len(table))))][:, data.draw(st.permutations(range(4)))]
    assert krippendorff_alpha(other) == pytest.approx(krippendorff_alpha(table), nan_ok=True)
    assert krippendorff_alpha(6 - table) == pytest.approx(krippendorff_alpha(table), nan_ok=True)
    padded = np.vstack([table, np.full((2, 4), np.nan)])
    assert krippendorff_alpha(padded) == pytest.approx(krippendorff_alpha(table), nan_ok=True)
    first, second = icc(table), icc(other)
    for name in ("a1", "ak", "c1", "ck", "k"):
        assert getattr(first, name) == pytest.approx(getattr(second, name), nan_ok=True, abs=1e-9)


def test_constant_ratings_are_undefined_and_perfect_agreement_is_one():
    assert np.isnan(krippendorff_alpha(np.full((5, 3), 4.0)))
    assert np.isnan(icc(np.full((5, 3), 4.0)).a1)
    agreed = np.repeat([[1.0], [3], [5]], 3, axis=1)
    assert krippendorff_alpha(agreed) == 1 and icc(agreed).a1 == pytest.approx(1)


def test_chance_is_about_zero_and_opposition_negative():
    rng = np.random.default_rng(0)
    assert abs(krippendorff_alpha(rng.integers(1, 6, (400, 5)).astype(float))) < 0.03
    assert krippendorff_alpha(np.array([[1.0, 5], [5, 1], [1, 5], [5, 1]])) < -0.5


def test_single_scores_and_lone_raters():
    assert np.isnan(krippendorff_alpha(np.array([[3.0, _], [_, 4.0]])))
    assert np.isnan(icc(SHROUT_FLEISS[:, :1]).a1)
    low, high = alpha_interval(np.array([[3.0, 4.0]]), np.array([0]))
    assert np.isnan(low) and np.isnan(high)


def test_interval_of_alpha_draws_items_whole():
    rng = np.random.default_rng(1)
    units = np.clip(rng.integers(1, 6, (30, 1)) + rng.integers(-1, 2, (30, 6)), 1, 5).astype(float)
    alone = alpha_interval(units, np.arange(30))
    assert alone[0] < krippendorff_alpha(units) < alone[1]
    # items of three identical units: a third of the information, an interval wider by about sqrt(3) in each
    tripled = alpha_interval(np.repeat(units[:10], 3, 0), np.repeat(np.arange(10), 3))
    loose = alpha_interval(np.repeat(units[:10], 3, 0), np.arange(30))
    assert tripled[1] - tripled[0] > 1.4 * (loose[1] - loose[0])


def test_missing_ratings_leave_icc_and_variances_unbiased():
    rng = np.random.default_rng(2)
    found, variances, means = [], [], []
    for _round in range(300):
        values = rng.normal(0, 0.7, (30, 1)) + rng.normal(0, 0.5, 12) + rng.normal(0, 1, (30, 12))
        values[rng.random((30, 12)) < 0.5] = np.nan
        parts = variance_components(values[np.isfinite(values).any(1)])
        assert parts is not None
        found.append((parts.rows, parts.columns, parts.residual))
        variances.append(variance_of_mean(values)[0])
        means.append(np.nanmean(values))
    assert np.mean(found, 0) == pytest.approx((0.49, 0.25, 1.0), rel=0.06)
    assert np.mean(variances) == pytest.approx(np.var(means), rel=0.25)


def test_tables_that_cannot_tell_raters_from_items():
    diagonal = np.full((4, 4), np.nan)
    np.fill_diagonal(diagonal, [1.0, 2, 3, 4])
    assert variance_components(diagonal) is None
    # one score each: rows and columns are the same clusters, and the variance of the mean is counted for both
    variance, _freedom = variance_of_mean(diagonal)
    assert variance == pytest.approx(2 * np.var([1, 2, 3, 4], ddof=1) / 4)
