"""Table 3 of the paper, from a study's ratings: the same rows and columns, with intervals, beside the paper's means."""

import re
from collections.abc import Mapping, Sequence

from t4d.metrics.ratings import Analysis

#: Columns of Table 3: criterion id -> head.
COLUMNS = {"align_text": "Align. Text", "align_3d": "Align. 3D", "motion": "Mot.", "appearance": "Appr."}
#: Means of Table 3 in the order of `COLUMNS`. The paper gives 20 participants and no intervals.
PAPER = {
    "DG4D": (3.38, 3.73, 3.37, 3.27),
    "Animate3D": (3.50, 3.78, 3.63, 3.41),
    "Ours": (3.57, 3.87, 3.73, 3.44),
}
_OURS = {"ours", "track4dgen", "full", "oursfull"}
NO_LABELS: Mapping[str, str] = {}


def columns(analysis: Analysis) -> list[str]:
    """Criteria in Table 3's order, then those it does not have."""
    known = [name for name in COLUMNS if name in analysis.criteria]
    return known + [name for name in analysis.criteria if name not in COLUMNS]


def head(criterion: str, labels: Mapping[str, str] = NO_LABELS) -> str:
    """Column head of a criterion: its label, else Table 3's, else its name."""
    return labels.get(criterion) or COLUMNS.get(criterion, criterion)


def paper_row(method: str) -> str | None:
    """Row of Table 3 that a method's label or name stands for, None if the paper has no such method."""
    plain = re.sub(r"[^a-z0-9]", "", method.lower())
    if plain in _OURS:
        return "Ours"
    return next((row for row in PAPER if row.lower() == plain), None)


def beats_all(analysis: Analysis, method: str, criterion: str, level: float = 0.05) -> bool:
    """Whether a method's mean is above every other's with a two-way p below `level` after Holm."""
    pairs = [p for p in analysis.pairs if p.criterion == criterion and method in (p.first, p.second)]
    above = [(p.difference.mean > 0) == (p.first == method) and p.p_holm < level for p in pairs]
    return bool(pairs) and all(above)


def _rows(analysis: Analysis, labels: Mapping[str, str]) -> list[tuple[str, str | None, str | None]]:
    """(label, method or None, paper's row or None): each method, the paper's row under it, then its other rows."""
    rows: list[tuple[str, str | None, str | None]] = []
    shown = set()
    for method in analysis.methods:
        label = labels.get(method) or method
        rows.append((label, method, None))
        paper = paper_row(label) or paper_row(method)
        if paper and paper not in shown:
            shown.add(paper)
            rows.append((f"{paper} (paper)", None, paper))
    return rows + [(f"{name} (paper)", None, name) for name in PAPER if name not in shown]


def _paper_cell(row: str, criterion: str) -> str:
    position = list(COLUMNS).index(criterion) if criterion in COLUMNS else None
    return "" if position is None else f"{PAPER[row][position]:.2f}"


def table3(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> tuple[list[str], list[list[tuple[str, str, bool, bool]]]]:
    """Table 3 as values.

    Args:
        analysis: The study's.
        method_labels, criterion_labels: id -> label; ids where absent.

    Returns:
        Column heads (the first is empty), and rows of cells (text, interval "" where there is none, highest of the
        study's rows in its column, better than all others beyond noise). Both marks are False in the paper's rows.
    """
    criteria = columns(analysis)
    best = {c: max((round(analysis.cell(m, c).score.mean, 2) for m in analysis.methods), default=0.0) for c in criteria}
    lines: list[list[tuple[str, str, bool, bool]]] = []
    for label, method, paper in _rows(analysis, method_labels):
        line = [(label, "", False, False)]
        for criterion in criteria:
            if method is None:
                line.append((_paper_cell(paper or "", criterion), "", False, False))
                continue
            score = analysis.cell(method, criterion).score
            interval = f"[{score.low:.2f}, {score.high:.2f}]" if score.low == score.low else ""
            text = f"{score.mean:.2f}" if score.n else "–"
            line.append(
                (text, interval, round(score.mean, 2) == best[criterion], beats_all(analysis, method, criterion))
            )
        lines.append(line)
    return ["", *(head(criterion, criterion_labels) for criterion in criteria)], lines


def markdown_row(cells: Sequence[str]) -> str:
    """One line of a Markdown table; bars in the text are escaped."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def table3_markdown(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> str:
    """Table 3 in Markdown: means with intervals, the highest bold, † where it beats all others beyond noise."""
    heads, lines = table3(analysis, method_labels, criterion_labels)
    text = [markdown_row([f"{name} ↑" if name else "" for name in heads]), "|" + " --- |" * len(heads)]
    for line in lines:
        cells = [
            f"{'**' if bold else ''}{value}{'**' if bold else ''}{'†' if mark else ''}{' ' if extra else ''}{extra}"
            for value, extra, bold, mark in line
        ]
        text.append(markdown_row(cells))
    return "\n".join(text) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    """A text with everything escaped that LaTeX would read as a command."""
    return "".join(_LATEX.get(letter, letter) for letter in text.replace("\n", " "))


def table3_latex(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> str:
    """Table 3 in LaTeX (booktabs), as :func:`table3_markdown`."""
    heads, lines = table3(analysis, method_labels, criterion_labels)
    text = [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{l{'c' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(f"{latex_text(name)} $\\uparrow$" if name else "" for name in heads) + r" \\",
        r"\midrule",
    ]
    for line in lines:
        cells = []
        for value, extra, bold, mark in line:
            cell = rf"\textbf{{{latex_text(value)}}}" if bold else latex_text(value)
            cells.append(cell + (r"$^\dagger$" if mark else "") + (rf" {{\scriptsize {extra}}}" if extra else ""))
        text.append(" & ".join(cells) + r" \\")
    counts = f"{analysis.raters} raters, {analysis.items} objects, {analysis.ratings} ratings"
    level = f"{analysis.settings['level'] * 100:g}\\,\\%"
    caption = (
        f"4D generation user study: {counts} on a 1--{analysis.levels} scale; means with {level} two-way cluster "
        r"bootstrap intervals over raters and objects. $^\dagger$: above every other method, two-way $p < .05$ after "
        "Holm. Rows marked (paper) are the published means."
    )
    return "\n".join([*text, r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}"]) + "\n"
