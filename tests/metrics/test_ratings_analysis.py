"""The whole analysis: plain figures by hand, planted effects found, nulls left alone, exclusions, tables and words."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eval.study_coverage import NULLS, coverage, false_alarms
from t4d.errors import InputError
from t4d.metrics.ratings import Analysis, analyse, analyse_table
from t4d.metrics.ratings_plan import better_mean, enough, plan_markdown, plan_size, spread_of
from t4d.metrics.ratings_report import p_value, report_markdown
from t4d.metrics.ratings_simulate import Scenario, Spread, expected_score, simulate
from t4d.metrics.ratings_table3 import PAPER, paper_row, table3_latex, table3_markdown

METHODS, CRITERIA = ("DG4D", "animate3d", "full"), ("align_3d", "align_text", "appearance", "motion")


def study(means=(3.0, 3.0, 3.9), seed=0, **sizes) -> Any:
    """A simulated study with the paper's names."""
    table = simulate(Scenario(means=means, criteria=4, **sizes), np.random.default_rng(seed))
    return replace(table, methods=METHODS, criteria=CRITERIA)


@pytest.fixture(scope="module")
def found() -> Analysis:
    return analyse_table(study(raters=16, items=14), draws=1000)


def rows_of(scores: dict[tuple[str, str, str], int]) -> list[dict[str, Any]]:
    return [dict(rater=r, item=i, method=m, criterion="motion", score=s) for (r, i, m), s in scores.items()]


def test_small_study_by_hand():
    scores = {("r1", "a", "A"): 5, ("r1", "a", "B"): 3, ("r1", "b", "A"): 4, ("r1", "b", "B"): 4}
    scores |= {("r2", "a", "A"): 2, ("r2", "a", "B"): 3, ("r2", "b", "A"): 5}
    result = analyse(rows_of(scores), draws=200)
    cell = result.cell("A", "motion")
    assert (cell.score.mean, cell.median, cell.counts, cell.score.n) == (4.0, 4.5, (0, 1, 0, 1, 2), 4)
    (pair,) = result.pairs
    # cells with both: 5-3, 4-4, 2-3
    assert (pair.wins, pair.ties, pair.losses) == (1, 1, 1)
    assert pair.difference.mean == pytest.approx(1 / 3) and pair.preference.mean == pytest.approx(0.5)
    # raters' means over complete cells: r1 4.5 against 3.5, r2 2 against 3: ranks tie, half of all signs are as far
    assert (pair.raters.n, pair.raters.effect, pair.raters.p) == (2, 0, 1)
    assert np.isnan(cell.score.low) and any("at least 5 of each" in note for note in result.notes)
    assert any("three methods" in note for note in result.notes)


def test_planted_effect_is_found_and_only_that(found):
    for pair in found.pairs:
        if "full" in (pair.first, pair.second):
            assert pair.p_holm < 0.05 and pair.raters_holm < 0.05 and pair.items_holm < 0.05
            assert pair.difference.high < 0 and pair.preference.high < 0.5 and pair.raters.effect < -0.5
        else:
            assert pair.p_holm > 0.05
    assert all(one.raters.p < 0.05 and 0 < one.raters.w <= 1 for one in found.omnibus)


def test_order_of_rows_does_not_matter_and_seeds_repeat():
    table = study(raters=6, items=5)
    names = [table.raters, table.items, table.methods, table.criteria]
    rows = [
        dict(zip(("rater", "item", "method", "criterion"), (n[i] for n, i in zip(names, at))), score=int(score))
        for at, score in np.ndenumerate(table.scores)
    ]
    assert analyse(rows, draws=300).as_dict() == analyse_table(table, draws=300).as_dict()
    shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    first = analyse(rows, draws=300)
    second = analyse(shuffled, draws=300, methods=METHODS, criteria=CRITERIA)
    for one, other in zip(first.pairs, second.pairs):
        assert one.difference.p == pytest.approx(other.difference.p) and one.raters == other.raters
        assert one.items == other.items and one.difference.mean == pytest.approx(other.difference.mean)
    for one, other in zip(first.reliability, second.reliability):
        assert (one.alpha, one.icc_a1, one.icc_ak) == pytest.approx((other.alpha, other.icc_a1, other.icc_ak))


