"""Figures and files of a study's results: what is drawn is what was counted, and nothing needs a network."""

import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from study_samples import METHODS, study_entries

from studio.study.figures import level_colours, means_figure, scores_figure
from studio.study.results import CAPTIONS, Results, results, write_results
from studio.study.schema import StudyFile
from t4d.errors import InputError
from t4d.metrics.ratings_simulate import Scenario, simulate
from t4d.paths import REPO


@pytest.fixture(scope="module")
def study() -> StudyFile:
    entries = study_entries(items=6)
    entries["methods"] = [{"id": METHODS[0], "label": "DG4D"}, {"id": METHODS[1]}, {"id": METHODS[2], "label": "Ours"}]
    return StudyFile.model_validate(entries)


def rows_of(study: StudyFile, raters: int = 8, excluded: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    scores = simulate(Scenario(raters, 6, (2.8, 3.2, 3.9), 4), np.random.default_rng(0)).scores
    return [
        {
            "rater": f"r{r}",
            "item": f"item{i}",
            "method": study.methods[m].id,
            "criterion": study.criteria[c].id,
            "score": int(score),
            "repeat": False,
            "check": False,
            "excluded": r in excluded,
        }
        for (r, i, m, c), score in np.ndenumerate(scores)
    ]


@pytest.fixture(scope="module")
def found(study) -> Results:
    return results(study, rows_of(study, excluded=(2,)), draws=300)


def test_labels_and_order_are_the_study_s(found):
    lines = found.table.splitlines()
    assert lines[0].split(" | ")[1] == "Align. Text ↑" and lines[2].startswith("| DG4D | ")
    assert f"| {METHODS[1]} | " in lines[4] and lines[5].startswith("| Ours | ")
    assert (found.analysis.raters, found.everyone.raters) == (7, 8) and "1 rater left out" in found.report


def test_bars_are_the_counts_and_hang_on_zero_by_their_middle(found):
    figure = scores_figure(found.everyone)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert len(bars) == 5 * 4
    # the first five bars are the first panel: text alignment, one bar by level
    for place, method in enumerate(found.everyone.methods):
        cell = found.everyone.cell(method, "align_text")
        widths = [bar.x[place] for bar in bars[:5]]
        assert widths == pytest.approx([100 * count / cell.score.n for count in cell.counts])
        ends = [bar.base[place] + bar.x[place] for bar in bars[:5]]
        assert bars[0].base[place] == pytest.approx(-(widths[0] + widths[1] + widths[2] / 2))
        assert ends[:-1] == pytest.approx([bar.base[place] for bar in bars[1:5]])


@pytest.mark.parametrize("levels", [2, 3, 5, 7])
def test_a_colour_by_level(levels):
    colours = level_colours(levels)
    assert len(set(colours)) == levels and all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in colours)
    assert (colours[0], colours[-1]) == ("#a6611a", "#018571")


def test_means_stand_beside_the_paper_s(found):
    figure = means_figure(found.analysis, {METHODS[0]: "DG4D", METHODS[2]: "Ours"})
    ours, paper = figure.data[0], figure.data[1]
    cells = [found.analysis.cell(method, "align_text").score for method in found.analysis.methods]
    assert list(ours.x) == pytest.approx([cell.mean for cell in cells])
    assert list(ours.error_x.array) == pytest.approx([cell.high - cell.mean for cell in cells])
    assert list(ours.error_x.arrayminus) == pytest.approx([cell.mean - cell.low for cell in cells])
    assert (list(paper.x), list(paper.y)) == ([3.38, 3.57], ["DG4D", "Ours"])


def test_files(found, tmp_path):
    names = [path.name for path in write_results(found, tmp_path / "out", "A <b>study</b>")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    content = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert content["with_exclusions"]["raters"] == 7 and content["everyone"]["raters"] == 8
    page = (tmp_path / "out" / "figures.html").read_text()
    assert "A &lt;b>study" in page and not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert all(caption.split(".")[0] in page for caption in CAPTIONS.values())


def test_beginnings(study):
    with pytest.raises(InputError, match="no rating to analyse yet"):
        results(study, [])
    first = results(study, rows_of(study, raters=1), draws=100)
    assert "1 rater(s)" in first.report and set(first.figures) == {"scores", "means", "differences"}
    # rules that exclude everyone, as at the start of a study, must not hide what there is
    nobody = results(study, rows_of(study, raters=2, excluded=(0, 1)), draws=100)
    assert nobody.analysis.raters == 2 and "2 raters flagged but kept here" in nobody.report


def test_ratings_of_another_study_are_refused(study):
    rows = rows_of(study)
    rows[3]["method"] = "walrus"
    with pytest.raises(InputError, match="walrus"):
        results(study, rows)


def test_results_load_neither_torch_nor_the_diffusion():
    code = (
        "import sys; import studio.study.results_panel, studio.study.figures, t4d.metrics.ratings_plan; "
        "print([m for m in sys.modules if m == 'torch' or m.startswith('t4d.diffusion')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
