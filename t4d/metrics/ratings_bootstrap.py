"""Intervals of ratings that share raters and items: the two-way cluster bootstrap, also for tables with holes."""

from dataclasses import dataclass

import numpy as np
from scipy import special

from t4d.metrics.ratings_variance import variance_of_mean

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


def estimate(
    values: np.ndarray,
    drawn: Resampling,
    level: float = 0.95,
    null: float | None = None,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Mean of a table with the interval that new raters and new items would give.

    The interval has the shape of the two-way bootstrap and the size that its variance should have. The plain bootstrap
    counts the residual of a single rating three times (Owen 2007), which makes intervals of differences between methods
    a third too wide, and takes no account of how few clusters there are. So its percentiles are moved towards or away
    from the mean: by the ratio of the unbiased standard error (`ratings_variance`) to the bootstrap's, and by that of
    Student's to the normal quantile. ``python -m eval.study coverage`` measures the coverage of both.

    Args:
        values: [R, I], NaN where not rated.
        drawn: Of :func:`resampling` with the same R and I.
        level: Of the interval, 0..1.
        null: Mean that `p` is about: Student's test with the same standard error and degrees of freedom.
        bounds: Least and largest value that a mean can have.
    """
    rated = np.isfinite(values)
    n = int(rated.sum())
    used = (int(rated.any(1).sum()), int(rated.any(0).sum()))
    if n == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0, 0)
    mean = float(values[rated].mean())
    if min(used) < MIN_CLUSTERS:
        return Estimate(mean, np.nan, np.nan, np.nan, n, *used)
    if np.ptp(values[rated]) == 0:
        return Estimate(mean, mean, mean, np.nan if null is None else float(mean == null), n, *used)
    variance, freedom = variance_of_mean(values)
    means = resampled_means(values, drawn)
    means = means[np.isfinite(means)]
    tails = (1 - level) / 2
    widening = special.stdtrit(freedom, 1 - tails) / special.ndtri(1 - tails)  # Student's over the normal quantile
    scale = np.sqrt(variance) / means.std() * widening
    low, high = np.clip(mean + (np.quantile(means, [tails, 1 - tails]) - mean) * scale, *bounds)
    p = np.nan if null is None else float(2 * special.stdtr(freedom, -abs(mean - null) / np.sqrt(variance)))
    return Estimate(mean, float(low), float(high), p, n, *used)