def test_swapping_methods_changes_signs_only():
    table = study(raters=8, items=8)
    swapped = replace(table, scores=table.scores[:, :, [1, 0, 2]], methods=("animate3d", "DG4D", "full"))
    one = analyse_table(table, draws=500).pairs[0]
    other = analyse_table(swapped, draws=500).pairs[0]
    assert one.difference.mean == pytest.approx(-other.difference.mean)
    assert one.difference.low == pytest.approx(-other.difference.high)
    assert (one.wins, one.raters.effect) == (other.losses, pytest.approx(-other.raters.effect))
    assert one.raters.p == pytest.approx(other.raters.p) and one.preference.mean == 1 - other.preference.mean


def test_exclusions_repeats_and_checks():
    table = study(raters=8, items=6)
    lazy = table.scores.copy()
    lazy[0] = 1
    rows = [
        dict(rater=table.raters[r], item=table.items[i], method=METHODS[m], criterion=CRITERIA[c], score=int(score),
             excluded=r == 0)
        for (r, i, m, c), score in np.ndenumerate(lazy)
    ]  # fmt: skip
    rows += [{**rows[300], "repeat": True, "score": rows[300]["score"]}, {**rows[0], "check": True, "score": 5}]
    kept, everyone = analyse(rows, draws=200), analyse(rows, draws=200, exclude=False)
    assert (kept.raters, everyone.raters) == (7, 8) and kept.excluded == (table.raters[0],)
    assert kept.cell("full", "motion").score.mean == pytest.approx(lazy[1:, :, 2, 3].mean())
    assert everyone.cell("full", "motion").score.mean == pytest.approx(lazy[:, :, 2, 3].mean())
    assert sum(one.repeats for one in kept.reliability) == 1
    text = report_markdown(kept, everyone)
    assert "With exclusions (7 raters)" in text and "1 rater left out" in text
    assert "With and without" not in report_markdown(everyone, everyone)


def test_table_3_in_markdown_beside_the_paper(found):
    lines = table3_markdown(found, {"full": "Ours"}).splitlines()
    assert lines[0] == "|  | Align. Text ↑ | Align. 3D ↑ | Mot. ↑ | Appr. ↑ |"
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        *("DG4D", "DG4D (paper)", "animate3d", "Animate3D (paper)", "Ours", "Ours (paper)")
    ]
    assert lines[3] == "| DG4D (paper) | 3.38 | 3.73 | 3.37 | 3.27 |"
    ours, mean = lines[6].split(" | "), found.cell("full", "align_text").score
    assert ours[1] == f"**{mean.mean:.2f}**† [{mean.low:.2f}, {mean.high:.2f}]"
    assert PAPER["Ours"] == (3.57, 3.87, 3.73, 3.44)


def test_methods_the_paper_does_not_have_keep_all_its_rows():
    table = replace(study(raters=5, items=5), methods=("a", "b", "c"), criteria=("x", "motion", "y", "z"))
    lines = table3_markdown(analyse_table(table, draws=200)).splitlines()
    assert len(lines) == 2 + 3 + 3 and lines[-1] == "| Ours (paper) | 3.73 |  |  |  |"
    assert paper_row("Track4DGen") == "Ours" and paper_row("Animate3d") == "Animate3D" and paper_row("EG4D") is None


def test_latex_escapes_what_users_name(found):
    text = table3_latex(found, {"full": r"Ours_{50%} \input{x}"})
    assert r"Ours\_\{50\%\} \textbackslash{}input\{x\}" in text
    assert text.count("{") == text.count("}") and text.count(r"\\") == 7
    assert r"\textbf{" in text and r"$^\dagger$" in text and "16 raters, 14 objects, 2688 ratings" in text


