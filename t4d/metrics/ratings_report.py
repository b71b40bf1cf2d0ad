"""The report of a user study in Markdown: everything that was computed, and how to read it."""

import math
from collections.abc import Mapping

from t4d.metrics.ratings import Analysis, Pair
from t4d.metrics.ratings_table3 import NO_LABELS, columns, head, markdown_row, table3_markdown


def number(value: float, digits: int = 2) -> str:
    """A number, an en dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def p_value(value: float) -> str:
    """A p value to three digits, "<.001" below."""
    if not math.isfinite(value):
        return "–"
    return "<.001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def _range(low: float, high: float, digits: int = 2) -> str:
    return f" [{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(low) else ""


def _table(heads: list[str], rows: list[list[str]]) -> str:
    return "\n".join([markdown_row(heads), "|" + " --- |" * len(heads), *(markdown_row(row) for row in rows)]) + "\n"


def _people(analysis: Analysis) -> str:
    text = (
        f"{analysis.raters} raters, {analysis.items} items, {analysis.ratings} ratings on a 1-{analysis.levels} scale."
    )
    if not analysis.excluded:
        return text + " Nobody is excluded by the study's rules."
    who = f"{len(analysis.excluded)} rater{'s' if len(analysis.excluded) > 1 else ''}"
    kept = "left out, by the rules fixed before the study" if analysis.excluded_left_out else "flagged but kept here"
    return f"{text} {who} {kept}."


def distributions_markdown(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> str:
    """Mean, median, number and how often each score was given, by criterion and method."""
    rows = []
    for criterion in columns(analysis):
        for method in analysis.methods:
            cell = analysis.cell(method, criterion)
            shares = [f"{100 * count / cell.score.n:.0f} %" if cell.score.n else "–" for count in cell.counts]
            rows.append(
                [
                    head(criterion, criterion_labels),
                    method_labels.get(method) or method,
                    number(cell.score.mean) + _range(cell.score.low, cell.score.high),
                    number(cell.median, 1),
                    str(cell.score.n),
                    *shares,
                ]
            )
    points = [str(point) for point in range(1, analysis.levels + 1)]
    return _table(["Criterion", "Method", "Mean [interval]", "Median", "n", *points], rows)


def reliability_markdown(analysis: Analysis, criterion_labels: Mapping[str, str] = NO_LABELS) -> str:
    """Agreement between raters, and of raters with themselves where items were repeated."""
    found = {one.criterion: one for one in analysis.reliability}
    rows = []
    for criterion in columns(analysis):
        one = found[criterion]
        shares = f"{100 * one.repeats_equal:.0f} % / {100 * one.repeats_near:.0f} % of {one.repeats}"
        rows.append(
            [
                head(criterion, criterion_labels),
                number(one.alpha) + _range(one.alpha_low, one.alpha_high),
                number(one.icc_a1),
                number(one.icc_ak),
                number(one.k, 1),
                shares if one.repeats else "–",
            ]
        )
    heads = ["Criterion", "Krippendorff α, ordinal", "ICC(A,1)", "ICC(A,k)", "k", "Repeats equal / within 1"]
    return _table(heads, rows)


def omnibus_markdown(analysis: Analysis, criterion_labels: Mapping[str, str] = NO_LABELS) -> str:
    """Friedman's test with Kendall's W over raters and over items."""
    found = {one.criterion: one for one in analysis.omnibus}
    rows = []
    for criterion in columns(analysis):
        for unit, test in (("raters", found[criterion].raters), ("items", found[criterion].items)):
            rows.append(
                [
                    head(criterion, criterion_labels),
                    unit,
                    str(test.n),
                    f"{number(test.statistic)} ({test.freedom})",
                    p_value(test.p),
                    number(test.w),
                ]
            )
    return _table(["Criterion", "Blocks", "n", "χ² (df)", "p", "Kendall W"], rows)


def _pair_row(pair: Pair, method_labels: Mapping[str, str], criterion_labels: Mapping[str, str]) -> list[str]:
    first, second = (method_labels.get(name) or name for name in (pair.first, pair.second))
    cells = max(pair.wins + pair.ties + pair.losses, 1)
    shares = " / ".join(f"{100 * part / cells:.0f}" for part in (pair.wins, pair.ties, pair.losses))
    return [
        head(pair.criterion, criterion_labels),
        f"{first} – {second}",
        number(pair.difference.mean) + _range(pair.difference.low, pair.difference.high),
        p_value(pair.p_holm),
        f"{p_value(pair.raters_holm)} ({number(pair.raters.effect)})",
        f"{p_value(pair.items_holm)} ({number(pair.items.effect)})",
        f"{shares} %",
        number(pair.preference.mean) + _range(pair.preference.low, pair.preference.high),
    ]


def pairs_markdown(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> str:
    """Every pair of methods: difference, tests after Holm with effects, and preference shares."""
    rows = [
        _pair_row(pair, method_labels, criterion_labels)
        for criterion in columns(analysis)
        for pair in analysis.pairs
        if pair.criterion == criterion
    ]
    heads = [
        "Criterion",
        "Pair",
        "Difference",
        "p two-way",
        "p raters (effect)",
        "p items (effect)",
        "Win / tie / loss",
        "Preference",
    ]
    return _table(heads, rows)


def exclusions_markdown(
    with_exclusions: Analysis,
    everyone: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> str:
    """Means with the study's exclusions and without any, side by side, and the claims that hang on the exclusions."""
    rows = []
    for criterion in columns(everyone):
        for method in everyone.methods:
            kept, total = "–", everyone.cell(method, criterion).score
            if method in with_exclusions.methods and criterion in with_exclusions.criteria:
                score = with_exclusions.cell(method, criterion).score
                kept = f"{number(score.mean)}{_range(score.low, score.high)}"
            rows.append(
                [
                    head(criterion, criterion_labels),
                    method_labels.get(method) or method,
                    kept,
                    f"{number(total.mean)}{_range(total.low, total.high)}",
                ]
            )
    heads = [
        "Criterion",
        "Method",
        f"With exclusions ({with_exclusions.raters} raters)",
        f"Everyone ({everyone.raters} raters)",
    ]
    kept = {(p.criterion, p.first, p.second): p.p_holm < 0.05 for p in with_exclusions.pairs}
    changed = [p for p in everyone.pairs if (p.p_holm < 0.05) != kept.get((p.criterion, p.first, p.second), False)]
    text = "No pair's two-way p crosses .05 with the exclusions." if not changed else "Crossing p two-way = .05: "
    text += "; ".join(
        f"{head(p.criterion, criterion_labels)}, {method_labels.get(p.first) or p.first} – "
        f"{method_labels.get(p.second) or p.second}: only " + ("without" if p.p_holm < 0.05 else "with") + " exclusions"
        for p in changed
    )
    return _table(heads, rows) + f"\n{text}\n"


