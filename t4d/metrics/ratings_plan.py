"""How many raters does a study need? Power of its tests, by simulating it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import optimize, special

from t4d.errors import InputError
from t4d.metrics.ratings_simulate import Scenario, Spread, expected_score, simulate
from t4d.metrics.ratings_table import RatingTable
from t4d.metrics.ratings_tests import holm, signed_rank, unit_means
from t4d.metrics.ratings_variance import variance_components, variance_of_mean


@dataclass(frozen=True)
class PlanRow:
    """What a study of one size would find.

    Attributes:
        raters: Of the study.
        ratings: Scores that one rater gives: items x methods x criteria.
        half_width: Half the interval of a difference between two methods, scale points, mean over studies.
        two_way, by_raters, by_items: Power: share of (study, criterion, rival) in which the better method differs from
            a rival, p < .05 after Holm, by the two-way test and by Wilcoxon over raters or items.
        beats_all: Share of (study, criterion) in which it beats all rivals by the two-way test.
    """

    raters: int
    ratings: int
    half_width: float
    two_way: float
    by_raters: float
    by_items: float
    beats_all: float


def spread_of(table: RatingTable) -> Spread:
    """Sizes of what varies, estimated from a pilot study.

    Tables of one method hold rater + rater x method between raters, and so for items; differences of two methods hold
    twice rater x method. Rounding to whole scores adds 1/12 to the variance of one rating, which is taken off.

    Raises:
        InputError: Too few ratings to tell raters, items and noise apart.
    """
    single, double = [], []
    for criterion in range(len(table.criteria)):
        scores = table.scores[..., criterion]
        tables = [(single, scores[..., m]) for m in range(scores.shape[2])]
        tables += [(double, scores[..., a] - scores[..., b]) for a, b in combinations(range(scores.shape[2]), 2)]
        for found, values in tables:
            rated = np.isfinite(values)
            parts = variance_components(values[rated.any(1)][:, rated.any(0)])
            if parts is not None:
                found.append((parts.rows, parts.columns, parts.residual))
    if not single or not double:
        raise InputError(
            f"A pilot of {len(table.raters)} rater(s), {len(table.items)} item(s) and {len(table.methods)} method(s) "
            "cannot tell raters, items and noise apart; it needs at least two of each, and most of the ratings."
        )
    rater, item, noise = np.mean(single, 0)
    rater_method, item_method, _ = np.mean(double, 0) / 2
    parts = (rater - rater_method, item - item_method, rater_method, item_method, noise - 1 / 12)
    return Spread(*(float(np.sqrt(max(part, 0.0))) for part in parts))


def better_mean(base: float, gap: float, spread: float, levels: int = 5) -> float:
    """Latent mean whose expected score is `gap` above that of the latent mean `base`.

    Raises:
        InputError: The scale ends before.
    """
    target = expected_score(base, spread, levels) + gap
    reach = expected_score(levels + 2.0, spread, levels)
    if not 0 <= gap or target >= reach:
        raise InputError(f"A gap of {gap:g} above a score of {target - gap:.2f} does not fit a scale of 1 to {levels}.")
    found = optimize.root_scalar(
        lambda mean: expected_score(mean, spread, levels) - target, bracket=(base, levels + 2.0), method="brentq"
    )
    return float(found.root)


def _study(scenario: Scenario, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """One study: adjusted p of all pairs [3 tests, C, pairs], signs of the differences [C, pairs], mean half width."""
    scores = simulate(scenario, rng).scores
    pairs = list(combinations(range(scores.shape[2]), 2))
    p = np.full((3, scores.shape[3], len(pairs)), np.nan)
    signs, widths = np.zeros(p.shape[1:]), []
    for criterion in range(scores.shape[3]):
        for place, (first, second) in enumerate(pairs):
            both = scores[:, :, [second, first], criterion]
            gap = both[..., 0] - both[..., 1]
            mean = float(np.nanmean(gap))
            variance, freedom = variance_of_mean(gap)
            if variance > 0:
                p[0, criterion, place] = 2 * special.stdtr(freedom, -abs(mean) / np.sqrt(variance))
                widths.append(special.stdtrit(freedom, 0.975) * np.sqrt(variance))
            for test, axis in ((1, 0), (2, 1)):
                p[test, criterion, place] = signed_rank(*unit_means(both, axis).T).p
            signs[criterion, place] = np.sign(mean)
    adjusted = np.stack([np.reshape(holm(list(kind.ravel())), kind.shape) for kind in p])
    return adjusted, signs, float(np.mean(widths)) if widths else float("nan")


def plan_size(
    raters: Sequence[int],
    items: int,
    gap: float,
    *,
    methods: int = 3,
    criteria: int = 4,
    items_per_rater: int | None = None,
    base: float = 3.5,
    levels: int = 5,
    spread: Spread | None = None,
    simulations: int = 200,
    seed: int = 0,
) -> list[PlanRow]:
    """Power of studies with several numbers of raters: one method is `gap` better than all others, which are equal.

    Args:
        raters: Numbers to try.
        items: Objects.
        gap: Difference of mean scores to find, scale points.
        methods, criteria: Numbers of them; all pairs times all criteria share a Holm correction.
        items_per_rater: None: everyone rates everything.
        base: Mean of the others before rounding to the scale.
        levels: Points of the scale.
        spread: What varies; None: the default, typical of generated objects. `spread_of` takes it from a pilot.
        simulations: Studies of each size.
        seed: Of the simulation.

    Raises:
        InputError: Fewer than two raters, items or methods, no simulation, or a gap that the scale cannot hold.
    """
    spread = spread or Spread()
    if min(*raters, items, items_per_rater or items, methods) < 2 or simulations < 1 or criteria < 1:
        raise InputError("Planning needs at least two raters, items, items per rater and methods, and one simulation.")
    better = better_mean(base, gap, spread.total, levels)
    rows = []
    for count in raters:
        scenario = Scenario(
            count, items, (*[base] * (methods - 1), better), criteria, items_per_rater, spread=spread, levels=levels
        )
        rng = np.random.default_rng([seed, count])
        studies = [_study(scenario, rng) for _ in range(simulations)]
        rival = [place for place, pair in enumerate(combinations(range(methods), 2)) if pair[1] == methods - 1]
        found = np.stack([(p < 0.05) & (signs > 0) for p, signs, _ in studies])[..., rival]  # [S, 3, C, rivals]
        two_way, by_raters, by_items = (float(v) for v in found.mean((0, 2, 3)))
        ratings = (items_per_rater or items) * methods * criteria
        width = float(np.nanmean([width for *_, width in studies]))
        beats_all = float(found[:, 0].all(-1).mean())
        rows.append(PlanRow(count, ratings, width, two_way, by_raters, by_items, beats_all))
    return rows


def enough(rows: Sequence[PlanRow], power: float = 0.8) -> int | None:
    """The fewest raters among `rows` with at least that power by the two-way test; None if none has."""
    return min((row.raters for row in rows if row.two_way >= power), default=None)


def plan_markdown(rows: Sequence[PlanRow], gap: float, power: float = 0.8) -> str:
    """The plan as a Markdown table with a sentence on what it says."""
    lines = [
        "| Raters | Ratings each | ± of a difference | Power, two-way | Power, over raters | Power, over items | "
        "Beats all |",
        "|" + " --- |" * 7,
    ]
    for row in rows:
        figures = [f"{v:.2f}" for v in (row.half_width, row.two_way, row.by_raters, row.by_items, row.beats_all)]
        lines.append("| " + " | ".join([str(row.raters), str(row.ratings), *figures]) + " |")
    found = enough(rows, power)
    said = f"{found} raters find" if found else "None of these sizes finds"
    lines.append(f"\n{said} a gap of {gap:g} with power {power:g} (two-way test, p < .05 after Holm).")
    return "\n".join(lines) + "\n"