def test_report_and_json(found):
    text = report_markdown(found, found, title="A | study", method_labels={"full": "Ours | best"})
    assert "Ours \\| best" in text and "Krippendorff" in text and "nan" not in text
    assert "<.001" in text and p_value(0.0421) == ".042" and p_value(1.0) == "1" and p_value(float("nan")) == "–"
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["pairs"][0]["p_holm"] == found.pairs[0].p_holm and content["reliability"][0]["repeats_equal"] is None


def test_a_study_of_one_method_or_one_rater_is_reported_without_claims():
    table = study(raters=6, items=6)
    alone = analyse_table(replace(table, scores=table.scores[:, :, :1], methods=("DG4D",)), draws=200)
    assert alone.pairs == () and "Three methods" not in report_markdown(alone)
    one = analyse_table(replace(table, scores=table.scores[:1], raters=("r0",)), draws=200)
    text = report_markdown(one)
    assert "[" not in table3_markdown(one) and "alpha is undefined" in text and "nan" not in text


def test_default_spread_looks_like_ratings_of_generated_objects():
    found = [analyse_table(simulate(Scenario(20, 28), np.random.default_rng(s)), draws=100) for s in range(12)]
    means = np.mean([[r.alpha, r.icc_a1, r.icc_ak] for f in found for r in f.reliability], 0)
    assert means == pytest.approx((0.13, 0.15, 0.78), abs=0.02)


def test_pilot_gives_its_spread_back():
    true = Spread(rater=0.6, item=0.3, rater_method=0.3, item_method=0.15, noise=0.7)
    pilot = simulate(Scenario(80, 60, (3.0, 3.0, 3.0), 2, spread=true), np.random.default_rng(1))
    got = spread_of(pilot)
    for name in ("rater", "item", "rater_method", "item_method", "noise"):
        assert getattr(got, name) == pytest.approx(getattr(true, name), abs=0.08)
    with pytest.raises(InputError, match="cannot tell raters, items and noise apart"):
        spread_of(simulate(Scenario(1, 5), np.random.default_rng(0)))


def test_gap_is_of_scores_not_of_the_latent_mean():
    mean = better_mean(4.0, 0.4, 1.0)
    assert expected_score(mean, 1.0) - expected_score(4.0, 1.0) == pytest.approx(0.4)
    with pytest.raises(InputError, match="does not fit a scale"):
        better_mean(4.5, 2.0, 1.0)


def test_planning_needs_more_raters_for_smaller_gaps():
    rows = plan_size([6, 24], 12, 0.45, criteria=1, simulations=40)
    assert rows[1].two_way > rows[0].two_way + 0.1 and rows[1].half_width < rows[0].half_width
    assert all(row.beats_all <= row.two_way for row in rows) and rows[0].ratings == 36
    assert plan_size([24], 12, 0.2, criteria=1, simulations=40)[0].two_way < rows[1].two_way
    null = plan_size([12], 12, 0.0, criteria=1, simulations=60)[0]
    assert null.two_way < 0.1
    assert enough(rows, 2.0) is None and "None of these sizes" in plan_markdown(rows, 0.45, 2.0)
    with pytest.raises(InputError, match="at least two"):
        plan_size([1], 12, 0.2)


def test_small_coverage_and_null_in_ci():
    covered = coverage(Scenario(12, 12), 60, draws=300)
    assert min(covered[of]["reported"]["high"] for of in ("mean", "difference")) > 0.95
    alarms = false_alarms(NULLS["objects prefer"], 30)
    # the reason for the two-way test: raters' means differ on these very objects, and would not on others
    assert alarms["two_way"]["low"] < 0.05 and alarms["raters"]["share"] > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["20 raters x 20 items", "6 x 28", "60 x 40, 10 items each"])
def test_stated_coverage_over_500_studies(name):
    from eval.study_coverage import INTERVALS

    for line in coverage(INTERVALS[name], 500, draws=500).values():
        assert line["reported"]["high"] >= 0.94 and line["reported"]["share"] <= 0.995


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NULLS))
def test_family_wise_error_over_500_studies(name):
    found = false_alarms(NULLS[name], 500, draws=100)
    assert found["two_way"]["low"] <= 0.05
    if name == "only noise between methods":
        assert found["raters"]["low"] <= 0.05 and found["items"]["low"] <= 0.05
