"""python -m eval.study: reads what a study exports, prints its report, and says in a sentence what it cannot read."""

import csv
import json

import numpy as np
import pytest

from eval.study import main, read_ratings
from t4d.metrics.ratings import analyse_table
from t4d.metrics.ratings_simulate import Scenario, simulate

TABLE = simulate(Scenario(6, 6, (3.0, 3.2, 3.8), 1), np.random.default_rng(0))


def rows():
    return [
        {"rater": f"r{r}", "item": f"i{i}", "method": f"m{m}", "criterion": "motion", "score": int(score),
         "repeat": False, "check": False, "excluded": r == 0, "comment": 'good,\n"very" good'}
        for (r, i, m, _), score in np.ndenumerate(TABLE.scores)
    ]  # fmt: skip


@pytest.fixture
def exported(tmp_path):
    with (tmp_path / "ratings_long.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows()[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows())
    study = {
        "title": "Which moves best?",
        "levels": 5,
        "methods": [{"id": "m2", "label": "Ours"}, {"id": "m1", "label": ""}, {"id": "m0", "label": "DG4D"}],
        "criteria": [{"id": "motion", "label": "Mot."}],
    }
    (tmp_path / "ratings.json").write_text(json.dumps({"study": study, "rows": rows()}))
    return tmp_path


def test_csv_and_json_hold_the_same_ratings(exported):
    from_csv, from_json = read_ratings(exported / "ratings_long.csv"), read_ratings(exported)
    assert np.array_equal(from_csv.table.scores, TABLE.scores)
    assert np.array_equal(from_json.table.scores[:, :, ::-1], TABLE.scores)
    assert from_csv.table.excluded == from_json.table.excluded == ("r0",)
    assert from_json.title == "Which moves best?" and from_json.methods["m2"] == "Ours"


def test_report_files_and_numbers(exported, capsys):
    assert main(["analyze", str(exported), "--out", str(exported / "report"), "--draws", "200"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Which moves best?") and "5 raters, 6 items" in printed
    kept = analyse_table(read_ratings(exported).table.without_excluded(), draws=200)
    written = json.loads((exported / "report" / "analysis.json").read_text())
    assert written["with_exclusions"]["pairs"] == kept.as_dict()["pairs"]
    assert (exported / "report" / "report.md").read_text() in printed
    assert (exported / "report" / "table3.tex").read_text().startswith("\\begin{table}")


def test_where_the_rules_exclude_everyone_all_are_shown(tmp_path, capsys):
    (tmp_path / "ratings.json").write_text(json.dumps({"rows": [{**row, "excluded": True} for row in rows()]}))
    assert main(["analyze", str(tmp_path), "--draws", "100"]) == 0
    assert "6 raters flagged but kept here" in capsys.readouterr().out


def test_plan_from_a_pilot(exported, capsys):
    options = ["--gap", "0.4", "--raters", "6,12", "--items", "6", "--criteria", "1", "--simulations", "5"]
    assert main(["plan", "--pilot", str(exported), *options]) == 0
    assert "| 12 | 18 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("missing.csv", None, "cannot be read"),
        ("empty.csv", b"", "no rating to analyse yet"),
        ("wide.csv", b"rater,item,m0:motion\nr0,i0,3\n", "lacks the column 'method'"),
        ("score.csv", b"rater,item,method,criterion,score\nr,i,m,c,9\n", "expected a whole number from 1 to 5"),
        ("picture.csv", b"\x89PNG\xff\xfe", "cannot be read as text"),
        ("half.json", b'{"rows": [', "is no JSON"),
        ("other.json", b'{"weights": 3}', "no list of ratings"),
        ("study.json", b'{"study": {"methods": 3}, "rows": []}', "not a list of entries"),
        ("levels.json", b'{"study": {"methods": [], "criteria": [], "levels": "5"}, "rows": []}', "levels"),
    ],
)
def test_unreadable_files_are_one_sentence(tmp_path, capsys, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main(["analyze", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and sentence in error


def test_folders_without_ratings(tmp_path, capsys):
    assert main(["analyze", str(tmp_path)]) == 1
    assert "neither ratings.json nor ratings_long.csv" in capsys.readouterr().err
    (tmp_path / "study.db").touch()
    assert main(["analyze", str(tmp_path)]) == 1
    assert "python -m studio.study export" in capsys.readouterr().err
