"""Reading a long table of ratings: what is kept, what is refused, and in which words."""

from typing import Any

import numpy as np
import pytest

from t4d.errors import InputError
from t4d.metrics.ratings_table import rating_table


def row(rater="r1", item="cat", method="A", criterion="motion", score: Any = 3, **flags) -> dict[str, Any]:
    return {"rater": rater, "item": item, "method": method, "criterion": criterion, "score": score, **flags}


def test_places_every_score_and_leaves_holes():
    table = rating_table([row(score=2), row(rater="r2", item="dog", method="B", score=5)])
    assert table.scores.shape == (2, 2, 2, 1) and np.isfinite(table.scores).sum() == 2
    assert table.scores[0, 0, 0, 0] == 2 and table.scores[1, 1, 1, 0] == 5
    assert (table.raters, table.items, table.methods) == (("r1", "r2"), ("cat", "dog"), ("A", "B"))


def test_words_of_a_csv_file():
    rows = [
        row(score="4", repeat="False", check="", excluded="true"),
        row(score="2", repeat="TRUE", check="0", excluded="1"),
        row(score="", item="dog"),
        row(score="1", check="yes", criterion="attention"),
    ]
    table = rating_table(rows, criteria=["motion"])
    assert table.scores.tolist() == [[[[4]]]] and table.checks == 1 and table.excluded == ("r1",)
    assert [(r.first, r.second) for r in table.repeats] == [(4, 2)]


def test_order_of_the_study_is_kept_and_unrated_methods_are_dropped():
    table = rating_table([row(method="B"), row(method="A")], methods=["A", "C", "B"])
    assert table.methods == ("A", "B")


def test_a_repeat_before_its_original_is_still_paired():
    table = rating_table([row(score=5, repeat=True), row(score=4)])
    assert table.scores.item() == 4 and [(r.first, r.second) for r in table.repeats] == [(4, 5)]


def test_excluded_raters_and_items_only_they_rated():
    rows = [row(), row(rater="r2", excluded=True), row(rater="r2", item="dog", excluded=True)]
    kept = rating_table(rows).without_excluded()
    assert kept.raters == ("r1",) and kept.items == ("cat",) and kept.scores.shape == (1, 1, 1, 1)
    with pytest.raises(InputError, match=r"All 1 raters are excluded.*analyse without"):
        rating_table(rows[1:]).without_excluded()


@pytest.mark.parametrize("bad", [0, 6, -1, 3.5, "5; DROP TABLE", "nan", "inf", True, [3]])
def test_scores_outside_the_scale(bad):
    with pytest.raises(InputError, match=r"Rating 2: the score is .*expected a whole number from 1 to 5"):
        rating_table([row(), row(item="dog", score=bad)])


@pytest.mark.parametrize(
    "rows, sentence",
    [
        ([], "There is no rating to analyse yet"),
        ([row(score="")], "There is no rating to analyse yet"),
        ([{"rater": "r1"}], "lacks the column 'item'"),
        ([row(), row(score=4)], "'cat', method 'A', criterion 'motion' a second time"),
        ([row(excluded="perhaps")], "excluded is 'perhaps'"),
        ([row(rater="")], "the rater is empty"),
        ([row(method="Z")], r"methods \['Z'\] that the study does not name"),
    ],
)
def test_refusals(rows, sentence):
    with pytest.raises(InputError, match=sentence):
        rating_table(rows, methods=["A", "B"])


def test_the_same_method_named_twice():
    with pytest.raises(InputError, match="name one twice"):
        rating_table([row()], methods=["A", "A"])
