"""Figures of a study's results: how scores are spread, means with intervals, and differences between methods.

All three carry their own light background, so that they read the same on a page in dark mode and in a paper.
"""

import math
from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from t4d.metrics.ratings import Analysis
from t4d.metrics.ratings_table3 import COLUMNS, NO_LABELS, PAPER, columns, head, paper_row

INK, PAPER_WHITE = "#1e293b", "#ffffff"
#: Methods, told apart also by people who see few colours (Okabe and Ito).
METHOD_COLOURS = ("#4f46e5", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#0072b2", "#000000")
_LOW, _MIDDLE, _HIGH = ("#a6611a", "#dfc27d"), "#e2e8f0", ("#018571", "#80cdc1")
_ROW_PX, _TITLE_PX, _TOP_PX, _BOTTOM_PX = 34, 46, 60, 40
_FONT = {"family": "system-ui, Segoe UI, Roboto, Arial, sans-serif", "size": 13, "color": INK}


def _mix(start: str, end: str, share: float) -> str:
    pairs = zip(bytes.fromhex(start[1:]), bytes.fromhex(end[1:]))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def level_colours(levels: int) -> list[str]:
    """A colour for every level, brown to teal, paler towards the middle; an odd scale's middle is grey."""
    half = levels // 2
    shares = [i / max(half - 1, 1) for i in range(half)]
    low, high = ([_mix(dark, pale, share) for share in shares] for dark, pale in (_LOW, _HIGH))
    return low + ([_MIDDLE] if levels % 2 else []) + high[::-1]


def _ink_on(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER_WHITE


def _names(analysis: Analysis, labels: Mapping[str, str]) -> list[str]:
    return [labels.get(method) or method for method in analysis.methods]


def _panels(analysis: Analysis, rows: int, criterion_labels: Mapping[str, str]) -> go.Figure:
    """One panel by criterion, one above the other, each with `rows` lines."""
    criteria = columns(analysis)
    height = len(criteria) * (rows * _ROW_PX + _TITLE_PX) + _TOP_PX + _BOTTOM_PX
    figure = make_subplots(
        rows=len(criteria),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=_TITLE_PX / height if len(criteria) > 1 else 0,
        subplot_titles=[f"<b>{head(criterion, criterion_labels)}</b>" for criterion in criteria],
    )
    figure.update_annotations(x=0, xanchor="left", font={"size": 14, "color": INK})
    figure.update_layout(
        height=height,
        font=_FONT,
        paper_bgcolor=PAPER_WHITE,
        plot_bgcolor=PAPER_WHITE,
        margin={"l": 10, "r": 30, "t": _TOP_PX, "b": _BOTTOM_PX},
        # a line of its own above the first panel's title
        legend={
            "orientation": "h",
            "x": 1,
            "xanchor": "right",
            "y": 1 + 26 / (height - _TOP_PX - _BOTTOM_PX),
            "yanchor": "bottom",
        },
    )
    figure.update_xaxes(gridcolor="#e2e8f0", zeroline=False, automargin=True)
    # written out rather than automatic, which would put the first and last point on the panel's edge
    figure.update_yaxes(automargin=True, showgrid=False, type="category", range=[rows - 0.5, -0.5])
    return figure


def scores_figure(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> go.Figure:
    """Diverging bars: the share of every score, low ones to the left of zero, high ones to the right.

    An odd scale's middle level is halved over zero, so that a bar's lean is the balance of opinions.
    """
    names = _names(analysis, method_labels)
    figure = _panels(analysis, len(names), criterion_labels)
    colours = level_colours(analysis.levels)
    for row, criterion in enumerate(columns(analysis), 1):
        cells = [analysis.cell(method, criterion) for method in analysis.methods]
        shares = [[100 * count / max(cell.score.n, 1) for count in cell.counts] for cell in cells]
        starts = []
        for line in shares:
            middle = line[analysis.levels // 2] / 2 if analysis.levels % 2 else 0.0
            starts.append(-sum(line[: analysis.levels // 2]) - middle)
        for point, colour in enumerate(colours):
            figure.add_bar(
                row=row,
                col=1,
                orientation="h",
                y=names,
                x=[line[point] for line in shares],
                base=[start + sum(line[:point]) for start, line in zip(starts, shares)],
                marker={"color": colour, "line": {"color": PAPER_WHITE, "width": 1}},
                name=str(point + 1),
                legendgroup=str(point + 1),
                legendrank=point,
                showlegend=row == 1,
                text=[f"{line[point]:.0f}" if line[point] >= 6 else "" for line in shares],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                textfont={"color": _ink_on(colour), "size": 12},
                customdata=[[cell.counts[point], cell.score.n] for cell in cells],
                hovertemplate=f"%{{y}}<br>score {point + 1}: %{{x:.1f}} %<br>%{{customdata[0]}} of %{{customdata[1]}}"
                "<extra></extra>",
            )
        figure.add_vline(x=0, line={"color": INK, "width": 1}, opacity=0.4, row=row, col=1)  # type: ignore[arg-type]
    figure.update_layout(
        barmode="overlay", bargap=0.22, uniformtext={"minsize": 9, "mode": "hide"}, legend={"title": {"text": "Score "}}
    )
    ticks = [-100, -50, 0, 50, 100]
    figure.update_xaxes(range=[-102, 102], tickvals=ticks, ticktext=[f"{abs(tick)} %" for tick in ticks])
    return figure


def means_figure(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
    paper: bool = True,
) -> go.Figure:
    """Mean score of every method with its interval; an open diamond is the method's mean in the paper's Table 3."""
    names = _names(analysis, method_labels)
    figure = _panels(analysis, len(names), criterion_labels)
    for row, criterion in enumerate(columns(analysis), 1):
        scores = [analysis.cell(method, criterion).score for method in analysis.methods]
        figure.add_scatter(
            row=row,
            col=1,
            mode="markers",
            x=[score.mean for score in scores],
            y=names,
            error_x=_whiskers([(score.mean, score.low, score.high) for score in scores]),
            marker={"size": 10, "color": [METHOD_COLOURS[i % len(METHOD_COLOURS)] for i in range(len(names))]},
            customdata=[[score.n, _range(score.low, score.high)] for score in scores],
            hovertemplate="%{y}: %{x:.2f}%{customdata[1]}<br>%{customdata[0]} ratings<extra></extra>",
            name="this study",
            showlegend=row == 1,
        )
        known = [(name, paper_row(name) or paper_row(method)) for name, method in zip(names, analysis.methods)]
        known = [(name, row_name) for name, row_name in known if row_name]
        if paper and known and criterion in COLUMNS:
            place = list(COLUMNS).index(criterion)
            figure.add_scatter(
                row=row,
                col=1,
                mode="markers",
                x=[PAPER[row_name][place] for _, row_name in known],
                y=[name for name, _ in known],
                marker={"size": 10, "symbol": "diamond-open", "color": INK, "line": {"width": 1.5}},
                hovertemplate="%{y} in the paper: %{x:.2f}<extra></extra>",
                name="the paper's mean",
                legendgroup="paper",
                showlegend=row == 1,
            )
    figure.update_xaxes(range=[0.9, analysis.levels + 0.1], dtick=1)
    return figure


def differences_figure(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> go.Figure:
    """Difference of every pair with its interval; filled where the two-way p is below .05 after Holm."""
    of_criterion = {c: [pair for pair in analysis.pairs if pair.criterion == c] for c in columns(analysis)}
    figure = _panels(analysis, max(map(len, of_criterion.values()), default=0), criterion_labels)
    reach = 0.5
    for row, pairs in enumerate(of_criterion.values(), 1):
        names = [" – ".join(method_labels.get(name) or name for name in (pair.first, pair.second)) for pair in pairs]
        gaps = [pair.difference for pair in pairs]
        reach = max([reach, *(abs(v) for gap in gaps for v in (gap.mean, gap.low, gap.high) if math.isfinite(v))])
        figure.add_scatter(
            row=row,
            col=1,
            mode="markers",
            x=[gap.mean for gap in gaps],
            y=names,
            error_x=_whiskers([(gap.mean, gap.low, gap.high) for gap in gaps]),
            marker={
                "size": 10,
                "color": [METHOD_COLOURS[0] if pair.p_holm < 0.05 else PAPER_WHITE for pair in pairs],
                "line": {"color": METHOD_COLOURS[0], "width": 1.5},
            },
            customdata=[
                [_range(gap.low, gap.high), f"{pair.p_holm:.3f}" if math.isfinite(pair.p_holm) else "–"]
                for gap, pair in zip(gaps, pairs)
            ],
            hovertemplate="%{y}: %{x:.2f}%{customdata[0]}<br>p two-way, Holm: %{customdata[1]}<extra></extra>",
            showlegend=False,
        )
        figure.add_vline(x=0, line={"color": INK, "width": 1}, row=row, col=1)  # type: ignore[arg-type]
    figure.update_xaxes(range=[-1.05 * reach, 1.05 * reach])
    return figure


def _whiskers(values: list[tuple[float, float, float]]) -> dict[str, object]:
    """Error bars of (mean, low, high); none where there is no interval."""
    known = [(high - mean, mean - low) if math.isfinite(low) else (0.0, 0.0) for mean, low, high in values]
    up, down = ([pair[side] for pair in known] for side in (0, 1))
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": INK, "thickness": 1.3}


def _range(low: float, high: float) -> str:
    return f" [{low:.2f}, {high:.2f}]" if math.isfinite(low) else " (no interval)"


def all_figures(
    analysis: Analysis,
    method_labels: Mapping[str, str] = NO_LABELS,
    criterion_labels: Mapping[str, str] = NO_LABELS,
) -> dict[str, go.Figure]:
    """Every figure by name: "scores", "means" and, with two methods or more, "differences"."""
    labels = (method_labels, criterion_labels)
    figures = {"scores": scores_figure(analysis, *labels), "means": means_figure(analysis, *labels)}
    if analysis.pairs:
        figures["differences"] = differences_figure(analysis, *labels)
    return figures
