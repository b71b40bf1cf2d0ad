"""Ratings of a user study as one array: who rated which item under which method by which criterion."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from t4d.errors import InputError

COLUMNS = ("rater", "item", "method", "criterion", "score")
FLAGS = ("repeat", "check", "excluded")
_TRUE, _FALSE = {"1", "true", "yes"}, {"", "0", "false", "no", "none"}


@dataclass(frozen=True)
class Repeat:
    """One rating given twice by the same rater, the first and the repeated score, scale points."""

    rater: str
    criterion: str
    first: int
    second: int


@dataclass(frozen=True)
class RatingTable:
    """A study's ratings, NaN where nothing was rated.

    Attributes:
        scores: [R, I, M, C] float64, 1..levels or NaN.
        raters, items, methods, criteria: Names along the axes.
        levels: Points of the scale.
        repeats: Ratings asked for a second time; never in `scores`.
        excluded: Raters flagged by the rules fixed in the study file; their ratings are in `scores` unless
            :meth:`without_excluded` was called.
        checks: Ratings of attention checks that were left out.
    """

    scores: np.ndarray
    raters: tuple[str, ...]
    items: tuple[str, ...]
    methods: tuple[str, ...]
    criteria: tuple[str, ...]
    levels: int = 5
    repeats: tuple[Repeat, ...] = ()
    excluded: tuple[str, ...] = ()
    checks: int = 0

    def without_excluded(self) -> "RatingTable":
        """The same table without the raters in `excluded`, and without items that only they rated.

        Raises:
            InputError: Nobody is left.
        """
        keep = [i for i, rater in enumerate(self.raters) if rater not in self.excluded]
        if not keep:
            raise InputError(
                f"All {len(self.raters)} raters are excluded by the study's rules; analyse without exclusions."
            )
        scores = self.scores[keep]
        rated = np.flatnonzero(np.isfinite(scores).any(axis=(0, 2, 3)))
        return replace(
            self,
            scores=scores[:, rated],
            raters=tuple(self.raters[i] for i in keep),
            items=tuple(self.items[i] for i in rated),
            repeats=tuple(repeat for repeat in self.repeats if repeat.rater not in self.excluded),
            excluded=(),
        )


def _flag(value: Any, name: str, line: int) -> bool:
    """A boolean from Python or from a CSV cell."""
    text = str(value if value is not None else "").strip().lower()
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise InputError(f"Rating {line}: {name} is {value!r}; expected true or false.")


def _score(value: Any, levels: int, line: int) -> int:
    """A whole number 1..levels from Python or from a CSV cell."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not number.is_integer() or not 1 <= number <= levels:
        found = str(value)[:40]
        raise InputError(f"Rating {line}: the score is {found!r}; expected a whole number from 1 to {levels}.")
    return int(number)


def _order(found: Iterable[str], wanted: Sequence[str] | None, what: str) -> tuple[str, ...]:
    """`wanted` where given (it must name everything found), else the names in the order they were met."""
    names = list(dict.fromkeys(found))
    if wanted is None:
        return tuple(names)
    if len(set(wanted)) < len(wanted):
        raise InputError(f"The {what} {list(wanted)} name one twice; name each once.")
    unknown = [name for name in names if name not in wanted]
    if unknown:
        raise InputError(f"The ratings hold the {what} {unknown} that the study does not name; it has {list(wanted)}.")
    return tuple(wanted)


def rating_table(
    rows: Iterable[Mapping[str, Any]],
    *,
    levels: int = 5,
    methods: Sequence[str] | None = None,
    criteria: Sequence[str] | None = None,
) -> RatingTable:
    """Ratings from the long table that a study exports.

    Args:
        rows: One rating each: rater, item, method, criterion, score (1..levels; a row without a score is skipped) and
            optionally repeat, check, excluded (booleans, also as the words of a CSV file). Rows with `check` are
            counted and left out; rows with `repeat` are paired with the first answer.
        levels: Points of the scale.
        methods, criteria: Order of the axes; None: as met. Those without a rating are dropped.

    Raises:
        InputError: No ratings, a missing column, a score outside the scale, a rating given twice without `repeat`, or a
            name that the study does not have.
    """
    first: dict[tuple[str, str, str, str], int] = {}
    second: list[tuple[tuple[str, str, str, str], int]] = []
    excluded: dict[str, bool] = {}
    checks = 0
    for line, row in enumerate(rows, 1):
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            raise InputError(
                f"Rating {line} lacks the column {missing[0]!r}; expected {', '.join(COLUMNS + FLAGS)}, as exported by "
                "'python -m studio.study export'."
            )
        check, repeat, out = (_flag(row.get(name), name, line) for name in ("check", "repeat", "excluded"))
        if row["score"] is None or row["score"] == "":
            continue
        unnamed = [name for name in COLUMNS[:4] if row[name] in (None, "")]
        if unnamed:
            raise InputError(f"Rating {line}: the {unnamed[0]} is empty; every rating needs one.")
        score = _score(row["score"], levels, line)
        if check:
            checks += 1
            continue
        key = (str(row["rater"]), str(row["item"]), str(row["method"]), str(row["criterion"]))
        excluded[key[0]] = excluded.get(key[0], False) or out
        if repeat:
            second.append((key, score))
        elif key in first:
            raise InputError(
                f"Rating {line}: rater {key[0]!r} rated item {key[1]!r}, method {key[2]!r}, criterion {key[3]!r} "
                "a second time; keep one rating, or mark the second as a repeat."
            )
        else:
            first[key] = score
    if not first:
        raise InputError("There is no rating to analyse yet; collect answers first.")
    names = [tuple(dict.fromkeys(key[axis] for key in first)) for axis in range(4)]
    names[2] = tuple(name for name in _order(names[2], methods, "methods") if name in names[2])
    names[3] = tuple(name for name in _order(names[3], criteria, "criteria") if name in names[3])
    place = [{name: i for i, name in enumerate(axis)} for axis in names]
    scores = np.full([len(axis) for axis in names], np.nan)
    for key, score in first.items():
        scores[tuple(place[axis][name] for axis, name in enumerate(key))] = score
    repeats = tuple(Repeat(key[0], key[3], first[key], score) for key, score in second if key in first)
    out = tuple(rater for rater in names[0] if excluded[rater])
    return RatingTable(scores, *names, levels=levels, repeats=repeats, excluded=out, checks=checks)
