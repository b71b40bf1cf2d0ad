"""Confidence intervals for tables whose cells are crossed: objects in rows, seeds (or raters) in columns."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def two_way_bootstrap(values: np.ndarray, draws: int = 10_000, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile interval of the mean of a table under resampling of rows and, independently, of columns.

    Cells of one row (an object) or one column (a seed) are not independent; resampling cells would claim too much. The
    "pigeonhole" bootstrap resamples both margins with replacement; for the mean it is slightly conservative (Owen 2007)
    with many rows, while with as few as five rows any percentile interval is somewhat short: read it with the rows.

    Args:
        values: [R, S] table without holes.
        draws: bootstrap tables.
        level: of the interval, 0..1.
        seed: of the resampling.

    Returns:
        Mean of the table with the interval.

    Raises:
        ValueError: the table is not two-dimensional, empty or has values that are not finite.
    """
    table = np.asarray(values, np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"a table of shape {list(table.shape)} was given, expected [R, S] of finite numbers")
    rng = np.random.default_rng(seed)
    rows, columns = table.shape
    # How often each row and column is drawn: the mean of the resampled table is a bilinear form in these weights.
    row_weight = rng.multinomial(rows, np.full(rows, 1 / rows), draws) / rows
    column_weight = rng.multinomial(columns, np.full(columns, 1 / columns), draws) / columns
    means = np.einsum("dr,rs,ds->d", row_weight, table, column_weight)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(table.mean()), float(low), float(high))
