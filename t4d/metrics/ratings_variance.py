"""Variance between raters, between items and left over, of a table with holes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Components:
    """Variances behind a table [rows, columns]; estimates of them, so that small ones may come out below 0.

    Attributes:
        rows, columns: Between rows, between columns.
        residual: What is left in a cell.
        row_share, column_share: What one unit of `rows` or `columns` adds to the variance of the table's mean, the sum
            of squared shares of the cells; 1 / number of rows or columns in a full table.
        cells: Cells with a value.
    """

    rows: float
    columns: float
    residual: float
    row_share: float
    column_share: float
    cells: int


def variance_components(values: np.ndarray) -> Components | None:
    """Variances from Henderson's first method (1953): the expected sums of squares of an unbalanced table, solved.

    On a full table this is the analysis of variance. The estimates are unbiased whatever the distribution, as long as
    which cells are empty has nothing to do with their values.

    Args:
        values: [rows, columns], NaN where there is no value; every row and every column has at least one.

    Returns:
        None if the table cannot tell the three apart: fewer than two rows or columns, or too few cells.
    """
    rated = np.isfinite(values)
    n, (rows, columns) = int(rated.sum()), values.shape
    if min(rows, columns) < 2 or n <= rows + columns - 1:
        return None
    filled = np.where(rated, values - values[rated].mean(), 0.0)  # centred: the mean's own term is 0
    by_row, by_column = rated.sum(1), rated.sum(0)
    sums = [
        (filled**2).sum(),
        (filled.sum(1) ** 2 / by_row).sum(),
        (filled.sum(0) ** 2 / by_column).sum(),
    ]
    row_share, column_share = float((by_row**2).sum()) / n**2, float((by_column**2).sum()) / n**2
    expected = np.array(
        [
            [n - n * row_share, n - n * column_share, n - 1],
            [n - n * row_share, rows - n * column_share, rows - 1],
            [columns - n * row_share, n - n * column_share, columns - 1],
        ]
    )
    if np.linalg.matrix_rank(expected) < 3:
        return None
    found = np.linalg.solve(expected, sums)
    return Components(float(found[0]), float(found[1]), float(found[2]), row_share, column_share, n)


def variance_of_mean(values: np.ndarray) -> tuple[float, float]:
    """Variance of a table's mean over new rows and new columns, and its degrees of freedom (Satterthwaite).

    Estimates below 0 count as 0. Where the components cannot be told apart, the variances between row totals and
    between column totals are added, which counts the residual twice: too large rather than too small.

    Args:
        values: [rows, columns], NaN where there is no value; two rows and columns at least have one.
    """
    values = values[np.isfinite(values).any(1)][:, np.isfinite(values).any(0)]
    rows, columns = values.shape
    parts = variance_components(values)
    cell, variance, left = 0.0, 0.0, 1
    by_row = by_column = 0.0
    if parts is not None:
        cell = max(parts.residual, 0.0) / parts.cells
        by_row = max(parts.rows, 0.0) * parts.row_share + cell
        by_column = max(parts.columns, 0.0) * parts.column_share + cell
        variance, left = by_row + by_column - cell, parts.cells - rows - columns + 1
    if not variance > 0:
        deviations = values - np.nanmean(values)
        n = int(np.isfinite(values).sum())
        by_row = float((np.nansum(deviations, axis=1) ** 2).sum()) / n**2 * rows / (rows - 1)
        by_column = float((np.nansum(deviations, axis=0) ** 2).sum()) / n**2 * columns / (columns - 1)
        cell, variance = 0.0, by_row + by_column
    spread = by_row**2 / (rows - 1) + by_column**2 / (columns - 1) + cell**2 / left
    return variance, variance**2 / spread if spread > 0 else float("inf")
