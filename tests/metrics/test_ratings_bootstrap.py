"""Intervals over raters and items: exact cases, laws, and that they cover what they say."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from t4d.metrics.bootstrap import two_way_bootstrap
from t4d.metrics.ratings_bootstrap import MIN_CLUSTERS, estimate, resampled_means, resampling
from t4d.metrics.ratings_simulate import Scenario, Spread, expected_score, simulate


def test_plain_means_equal_the_repository_s_two_way_bootstrap():
    table = np.random.default_rng(0).normal(size=(9, 7))
    drawn = resampling(9, 7, 4000, seed=0)
    low, high = np.quantile(resampled_means(table, drawn), [0.025, 0.975])
    other = two_way_bootstrap(table, draws=4000, seed=1)
    assert (low, high) == pytest.approx((other.low, other.high), abs=0.03)


def test_holes_are_left_out_by_hand():
    table = np.array([[1.0, np.nan], [3.0, 5.0]])
    drawn = resampling(2, 2, 50, seed=0)
    drawn.raters[:3] = [[1, 1], [2, 0], [2, 0]]
    drawn.items[:3] = [[1, 1], [1, 1], [0, 2]]
    found = resampled_means(table, drawn)
    assert found[:2] == pytest.approx([3, 1]) and np.isnan(found[2])


def test_raters_who_agree_give_student_s_interval_of_items():
    scores = np.repeat(np.random.default_rng(3).normal(size=(1, 40)), 6, axis=0)
    found = estimate(scores, resampling(6, 40), null=0.0)
    # residual and rater variance are 0: the items' mean is all that varies
    expected: Any = stats.ttest_1samp(scores[0], 0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert found.high - found.low == pytest.approx(interval.high - interval.low, rel=0.04)


def test_constant_scores_and_too_few_clusters():
    found = estimate(np.full((8, 8), 4.0), resampling(8, 8), null=0.0)
    assert (found.mean, found.low, found.high, found.p) == (4, 4, 4, 0)
    assert estimate(np.zeros((8, 8)), resampling(8, 8), null=0.0).p == 1
    few = estimate(np.random.default_rng(0).normal(size=(MIN_CLUSTERS - 1, 30)), resampling(MIN_CLUSTERS - 1, 30))
    assert np.isfinite(few.mean) and np.isnan(few.low) and np.isnan(few.p)
    empty = estimate(np.full((6, 6), np.nan), resampling(6, 6))
    assert empty.n == 0 and np.isnan(empty.mean)


def test_shift_scale_and_bounds():
    table = np.random.default_rng(4).normal(3, 1, (12, 10))
    drawn = resampling(12, 10)
    first, second = estimate(table, drawn), estimate(2 * table + 1, drawn)
    assert (second.low, second.high) == pytest.approx((2 * first.low + 1, 2 * first.high + 1))
    assert estimate(table, drawn, bounds=(3.0, 3.1)).high <= 3.1


def test_expected_score_by_simulation_and_at_the_ends():
    rng = np.random.default_rng(5)
    rounded = np.clip(np.round(rng.normal(4.2, 1.1, 400_000)), 1, 5)
    assert expected_score(4.2, 1.1) == pytest.approx(rounded.mean(), abs=0.005)
    assert (expected_score(-50, 1), expected_score(50, 1)) == pytest.approx((1, 5))


def test_simulated_blocks_are_balanced_and_seeded():
    scenario = Scenario(13, 9, items_per_rater=4)
    table = simulate(scenario, np.random.default_rng(6))
    rated = np.isfinite(table.scores[..., 0])
    assert (rated.sum(1) == 4).all() and (rated == rated[..., :1]).all()
    per_item = rated[..., 0].sum(0)
    assert per_item.max() - per_item.min() <= 1
    again = simulate(scenario, np.random.default_rng(6))
    assert np.array_equal(table.scores, again.scores, equal_nan=True)


def covered(scenario: Scenario, studies: int) -> dict[str, float]:
    """Share of studies whose interval of the difference of two methods (or of a mean) holds the truth."""
    rng = np.random.default_rng(7)
    truths = [expected_score(mean, scenario.spread.total) for mean in scenario.means]
    drawn = resampling(scenario.raters, scenario.items, 500)
    mean, gap = 0, 0
    for _ in range(studies):
        scores = simulate(scenario, rng).scores[..., 0]
        first, difference = estimate(scores[:, :, 0], drawn), estimate(scores[:, :, 0] - scores[:, :, 1], drawn)
        mean += first.low <= truths[0] <= first.high
        gap += difference.low <= truths[0] - truths[1] <= difference.high
    return {"mean": mean / studies, "difference": gap / studies}


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(20, 20, (3.2, 3.8)),
        Scenario(7, 24, (3.2, 3.8)),
        Scenario(12, 12, (3.5, 3.5), spread=Spread(rater=0.8, item=0.1)),
        Scenario(40, 24, (3.2, 3.8), items_per_rater=8),
    ],
    ids=["full", "few raters", "lenient raters", "blocks"],
)
def test_intervals_cover_the_truth(scenario):
    # 200 studies: a rate of .95 stays above .90 with a chance of .999
    for share in covered(scenario, 200).values():
        assert share >= 0.90


def test_reported_intervals_of_differences_are_narrower_than_the_plain_bootstrap():
    scores = simulate(Scenario(20, 20), np.random.default_rng(8)).scores[..., 0]
    gap, drawn = scores[:, :, 0] - scores[:, :, 2], resampling(20, 20)
    found = estimate(gap, drawn)
    low, high = np.quantile(resampled_means(gap, drawn), [0.025, 0.975])
    assert found.high - found.low < 0.95 * (high - low)
