"""From the lines of many fits to a table with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from t4d.metrics.bootstrap import Interval, two_way_bootstrap

Records = Mapping[tuple[str, str, int], Mapping[str, float]]  # (row, case, seed) -> figures


@dataclass(frozen=True)
class Column:
    """One measure of the table.

    Attributes:
        key: in the figures of a fit.
        title: of the printed column.
        digits: printed.
        scale: printed value over stored value (100 for percent).
        better: 1 where larger is better, -1 where smaller is, 0 where neither.
    """

    key: str
    title: str
    digits: int = 2
    scale: float = 1.0
    better: int = 1


def grid(records: Records, row: str, key: str, cases: Sequence[str], seeds: Sequence[int]) -> np.ndarray | None:
    """[cases, seeds] values of one row and measure, over the seeds that all cases have; None where there is none."""
    whole = [s for s in seeds if all((row, case, s) in records for case in cases)]
    if not whole or not cases:
        return None
    return np.array([[records[row, case, s][key] for s in whole] for case in cases])


def summary(
    records: Records, rows: Sequence[str], columns: Sequence[Column], groups: Mapping[str, Sequence[str]], seeds: Any
) -> dict[str, Any]:
    """Means with intervals (two-way cluster bootstrap over cases and seeds), and paired differences to "full".

    Args:
        records: figures of every finished fit.
        rows: in order.
        columns: measures.
        groups: names of cases by group; "all" first.
        seeds: wanted seeds; a row counts the seeds that are complete for it (and for "full" in differences).

    Returns:
        {row: {measure: {group: {mean, low, high, minus_full: {mean, low, high, cases_better, cases}}}}, plus
        {row: {"fits": number}}.
    """
    out: dict[str, Any] = {}
    for row in rows:
        done = sum(1 for (r, _, s) in records if r == row and s in seeds)
        out[row] = {"fits": done}
        for column in columns:
            out[row][column.key] = {}
            for group, cases in groups.items():
                both = [s for s in seeds if all((r, c, s) in records for c in cases for r in (row, "full"))]
                values = grid(records, row, column.key, cases, seeds)
                if values is None:
                    continue
                cell: dict[str, Any] = asdict(two_way_bootstrap(values))
                if row != "full" and both:
                    mine = grid(records, row, column.key, cases, both)
                    full = grid(records, "full", column.key, cases, both)
                    assert mine is not None and full is not None
                    difference = mine - full
                    cell["minus_full"] = {
                        **asdict(two_way_bootstrap(difference)),
                        "cases_better": int((column.better * difference.mean(1) > 0).sum()),
                        "cases": len(cases),
                    }
                out[row][column.key][group] = cell
    return out


def markdown(
    result: Mapping[str, Any], columns: Sequence[Column], groups: Sequence[str], intervals: bool = True
) -> str:
    """Means by row, measure and group of cases, with their intervals or without."""
    heads = _heads(columns, groups)
    lines = ["| row | " + " | ".join(heads) + " | fits |", "| --- |" + " --- |" * (len(heads) + 1)]
    for row, cells in result.items():
        texts = [
            _text(cells[column.key].get(group), column, intervals=intervals) for column in columns for group in groups
        ]
        lines.append(f"| {row} | " + " | ".join(texts) + f" | {cells['fits']} |")
    return "\n".join(lines)


def markdown_differences(result: Mapping[str, Any], columns: Sequence[Column], groups: Sequence[str]) -> str:
    """Paired differences to "full"; bold where the interval of at least three cases leaves out zero."""
    heads = _heads(columns, groups)
    lines = ["| row minus full | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for row, cells in result.items():
        if row == "full":
            continue
        texts = []
        for column in columns:
            for group in groups:
                cell = cells[column.key].get(group, {}).get("minus_full")
                text = _text(cell, column, sign=True)
                if cell and cell["cases"] >= 3 and Interval(cell["mean"], cell["low"], cell["high"]).excludes_zero():
                    text = f"**{text}**"
                texts.append(text)
        lines.append(f"| {row} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _heads(columns: Sequence[Column], groups: Sequence[str]) -> list[str]:
    return [column.title + (f" {group}" if len(groups) > 1 else "") for column in columns for group in groups]


def _text(cell: Mapping[str, float] | None, column: Column, sign: bool = False, intervals: bool = True) -> str:
    if cell is None:
        return "-"
    mark, digits, scale = "+" if sign else "", column.digits, column.scale
    mean, low, high = (scale * cell[name] for name in ("mean", "low", "high"))
    if not intervals:
        return f"{mean:{mark}.{digits}f}"
    return f"{mean:{mark}.{digits}f} [{low:{mark}.{digits}f}, {high:{mark}.{digits}f}]"
