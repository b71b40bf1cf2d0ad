"""Friedman, Wilcoxon with Pratt's zeros and Holm, against scipy, statsmodels and by hand."""

from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from t4d.metrics.ratings_tests import EXACT_UP_TO, friedman, holm, signed_rank, unit_means


def _p(result: Any) -> float:
    return result.pvalue


def test_without_ties_it_is_scipy_s_exact_test():
    rng = np.random.default_rng(0)
    for n in (3, 8, 20, 45):
        first, second = rng.normal(size=(2, n))
        found = signed_rank(first, second)
        assert found.p == pytest.approx(_p(stats.wilcoxon(first, second, method="exact")))


def test_with_ties_and_zeros_it_is_scipy_s_permutation_of_all_signs():
    rng = np.random.default_rng(1)
    for n in (4, 7, 10):
        first, second = rng.integers(1, 4, (2, n)).astype(float)
        every_sign: Any = stats.PermutationMethod()  # 2^10 cases are fewer than its random draws, so it takes them all
        expected = stats.wilcoxon(first, second, zero_method="pratt", method=every_sign)
        assert signed_rank(first, second).p == pytest.approx(_p(expected))


def test_many_pairs_take_the_normal_approximation_and_agree_with_counting():
    rng = np.random.default_rng(2)
    first = rng.integers(1, 6, EXACT_UP_TO + 1).astype(float)
    second = np.clip(first + rng.integers(-1, 2, len(first)), 1, 5)
    large, counted = signed_rank(first, second), signed_rank(first[:-1], second[:-1])
    assert large.p == pytest.approx(_p(stats.wilcoxon(first, second, zero_method="pratt", correction=True)))
    assert large.p == pytest.approx(counted.p, rel=0.2)


def test_pratt_by_hand():
    # differences 0, 1, 2: the zero takes rank 1 and is dropped; ranks 2 and 3 remain, both positive: 2 of 4 signs
    found = signed_rank(np.array([3.0, 4, 5]), np.array([3.0, 3, 3]))
    assert (found.n, found.plus, found.effect) == (3, 5, 1) and found.p == pytest.approx(0.5)
    assert signed_rank(np.array([3.0, 3, 3]), np.array([3.0, 4, 5])).effect == -1


def test_rounding_noise_ties():
    # .1 + .2 - .3 is not 0 in floating point; a difference of means that is only rounding must be one
    found = signed_rank(np.array([0.1 + 0.2, 1.0]), np.array([0.3, 2.0]))
    assert found.plus == 0 and found.effect == -1


def test_no_difference_and_no_pairs():
    same = signed_rank(np.ones(5), np.ones(5))
    assert (same.p, same.effect) == (1, 0)
    assert np.isnan(signed_rank(np.array([np.nan]), np.array([1.0])).p)


def test_friedman_is_scipy_s_and_w_is_its_share():
    rng = np.random.default_rng(3)
    values = rng.integers(1, 6, (15, 4)).astype(float)
    values[4, 2] = np.nan
    kept = np.delete(values, 4, 0)
    found, expected = friedman(values), stats.friedmanchisquare(*kept.T)
    assert (found.n, found.freedom) == (14, 3)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.w == pytest.approx(expected.statistic / (14 * 3))
    agreed = friedman(np.repeat([[1.0, 2, 3]], 6, 0))
    assert agreed.w == pytest.approx(1)


@pytest.mark.parametrize("values", [np.ones((6, 3)), np.ones((6, 2)), np.ones((1, 3))])
def test_friedman_is_undefined_where_nothing_can_be_ranked(values):
    found = friedman(values)
    assert np.isnan(found.p) and np.isnan(found.w)


def test_holm_is_statsmodels_and_skips_tests_not_made():
    rng = np.random.default_rng(4)
    p = rng.random(12) ** 3
    assert np.array(holm(list(p))) == pytest.approx(np.asarray(multipletests(p, method="holm")[1]))
    with_hole = holm([0.01, np.nan, 0.02, 0.9])
    assert np.isnan(with_hole[1]) and [with_hole[i] for i in (0, 2, 3)] == pytest.approx([0.03, 0.04, 0.9])
    assert holm([]) == [] and np.isnan(holm([np.nan])[0])


def test_unit_means_use_complete_cells_only():
    scores = np.full((2, 2, 2), np.nan)
    scores[0] = [[1, 2], [5, 5]]
    scores[1, 0] = [4, 3]
    scores[1, 1, 0] = 5  # the other method was not rated: would flatter the first
    assert unit_means(scores, 0).tolist() == [[3, 3.5], [4, 3]]
    assert unit_means(scores, 1).tolist() == [[2.5, 2.5], [5, 5]]
    scores[1] = np.nan
    assert np.isnan(unit_means(scores, 0)[1]).all()
