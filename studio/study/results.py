"""A study's results: analysis with and without exclusions, report, tables and figures, on screen or as files."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io

from studio.study.figures import all_figures
from studio.study.schema import StudyFile
from t4d.metrics.ratings import Analysis, analyse_table
from t4d.metrics.ratings_report import report_markdown
from t4d.metrics.ratings_table import rating_table
from t4d.metrics.ratings_table3 import table3_latex, table3_markdown

CAPTIONS = {
    "scores": "Share of every score. Low scores lean left of the line, high ones right.",
    "means": "Means with intervals over raters and objects; open diamonds are the paper's means.",
    "differences": "Differences between methods with intervals; filled: beyond noise (two-way p < .05 after Holm).",
}


@dataclass(frozen=True)
class Results:
    """What a study shows so far.

    Attributes:
        analysis: Without the raters that the study's rules exclude (with everyone, if they exclude everyone).
        everyone: With them.
        report: Markdown, everything.
        table: Table 3 in Markdown; `latex`: in LaTeX.
        figures: By name, see `CAPTIONS`.
    """

    analysis: Analysis
    everyone: Analysis
    report: str
    table: str
    latex: str
    figures: Mapping[str, go.Figure]


def results(study: StudyFile, rows: Iterable[Mapping[str, Any]], *, draws: int = 10_000, seed: int = 0) -> Results:
    """Analyses the long table of a study.

    Args:
        study: Its file: names, labels and scale.
        rows: As `StudyService.rows` gives them.
        draws: Bootstrap tables.
        seed: Of the resampling.

    Raises:
        InputError: There is nothing to analyse yet, or rows do not fit the study.
    """
    methods = {method.id: method.name for method in study.methods}
    criteria = {criterion.id: criterion.label for criterion in study.criteria}
    table = rating_table(rows, levels=study.levels, methods=list(methods), criteria=list(criteria))
    everyone = analyse_table(table, draws=draws, seed=seed)
    analysis = everyone
    # where the rules exclude everyone (at the start of a study most raters have few pages), all are shown, and said so
    if table.excluded and len(table.excluded) < len(table.raters):
        left = analyse_table(table.without_excluded(), draws=draws, seed=seed)
        analysis = left.left_out(table.excluded)
    labels = {"method_labels": methods, "criterion_labels": criteria}
    return Results(
        analysis,
        everyone,
        report_markdown(analysis, everyone, title=study.title, **labels),
        table3_markdown(analysis, **labels),
        table3_latex(analysis, **labels),
        all_figures(analysis, **labels),
    )


def figures_html(found: Results, title: str) -> str:
    """The figures as one page that needs no network: plotly's script is written into it once."""
    parts = [
        plotly.io.to_html(figure, full_html=False, include_plotlyjs=index == 0, config={"displaylogo": False})
        + f"<p>{CAPTIONS[name]}</p>"
        for index, (name, figure) in enumerate(found.figures.items())
    ]
    style = "body{font:15px system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em}"
    escaped = title.replace("&", "&amp;").replace("<", "&lt;")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escaped}</title><style>{style}</style>'
        f"<h1>{escaped}</h1>{''.join(parts)}</html>\n"
    )


def write_results(found: Results, folder: Path, title: str = "User study") -> list[Path]:
    """Writes report.md, table3.md, table3.tex, analysis.json (with and without exclusions) and figures.html.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    both = {"with_exclusions": found.analysis.as_dict(), "everyone": found.everyone.as_dict()}
    contents = {
        "report.md": found.report,
        "table3.md": found.table,
        "table3.tex": found.latex,
        "analysis.json": json.dumps(both, indent=1, ensure_ascii=False) + "\n",
        "figures.html": figures_html(found, title),
    }
    for name, text in contents.items():
        part = folder / f".{name}.part"
        part.write_text(text)
        part.replace(folder / name)
    return [folder / name for name in contents]
