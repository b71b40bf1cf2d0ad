"""Do raters agree? Krippendorff's ordinal alpha and intraclass correlations, for tables with holes."""

from dataclasses import dataclass

import numpy as np

from t4d.metrics.ratings_variance import variance_components


@dataclass(frozen=True)
class Icc:
    """Intraclass correlations of raters who rate targets (Shrout and Fleiss 1979; names of McGraw and Wong 1996).

    Attributes:
        a1, ak: Absolute agreement of one rater, and of the mean of `k` raters (two-way random).
        c1, ck: Consistency: differences between raters' levels do not count.
        one1, onek: One-way random; NaN where targets have unequal numbers of raters.
        k: Raters per target (harmonic mean).
    """

    a1: float
    ak: float
    c1: float
    ck: float
    one1: float
    onek: float
    k: float


def _coincidences(units: np.ndarray, levels: int) -> np.ndarray:
    """[U, L, L] pairs of values given to one unit by different raters, each value weighted to count once."""
    counts = np.stack([(units == level).sum(1) for level in range(1, levels + 1)], 1).astype(np.float64)  # [U, L]
    given = counts.sum(1)
    pairs = counts[:, :, None] * counts[:, None, :] - np.eye(levels) * counts[:, :, None]
    return np.divide(pairs, (given - 1)[:, None, None], out=np.zeros_like(pairs), where=(given > 1)[:, None, None])


def _ordinal_alpha(pairs: np.ndarray) -> np.ndarray:
    """Alpha of summed coincidences [..., L, L], NaN where all values are equal or nothing can be paired."""
    marginal = pairs.sum(-1)  # [..., L]
    total = marginal.sum(-1)
    below = marginal.cumsum(-1) - marginal / 2  # mid-ranks: their differences are the ordinal metric
    distance = (below[..., :, None] - below[..., None, :]) ** 2
    observed = (pairs * distance).sum((-2, -1))
    expected = (marginal[..., :, None] * marginal[..., None, :] * distance).sum((-2, -1))
    ratio = np.divide((total - 1) * observed, expected, out=np.full(np.shape(total), np.nan), where=expected > 1e-12)
    return 1 - ratio


def krippendorff_alpha(units: np.ndarray, levels: int = 5) -> float:
    """Krippendorff's alpha with the ordinal metric: 1 perfect agreement, 0 as by chance.

    Args:
        units: [U, R] scores 1..levels, NaN where a rater gave none. Units with fewer than two scores do not count.
        levels: Points of the scale.

    Returns:
        NaN if fewer than two values can be paired or if all are equal: agreement on a constant is undefined, not 1.
    """
    return float(_ordinal_alpha(_coincidences(units, levels).sum(0)))


def alpha_interval(
    units: np.ndarray, clusters: np.ndarray, levels: int = 5, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the ordinal alpha under resampling of items.

    Only items are resampled: a rater drawn twice would agree with himself and raise alpha.

    Args:
        units: [U, R], as in :func:`krippendorff_alpha`.
        clusters: [U] whole numbers from 0, the item of every unit (its methods are drawn together).

    Returns:
        NaN, NaN if fewer than two items hold a unit that two raters scored.
    """
    pairs = _coincidences(units, levels)
    count = int(clusters.max()) + 1
    grouped = np.zeros((count, levels, levels))
    np.add.at(grouped, clusters, pairs)
    grouped = grouped[grouped.sum((1, 2)) > 0]
    if len(grouped) < 2:
        return float("nan"), float("nan")
    weights = np.random.default_rng(seed).multinomial(len(grouped), np.full(len(grouped), 1 / len(grouped)), draws)
    found = _ordinal_alpha(np.einsum("dg,gvw->dvw", weights.astype(np.float64), grouped))
    found = found[np.isfinite(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 1e-12 else float("nan")


def icc(values: np.ndarray) -> Icc:
    """Intraclass correlations from the variances of targets, raters and residual, also with ratings missing.

    Args:
        values: [n targets, k raters], NaN where not rated. A target with one score tells about its rater.

    Returns:
        All NaN if there are fewer than two targets or raters, too few scores, or no variance at all. Values below 0
        mean that targets differ less than chance would make them.
    """
    nothing = Icc(*[float("nan")] * 7)
    values = values[np.isfinite(values).any(1)][:, np.isfinite(values).any(0)]
    parts = variance_components(values)
    if parts is None:
        return nothing
    rated = np.isfinite(values)
    by_target = rated.sum(1)
    k = float(len(by_target) / (1 / by_target).sum())
    one1 = onek = float("nan")
    if (by_target == by_target[0]).all() and by_target[0] > 1:
        means = np.nanmean(values, axis=1)
        between = k * means.var(ddof=1)
        within = float(np.nansum((values - means[:, None]) ** 2)) / (parts.cells - len(means))
        one1 = _ratio(float(between - within), float(between + (k - 1) * within))
        onek = _ratio(float(between - within), float(between))
    targets, other = parts.rows, parts.columns + parts.residual
    return Icc(
        _ratio(targets, targets + other),
        _ratio(targets, targets + other / k),
        _ratio(targets, targets + parts.residual),
        _ratio(targets, targets + parts.residual / k),
        one1,
        onek,
        k,
    )
