"""Analysis of a user study: means with intervals, reliability, tests and preferences, by criterion and method.

The unit of every claim is written beside it. Ratings share raters and items, so intervals resample both; tests are made
over raters ("would other raters say so of these objects?") and over items ("would these raters say so of other
objects?"), and the two-way p asks for both at once. One family of tests (all pairs x all criteria) shares one Holm
correction per kind of test.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from t4d.metrics.ratings_bootstrap import MIN_CLUSTERS, Estimate, Resampling, estimate, resampling
from t4d.metrics.ratings_reliability import alpha_interval, icc, krippendorff_alpha
from t4d.metrics.ratings_table import RatingTable, rating_table
from t4d.metrics.ratings_tests import Friedman, SignedRank, friedman, holm, signed_rank, unit_means


@dataclass(frozen=True)
class Cell:
    """Ratings of one method by one criterion: their mean (`score`) and median, and how often each level was given."""

    method: str
    criterion: str
    score: Estimate
    median: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Reliability:
    """Agreement of raters on one criterion over (item, method) targets.

    Attributes:
        alpha: Krippendorff's, ordinal, with its interval over items; NaN if all scores are equal.
        icc_a1: Absolute agreement of a single rater.
        icc_ak: Of the mean over the `k` raters that a target has.
        repeats: Ratings asked for twice.
        repeats_equal: Share of them answered alike; `repeats_near`: at most one point apart.
    """

    criterion: str
    alpha: float
    alpha_low: float
    alpha_high: float
    icc_a1: float
    icc_ak: float
    k: float
    repeats: int
    repeats_equal: float
    repeats_near: float


@dataclass(frozen=True)
class Omnibus:
    """Friedman's test of one criterion over raters and over items."""

    criterion: str
    raters: Friedman
    items: Friedman


@dataclass(frozen=True)
class Pair:
    """Two methods by one criterion, over cells (a rater and an item) in which both were rated.

    Attributes:
        difference: First minus second with the two-way interval; `difference.p` is the two-way p.
        p_holm: `difference.p` after Holm.
        wins, ties, losses: Cells in which the first got the higher, the same, the lower score.
        preference: Share of wins plus half the ties, with its two-way interval.
        raters, items: Signed ranks of rater means, of item means.
        raters_holm, items_holm: Their p after Holm.
    """

    criterion: str
    first: str
    second: str
    difference: Estimate
    p_holm: float
    wins: int
    ties: int
    losses: int
    preference: Estimate
    raters: SignedRank
    raters_holm: float
    items: SignedRank
    items_holm: float