HOW_TO_READ = """\
Intervals resample raters and items together: they say what other raters would give to other objects. **p two-way** asks
the same of a difference and is the test to claim from. **p raters** (Wilcoxon over raters' means, Pratt, exact) speaks
of these objects only, **p items** (over items' means) of these raters only; on data where objects differ in which
method suits them, the first alone finds differences that other objects would not show. Each kind of p is corrected by
Holm over all pairs and criteria of the table. The effect is the matched rank-biserial correlation. A preference counts
ties as half. Single raters of generated objects agree little; ICC(A,k) is the reliability of the mean that is reported.
The alpha interval resamples items. † marks a method above all others with p two-way < .05.
"""


def report_markdown(
    analysis: Analysis,
    everyone: Analysis | None = None,
    *,
    title: str = "User study",
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> str:
    """The whole report.

    Args:
        analysis: Of the study, with its exclusions.
        everyone: Of all raters, for the comparison; None, or no exclusions: left out.
        title: Heading.
        method_labels, criterion_labels: id -> label.
    """
    both = (method_labels, criterion_labels)
    parts = [f"# {title}\n", _people(analysis) + "\n"]
    parts += [f"- {note}\n" for note in analysis.notes]
    parts += ["## Table 3, with the paper's means\n", table3_markdown(analysis, *both)]
    parts += ["## Scores\n", distributions_markdown(analysis, *both)]
    parts += ["## Pairs of methods\n", pairs_markdown(analysis, *both)]
    parts += ["## All methods together (Friedman)\n", omnibus_markdown(analysis, criterion_labels)]
    parts += ["## Agreement of raters\n", reliability_markdown(analysis, criterion_labels)]
    if everyone is not None and analysis.excluded_left_out and analysis.excluded:
        parts += ["## With and without exclusions\n", exclusions_markdown(analysis, everyone, *both)]
    settings = analysis.settings
    parts += [
        "## How to read this\n",
        HOW_TO_READ,
        f"{settings['draws']:.0f} bootstrap tables, seed {settings['seed']:.0f}, level {settings['level']:g}.\n",
    ]
    return "\n".join(parts)
