"""Gates of the mini model as table rows: a figure with its interval over objects, its limit, and whether it holds."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap, norm
from scipy.stats import t as student

Row = dict[str, Any]
DRAWS = 4000
ENOUGH = (
    5  # objects below which an interval over objects says too little: a bootstrap never leaves the range of its data
)


@dataclass(frozen=True)
class Gate:
    """One line of the table.

    Attributes:
        gate: Number in the issue, with a letter.
        what: Measured thing, for people.
        value: NaN where nothing could be measured.
        low, high: 95 % interval over objects; NaN with fewer than two.
        limits: The value must lie between them.
        objects, clips: What it is over.
        binding: False for lines that inform only.
        note: For the table.
    """

    gate: str
    what: str
    value: float
    low: float
    high: float
    limits: tuple[float, float]
    objects: int
    clips: int
    binding: bool = True
    note: str = ""

    @property
    def holds(self) -> str:
        """ "yes" where the whole interval, of `ENOUGH` objects, is within the limits, "unsure" where only the value is,
        else "no"."""
        least, most = self.limits
        if not least < self.value < most:  # also NaN; strict, so that a still copy is not above a still copy
            return "no"
        return "yes" if self.objects >= ENOUGH and least < self.low and self.high < most else "unsure"

    @property
    def limit(self) -> str:
        """The limits, for people."""
        least, most = self.limits
        if math.isinf(most):
            return f"> {least:g}"
        return f"< {most:g}" if math.isinf(least) else f"{least:g} - {most:g}"


def over_objects(
    gate: str,
    what: str,
    values: Iterable[tuple[str, float]],
    limits: tuple[float, float],
    *,
    log: bool = False,
    binding: bool = True,
    note: str = "",
) -> Gate:
    """A gate on a mean over objects, each the mean of its clips: objects weigh alike and are what is resampled.

    Args:
        gate, what, limits, binding, note: See `Gate`.
        values: (object, value of a clip).
        log: The geometric mean instead.
    """
    by_object: dict[str, list[float]] = defaultdict(list)
    for name, value in values:
        by_object[name].append(math.log(max(value, 1e-9)) if log else value)
    means = [float(np.mean(found)) for found in by_object.values()]
    value, low, high = interval([means], lambda x: float(np.mean(x)))
    if log:
        value, low, high = (math.exp(x) for x in (value, low, high))
    clips = sum(map(len, by_object.values()))
    return Gate(gate, what, value, low, high, limits, len(means), clips, binding, note)


def interval(
    columns: Sequence[Sequence[float] | np.ndarray], statistic: Callable[..., float]
) -> tuple[float, float, float]:
    """A statistic with its 95 % percentile bootstrap interval, rows (objects) resampled together.

    The plain interval of a handful of objects is too short (it covers about 88 % with 7); it is widened as Student's t
    is against the normal distribution (Hesterberg 2015, "expanded percentile interval").

    Args:
        columns: One or more columns of equal length, a value per object.
        statistic: Of the columns.

    Returns:
        (value, low, high): all NaN without objects, the ends NaN with one.
    """
    data = [np.asarray(column, np.float64) for column in columns]
    if not len(data[0]):
        return math.nan, math.nan, math.nan
    value = float(statistic(*data))
    if len(data[0]) < 2 or all(np.ptp(column) == 0 for column in data):
        return (value, math.nan, math.nan) if len(data[0]) < 2 else (value, value, value)
    count = len(data[0])
    tail = float(norm.cdf(student.ppf(0.025, count - 1) * math.sqrt(count / (count - 1))))
    found = bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=DRAWS,
        method="percentile",
        confidence_level=min(1 - 2 * tail, 1 - 1e-9),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return value, float(found.low), float(found.high)


def best(rows: Iterable[Row], figure: str, count: int) -> list[tuple[str, float, int]]:
    """(object, best value, samples) per case, over its first `count` seeds."""
    by_case: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row[figure] is not None:
            by_case[row["case"]].append(row)
    found = []
    for several in by_case.values():
        several = sorted(several, key=lambda row: row["seed"])[:count]
        found.append((several[0]["object"], max(row[figure] for row in several), len(several)))
    return found


def picture_gates(rows: Sequence[Row]) -> list[Gate]:
    """Gates 1 to 3 of the rows of all clips; far and real3d objects bind, near ones inform."""
    gates: list[Gate] = []
    for unseen in (True, False):
        chosen = [row for row in rows if (row["group"] != "near") == unseen]
        if not chosen:
            continue
        firsts = _first_seed(chosen)
        tag = "" if unseen else " (near)"
        moving = [row for row in chosen if row["verb"] != "idle"]
        mid = [row for row in firsts if not row["rest"] and row["gain"] is not None]
        rest = [row for row in moving if row["rest"] and row["gain"] is not None]
        real = [row for row in _first_seed(moving) if row["gain"] is not None]
        count = Counter(row["case"] for row in rest)
        often = [row for row in rest if count[row["case"]] == max(count.values())]
        tried = [row for row in rest if count[row["case"]] >= min(4, max(count.values()))]

        def pairs(some: Sequence[Row], figure: str) -> list[tuple[str, float]]:
            return [(row["object"], row[figure]) for row in some]

        inf = math.inf
        gates.append(
            over_objects("1a", f"frame 0, dB in the mask{tag}", pairs(firsts, "frame0"), (28, inf), binding=unseen)
        )
        gates.append(
            over_objects("1b", f"Lab shift of frames 1-15{tag}", pairs(firsts, "lab"), (-inf, 5), binding=unseen)
        )
        what = f"mid-motion: dB over copying frame 0{tag}"
        gates.append(over_objects("2a", what, pairs(mid, "gain"), (0, inf), binding=unseen))
        top = best(often, "gain", 8)
        what = f"from rest: the same, best of {_counts(top)}{tag}"
        gates.append(over_objects("2b", what, [x[:2] for x in top], (0, inf), binding=unseen))
        top = best(tried, "correlation", 4)
        what = f"variance map, correlation, best of {_counts(top)}{tag}"
        gates.append(over_objects("3a", what, [x[:2] for x in top], (0.5, inf), binding=unseen))
        what = f"amount of motion / real{tag}"
        # too much and too little cancel in the mean, so that the clips are counted as well
        note = f"{sum(0.5 <= row['magnitude'] <= 2 for row in real)} of {len(real)} clips within"
        gates.append(over_objects("3b", what, pairs(real, "magnitude"), (0.5, 2), log=True, binding=unseen, note=note))
        what = f"second difference / real{tag}"
        gates.append(over_objects("3c", what, pairs(real, "flicker"), (-inf, 2), log=True, binding=unseen))
        if unseen:
            gates.append(stillness(firsts))
            share = [(row["object"], float(passes(row))) for row in real]
            what = "share of clips (first seed) that pass 3a-3c each"
            gates.append(over_objects("3", what, share, (0, 1), binding=False))
    return gates


def passes(row: Row) -> bool:
    """Whether one clip by itself is within the limits of gate 3."""
    return bool(
        row["correlation"] is not None
        and row["correlation"] > 0.5
        and 0.5 <= row["magnitude"] <= 2
        and row["flicker"] <= 2
    )


def stillness(firsts: Sequence[Row]) -> Gate:
    """Gate 3d: amount of motion of "stands still" over that of the least moving other verb, objects paired."""
    moved: dict[str, dict[str, float]] = defaultdict(dict)
    for row in firsts:
        if row["rest"]:
            moved[row["object"]][row["verb"]] = row["moved"]
    paired = {name: verbs for name, verbs in moved.items() if "idle" in verbs and len(verbs) > 1}
    least = {name: min(x for verb, x in verbs.items() if verb != "idle") for name, verbs in paired.items()}
    # A ten-thousandth cannot be seen: clips that all stand still count as equal.
    ratios = [(name, (verbs["idle"] + 1e-4) / (least[name] + 1e-4)) for name, verbs in paired.items()]
    note = f"least on {sum(ratio < 1 for _, ratio in ratios)} of {len(ratios)} objects"
    what = '"stands still" / least moving other verb'
    return over_objects("3d", what, ratios, (-math.inf, 1), log=True, note=note)


def _first_seed(rows: Sequence[Row]) -> list[Row]:
    seed = rows[0]["seed"]
    return [row for row in rows if row["seed"] == seed]


def _counts(top: Sequence[tuple[str, float, int]]) -> str:
    numbers = sorted({count for *_, count in top})
    return "-".join(map(str, [numbers[0], numbers[-1]][: 1 + (len(numbers) > 1)])) if numbers else "none"


def table(gates: Sequence[Gate]) -> str:
    """Markdown."""
    lines = ["| gate | measured | 95 % | limit | holds | objects, clips | |", "| --- " * 7 + "|"]
    for g in gates:
        ends = "-" if math.isnan(g.low) else f"{g.low:.3g} .. {g.high:.3g}"
        value = "none" if math.isnan(g.value) else f"{g.value:.3g}"
        holds = f"**{g.holds}**" if g.binding else "(info)"
        over = f"{g.objects}, {g.clips}"
        lines.append(f"| {g.gate} {g.what} | {value} | {ends} | {g.limit} | {holds} | {over} | {g.note} |")
    return "\n".join(lines)