@dataclass(frozen=True)
class Analysis:
    """Everything a study shows.

    Attributes:
        raters, items: Numbers of them; `ratings`: scores that count.
        excluded: Raters flagged by the study's rules; `excluded_left_out`: whether they were left out here.
        notes: Sentences on what could not be computed, and why.
        settings: level, draws and seed of the resampling.
    """

    methods: tuple[str, ...]
    criteria: tuple[str, ...]
    levels: int
    raters: int
    items: int
    ratings: int
    excluded: tuple[str, ...]
    excluded_left_out: bool
    cells: tuple[Cell, ...]
    reliability: tuple[Reliability, ...]
    omnibus: tuple[Omnibus, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    settings: Mapping[str, float]

    def cell(self, method: str, criterion: str) -> Cell:
        """The cell of a method and a criterion (KeyError if there is none)."""
        for cell in self.cells:
            if (cell.method, cell.criterion) == (method, criterion):
                return cell
        raise KeyError((method, criterion))

    def left_out(self, excluded: Sequence[str]) -> "Analysis":
        """The same, saying that these raters were left out before."""
        return replace(self, excluded=tuple(excluded), excluded_left_out=True)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, None in the place of NaN."""

        def plain(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: plain(part) for key, part in value.items()}
            if isinstance(value, list | tuple):
                return [plain(part) for part in value]
            return None if isinstance(value, float) and not np.isfinite(value) else value

        return plain(asdict(self))


def _cell(table: RatingTable, method: int, criterion: int, drawn: Resampling, level: float) -> Cell:
    scores = table.scores[:, :, method, criterion]
    given = scores[np.isfinite(scores)]
    found = estimate(scores, drawn, level, bounds=(1, table.levels))
    return Cell(
        table.methods[method],
        table.criteria[criterion],
        found,
        float(np.median(given)) if len(given) else float("nan"),
        tuple(int((given == point).sum()) for point in range(1, table.levels + 1)),
    )


def _reliability(table: RatingTable, criterion: int, draws: int, level: float, seed: int) -> Reliability:
    scores = table.scores[..., criterion]  # [R, I, M]
    _, items, methods = scores.shape
    units = scores.transpose(1, 2, 0).reshape(items * methods, -1)  # [I * M, R]
    clusters = np.repeat(np.arange(items), methods)
    agreement = icc(units)
    pairs = [r for r in table.repeats if r.criterion == table.criteria[criterion]]
    apart = np.array([abs(r.first - r.second) for r in pairs])
    return Reliability(
        table.criteria[criterion],
        krippendorff_alpha(units, table.levels),
        *alpha_interval(units, clusters, table.levels, draws, level, seed),
        agreement.a1,
        agreement.ak,
        agreement.k,
        len(pairs),
        float((apart == 0).mean()) if pairs else float("nan"),
        float((apart <= 1).mean()) if pairs else float("nan"),
    )


def _pair(table: RatingTable, first: int, second: int, criterion: int, drawn: Resampling, level: float) -> Pair:
    scores = table.scores[..., criterion]
    gap = scores[:, :, first] - scores[:, :, second]
    both = scores[:, :, [first, second]]
    won = np.where(np.isfinite(gap), (np.sign(gap) + 1) / 2, np.nan)
    by_rater, by_item = (signed_rank(*unit_means(both, axis).T) for axis in (0, 1))
    return Pair(
        criterion=table.criteria[criterion],
        first=table.methods[first],
        second=table.methods[second],
        difference=estimate(gap, drawn, level, null=0.0),
        p_holm=float("nan"),  # Holm needs the p of all pairs: `analyse_table` fills it in
        wins=int((gap > 0).sum()),
        ties=int((gap == 0).sum()),
        losses=int((gap < 0).sum()),
        preference=estimate(won, drawn, level, bounds=(0, 1)),
        raters=by_rater,
        raters_holm=float("nan"),
        items=by_item,
        items_holm=float("nan"),
    )


def _notes(table: RatingTable, pairs: Sequence[Pair], reliability: Sequence[Reliability]) -> list[str]:
    notes = []
    if min(table.scores.shape[:2]) < MIN_CLUSTERS:
        notes.append(
            f"{table.scores.shape[0]} rater(s) and {table.scores.shape[1]} item(s): intervals and two-way p need at "
            f"least {MIN_CLUSTERS} of each."
        )
    if len(table.methods) < 3:
        notes.append("Friedman's test needs three methods or more.")
    if any(pair.difference.n == 0 for pair in pairs):
        notes.append("Some pairs of methods were never rated by the same rater for the same item: no comparison.")
    for one in reliability:
        if not np.isfinite(one.alpha):
            notes.append(
                f"{one.criterion}: alpha is undefined, because all scores are equal or no target has two raters."
            )
        elif one.icc_a1 < 0:
            notes.append(f"{one.criterion}: ICC below 0, raters agree on no difference between targets.")
    return notes


def analyse_table(table: RatingTable, *, draws: int = 10_000, level: float = 0.95, seed: int = 0) -> Analysis:
    """Analyses a table as it is; :func:`analyse` reads rows and applies exclusions first."""
    raters, items, methods, criteria = table.scores.shape
    drawn = resampling(raters, items, draws, seed)
    cells = [_cell(table, m, c, drawn, level) for c in range(criteria) for m in range(methods)]
    reliability = [_reliability(table, c, min(draws, 2000), level, seed) for c in range(criteria)]
    omnibus = [
        Omnibus(name, *(friedman(unit_means(table.scores[..., c], axis)) for axis in (0, 1)))
        for c, name in enumerate(table.criteria)
    ]
    pairs = [
        _pair(table, first, second, c, drawn, level)
        for c in range(criteria)
        for first, second in combinations(range(methods), 2)
    ]
    adjusted = zip(
        holm([pair.difference.p for pair in pairs]),
        holm([pair.raters.p for pair in pairs]),
        holm([pair.items.p for pair in pairs]),
    )
    pairs = [
        replace(pair, p_holm=both, raters_holm=by_raters, items_holm=by_items)
        for pair, (both, by_raters, by_items) in zip(pairs, adjusted)
    ]
    return Analysis(
        methods=table.methods,
        criteria=table.criteria,
        levels=table.levels,
        raters=raters,
        items=items,
        ratings=int(np.isfinite(table.scores).sum()),
        excluded=table.excluded,
        excluded_left_out=False,
        cells=tuple(cells),
        reliability=tuple(reliability),
        omnibus=tuple(omnibus),
        pairs=tuple(pairs),
        notes=tuple(_notes(table, pairs, reliability)),
        settings={"level": level, "draws": draws, "seed": seed},
    )


def analyse(
    rows: Iterable[Mapping[str, Any]],
    *,
    exclude: bool = True,
    levels: int = 5,
    methods: Sequence[str] | None = None,
    criteria: Sequence[str] | None = None,
    draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Analysis:
    """Analyses the long table of a study.

    Args:
        rows: As in :func:`t4d.metrics.ratings_table.rating_table`.
        exclude: Leaves out raters that the rules fixed in the study file flag; False keeps everyone.
        levels: Points of the scale.
        methods, criteria: Their order; None: as met.
        draws: Bootstrap tables.
        level: Of the intervals, 0..1.
        seed: Of the resampling.

    Raises:
        InputError: The rows cannot be read, or nobody is left.
    """
    table = rating_table(rows, levels=levels, methods=methods, criteria=criteria)
    if not exclude:
        return analyse_table(table, draws=draws, level=level, seed=seed)
    found = analyse_table(table.without_excluded(), draws=draws, level=level, seed=seed)
    return found.left_out(table.excluded) if table.excluded else found
