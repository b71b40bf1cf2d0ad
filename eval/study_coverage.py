"""Are the study's intervals and tests what they say? Synthetic studies with known effects, analysed as real ones are.

Interval: share of studies whose 95 % interval holds the truth (what infinitely many raters and objects would score), of
a method's mean and of a difference between methods, for the interval that is reported and for the plain two-way
percentile bootstrap. Null: share of studies without any difference between methods in which at least one of all pairs
times four criteria comes out below .05 after Holm, for each kind of test. "objects prefer": methods are equal on
average, but every object suits some method better, which a test over raters takes for a finding.

Expected from trial runs of 300 studies, while the interval was being chosen: the plain bootstrap covers 95 to 99 %, too
wide for differences and too narrow for few raters; the reported one 93 to 98 %. Nulls at or below .05 for the two-way
test everywhere; over raters and over items only where nothing else varies.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from t4d.metrics.ratings import analyse_table
from t4d.metrics.ratings_bootstrap import resampled_means, resampling
from t4d.metrics.ratings_simulate import Scenario, Spread, expected_score, simulate

NOTHING = Spread(rater_method=0, item_method=0)
INTERVALS = {
    "20 raters x 20 items": Scenario(20, 20),
    "20 x 28, near the scale's end": Scenario(20, 28, (4.5, 4.6, 4.8)),
    "10 x 10": Scenario(10, 10),
    "6 x 28": Scenario(6, 28),
    "40 x 8, raters differ little": Scenario(40, 8, spread=Spread(rater=0.1, item=0.6)),
    "60 x 40, 10 items each": Scenario(60, 40, items_per_rater=10),
}
EQUAL = (3.5, 3.5, 3.5)
NULLS = {
    "only noise between methods": Scenario(20, 20, EQUAL, 4, spread=NOTHING),
    "raters and objects prefer a little": Scenario(20, 20, EQUAL, 4),
    "raters prefer": Scenario(20, 20, EQUAL, 4, spread=replace(NOTHING, rater_method=0.5)),
    "objects prefer": Scenario(20, 20, EQUAL, 4, spread=replace(NOTHING, item_method=0.5)),
    "both prefer": Scenario(20, 20, EQUAL, 4, spread=replace(NOTHING, rater_method=0.4, item_method=0.4)),
    "60 x 40, 10 items each": Scenario(60, 40, EQUAL, 4, items_per_rater=10),
}


@dataclass(frozen=True)
class Share:
    """A share of simulated studies with its Wilson interval (95 %)."""

    share: float
    low: float
    high: float


def share(hits: int, of: int) -> Share:
    """Hits as a share."""
    low, high = np.asarray(proportion_confint(hits, of, method="wilson"), np.float64)
    return Share(hits / of, float(low), float(high))


def coverage(scenario: Scenario, simulations: int, draws: int = 1000, seed: int = 0) -> dict[str, Any]:
    """How often intervals of the first method's mean and of the largest difference hold the truth.

    Returns:
        "mean" and "difference": `reported` and `plain` (`Share`), `width` and `plain_width` (mean, scale points).
    """
    rng = np.random.default_rng(seed)
    scores = [expected_score(mean, scenario.spread.total, scenario.levels) for mean in scenario.means]
    truths = {"mean": scores[0], "difference": scores[0] - scores[-1]}
    hits = {key: [0, 0] for key in truths}
    widths = {key: [0.0, 0.0] for key in truths}
    plain = resampling(scenario.raters, scenario.items, draws, seed)
    for study in range(simulations):
        table = simulate(scenario, rng)
        found = analyse_table(table, draws=draws, seed=study)
        pair = next(p for p in found.pairs if (p.first, p.second) == (table.methods[0], table.methods[-1]))
        first = table.scores[:, :, 0, 0]
        cases = {
            "mean": (found.cell(table.methods[0], "c0").score, first),
            "difference": (pair.difference, first - table.scores[:, :, -1, 0]),
        }
        for key, (estimate, values) in cases.items():
            low, high = np.nanquantile(resampled_means(values, plain), [0.025, 0.975])
            for kind, (start, end) in enumerate(((estimate.low, estimate.high), (low, high))):
                hits[key][kind] += bool(start <= truths[key] <= end)
                widths[key][kind] += (end - start) / simulations
    return {
        key: {
            "truth": truths[key],
            "reported": asdict(share(hits[key][0], simulations)),
            "plain": asdict(share(hits[key][1], simulations)),
            "width": float(widths[key][0]),
            "plain_width": float(widths[key][1]),
        }
        for key in truths
    }


def false_alarms(scenario: Scenario, simulations: int, draws: int = 200, seed: int = 0) -> dict[str, Any]:
    """Family-wise error: share of studies without a difference in which a test finds one after Holm, by kind of test.

    Returns:
        "two_way", "raters", "items": `Share`.
    """
    rng = np.random.default_rng(seed)
    kinds = ("p_holm", "raters_holm", "items_holm")
    hits = dict.fromkeys(kinds, 0)
    for study in range(simulations):
        pairs = analyse_table(simulate(scenario, rng), draws=draws, seed=study).pairs
        for kind in kinds:
            hits[kind] += any(getattr(pair, kind) < 0.05 for pair in pairs)
    names = dict(zip(kinds, ("two_way", "raters", "items")))
    return {names[kind]: asdict(share(count, simulations)) for kind, count in hits.items()}


def _shown(found: dict[str, float]) -> str:
    return f"{100 * found['share']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _stored(out: Path | None, simulations: int) -> dict[str, Any]:
    """What an interrupted run has written, if it was of as many studies; else an empty report."""
    report: dict[str, Any] = {"simulations": simulations, "cpu_s": 0.0, "coverage": {}, "false_alarms": {}}
    if out is None or not out.is_file():
        return report
    found = json.loads(out.read_text())
    return found if found.get("simulations") == simulations else report


def _kept(stored: dict[str, Any], name: str, scenario: Scenario) -> bool:
    return stored.get(name, {}).get("scenario") == json.loads(json.dumps(asdict(scenario)))


def run(simulations: int, out: Path | None, fresh: bool = False, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Runs everything, prints two tables and writes them as JSON.

    Args:
        simulations: Studies of each kind.
        out: JSON file, written after every kind of study; kinds that it holds already, of as many studies, are not
            run again.
        fresh: Runs them all the same.
        say: Prints a line.
    """
    report = _stored(None if fresh else out, simulations)

    def measure(part: str, name: str, scenario: Scenario, work: Callable[[Scenario, int], dict[str, Any]]) -> Any:
        if not _kept(report[part], name, scenario):
            start = time.process_time()
            report[part][name] = {"scenario": asdict(scenario), **work(scenario, simulations)}
            report["cpu_s"] = round(report["cpu_s"] + time.process_time() - start, 1)
            if out is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.write_text(json.dumps(report, indent=1) + "\n")
        return report[part][name]

    say(f"Studies without a difference in which one is found after Holm, % of {simulations} [Wilson]\n")
    say("| Study | Two-way | Wilcoxon over raters | Wilcoxon over items |\n|" + " --- |" * 4)
    for name, scenario in NULLS.items():
        found = measure("false_alarms", name, scenario, false_alarms)
        say(f"| {name} | " + " | ".join(_shown(found[kind]) for kind in ("two_way", "raters", "items")) + " |")
    say(f"\nCoverage of 95 % intervals, % of {simulations} studies [Wilson], and mean width in scale points\n")
    say("| Study | Of | Reported | Width | Plain two-way bootstrap | Width |\n|" + " --- |" * 6)
    for name, scenario in INTERVALS.items():
        found = measure("coverage", name, scenario, coverage)
        for of in ("mean", "difference"):
            line = found[of]
            widths = [f"{line[key]:.2f}" for key in ("width", "plain_width")]
            cells = (_shown(line["reported"]), widths[0], _shown(line["plain"]), widths[1])
            say(f"| {name} | {of} | " + " | ".join(cells) + " |")
    say(f"\n{report['cpu_s']} CPU-s")
    return report
