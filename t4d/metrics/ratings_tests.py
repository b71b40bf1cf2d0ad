"""Are the methods rated differently? Friedman over all, Wilcoxon's signed ranks over pairs, Holm over everything."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

#: Pairs up to which the distribution of the ranks is counted out; beyond, the normal approximation is as good.
EXACT_UP_TO = 200
#: Differences of means of whole numbers that are equal but for rounding must tie.
_ROUND = 9


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of paired values.

    Attributes:
        n: Pairs, those without a difference included (Pratt).
        plus: Sum of the ranks of positive differences.
        p: Two-sided, exact given the ranks up to `EXACT_UP_TO` pairs; 1 if no pair differs, NaN without pairs.
        effect: Matched rank-biserial correlation, -1..1, positive if the first is larger; 0 if no pair differs.
    """

    n: int
    plus: float
    p: float
    effect: float


@dataclass(frozen=True)
class Friedman:
    """Friedman's test over methods; all NaN with fewer than three methods, two blocks, or without any difference.

    Attributes:
        n: Blocks (raters or items) that have a value for every method.
        statistic: Chi-square with `freedom` degrees of freedom, corrected for ties.
        p: Of the statistic.
        w: Kendall's coefficient of concordance, 0..1: the effect size.
    """

    n: int
    statistic: float
    freedom: int
    p: float
    w: float


def _sign_flips(ranks: np.ndarray, plus: float) -> float:
    """Two-sided p of a sum of ranks under random signs: all 2^n cases, by convolution (Streitberg, Roehmel 1986).

    Average ranks are halves of whole numbers, so the doubled sums live on a grid.
    """
    doubled = np.rint(2 * ranks).astype(int)
    chances = np.zeros(doubled.sum() + 1)
    chances[0] = 1
    reach = 1
    for rank in doubled:
        below = chances[:reach] / 2
        chances[:reach] = below
        chances[rank : rank + reach] += below
        reach += rank
    observed = round(2 * plus)
    return float(min(1.0, 2 * min(chances[: observed + 1].sum(), chances[observed:].sum())))


def signed_rank(first: np.ndarray, second: np.ndarray) -> SignedRank:
    """Wilcoxon's signed-rank test with Pratt's zeros: pairs without a difference are ranked, then dropped.

    Scores on a scale tie all the time, where published tables do not hold and the normal approximation is rough; the
    exact distribution of the ranks at hand is used instead. Without ties and zeros it is scipy's exact test.

    Args:
        first, second: [n] paired values, NaN pairs are left out.
    """
    gap = np.round(np.asarray(first, np.float64) - np.asarray(second, np.float64), _ROUND)
    gap = gap[np.isfinite(gap)]
    if not len(gap):
        return SignedRank(0, float("nan"), float("nan"), float("nan"))
    ranks = stats.rankdata(np.abs(gap))
    plus, total = float(ranks[gap > 0].sum()), float(ranks[gap != 0].sum())
    if total == 0:
        return SignedRank(len(gap), 0.0, 1.0, 0.0)
    if len(gap) <= EXACT_UP_TO:
        p = _sign_flips(ranks[gap != 0], plus)
    else:
        p = float(stats.wilcoxon(gap, zero_method="pratt", correction=True, method="asymptotic").pvalue)
    return SignedRank(len(gap), plus, p, (2 * plus - total) / total)


def friedman(values: np.ndarray) -> Friedman:
    """Friedman's rank test with Kendall's W.

    Args:
        values: [blocks, methods], blocks with a NaN are left out.
    """
    values = np.round(values[np.isfinite(values).all(1)], _ROUND)
    n, methods = values.shape
    if methods < 3 or n < 2 or (values == values[:, :1]).all():
        return Friedman(n, float("nan"), max(methods - 1, 0), float("nan"), float("nan"))
    statistic, p = stats.friedmanchisquare(*values.T)
    return Friedman(n, float(statistic), methods - 1, float(p), float(statistic) / (n * (methods - 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values; tests that could not be made (NaN) are neither adjusted nor counted.

    Written out because statsmodels' ``multipletests`` runs a full garbage collection in every call, which took 85 % of
    the time of planning a study; a test holds this to it.
    """
    values = np.asarray(p, np.float64)
    made = np.flatnonzero(np.isfinite(values))
    order = made[np.argsort(values[made])]
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1)
    return [float(value) for value in adjusted]


def unit_means(scores: np.ndarray, axis: int) -> np.ndarray:
    """Mean of every method by rater (axis 0) or by item (axis 1), over cells in which all methods were rated.

    Using only complete cells keeps a method from gaining by having been shown with the easier items.

    Args:
        scores: [R, I, M] of one criterion.

    Returns:
        [R or I, M], NaN rows where a rater (an item) has no complete cell.
    """
    complete = np.isfinite(scores).all(2, keepdims=True)
    total = np.where(complete, scores, 0.0).sum(1 - axis)
    count = complete.sum(1 - axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
