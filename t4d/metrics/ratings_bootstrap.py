"""Intervals of ratings that share raters and items: the two-way cluster bootstrap, also for tables with holes."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

#: Fewer clusters than this on either side have no interval: resampling two or three raters says nothing about others.
MIN_CLUSTERS = 5


@dataclass(frozen=True)
class Estimate:
    """A mean over ratings with its interval.

    Attributes:
        mean: NaN where nothing was rated.
        low, high: Ends of the interval, NaN with fewer than `MIN_CLUSTERS` raters or items.
        p: Two-sided, of the mean being that of the null for new raters and new items; NaN as above, or without a null.
        n: Ratings.
        raters, items: Clusters with at least one rating.
    """

    mean: float
    low: float
    high: float
    p: float
    n: int
    raters: int
    items: int


@dataclass(frozen=True)
class Resampling:
    """How often each rater and each item is drawn, the same for every quantity, so that differences stay paired.

    Attributes:
        raters: [D, R] counts.
        items: [D, I] counts.
    """

    raters: np.ndarray
    items: np.ndarray


def resampling(raters: int, items: int, draws: int = 10_000, seed: int = 0) -> Resampling:
    """Raters and items drawn with replacement, independently of one another ("pigeonhole" bootstrap, Owen 2007)."""
    rng = np.random.default_rng(seed)
    return Resampling(
        rng.multinomial(raters, np.full(raters, 1 / raters), draws).astype(np.float64),
        rng.multinomial(items, np.full(items, 1 / items), draws).astype(np.float64),
    )


def resampled_means(values: np.ndarray, drawn: Resampling) -> np.ndarray:
    """[D] means of a table [R, I] (NaN = not rated) under `drawn`; NaN for a draw without any rating."""
    rated = np.isfinite(values)
    total = np.einsum("di,di->d", drawn.raters @ np.where(rated, values, 0.0), drawn.items)
    count = np.einsum("di,di->d", drawn.raters @ rated.astype(np.float64), drawn.items)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _clusters(deviations: np.ndarray, axis: int, n: int) -> tuple[float, int]:
    """Variance of the mean if only the clusters along `axis` varied, and how many of them hold a rating."""
    totals = np.nansum(deviations, axis=1 - axis)
    used = int(np.isfinite(deviations).any(1 - axis).sum())
    return float((totals**2).sum()) / n**2, used


def estimate(values: np.ndarray, drawn: Resampling, level: float = 0.95, null: float | None = None) -> Estimate:
    """Mean of a table with the interval that new raters and new items would give.

    The percentiles are those of the two-way bootstrap, taken further out for few clusters ("expanded percentile
    interval", Hesterberg 2015): the normal quantile becomes Student's, with Satterthwaite's degrees of freedom from the
    variances between raters and between items, and the factor (n - 1) / n that a bootstrap of n clusters loses is given
    back. `p` is Student's test with the bootstrap's standard error under the same corrections.

    Args:
        values: [R, I], NaN where not rated.
        drawn: Of :func:`resampling` with the same R and I.
        level: Of the interval, 0..1.
        null: Mean that `p` is about.
    """
    rated = np.isfinite(values)
    n = int(rated.sum())
    used = (int(rated.any(1).sum()), int(rated.any(0).sum()))
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0, 0)
    mean = float(values[rated].mean())
    if min(used) < MIN_CLUSTERS:
        return Estimate(mean, np.nan, np.nan, np.nan, n, *used)
    deviations = values - mean
    parts = [_clusters(deviations, axis, n) for axis in (0, 1)]
    if sum(variance for variance, _ in parts) < 1e-18:
        p = np.nan if null is None else float(mean == null)
        return Estimate(mean, mean, mean, p, n, *used)
    unbiased = [variance * count / (count - 1) for variance, count in parts]
    freedom = sum(unbiased) ** 2 / sum(v**2 / (count - 1) for v, (_, count) in zip(unbiased, parts))
    lost = sum(unbiased) / sum(variance for variance, _ in parts)
    tail = stats.norm.sf(stats.t.isf((1 - level) / 2, freedom) * np.sqrt(lost))
    means = resampled_means(values, drawn)
    means = means[np.isfinite(means)]
    low, high = np.quantile(means, [tail, 1 - tail])
    error = means.std() * np.sqrt(lost)
    p = np.nan if null is None else float(2 * stats.t.sf(abs(mean - null) / error, freedom))
    return Estimate(mean, float(low), float(high), p, n, *used)
