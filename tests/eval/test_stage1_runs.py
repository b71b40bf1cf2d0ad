"""Statistics and tables of the Stage One experiments from made-up figures; one real run of each program."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from eval import dose_response, overfit
from eval.dose_report import COLUMNS, CONTROLS, report
from eval.stage1_runs import paired, shown, t_interval, train


def test_t_interval_against_a_table():
    # Student's t for two degrees of freedom at 95 %: 4.3027 (Fisher and Yates); standard error of 1, 2, 3: 1/sqrt(3)
    found = t_interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2
    assert found["high"] - 2 == pytest.approx(4.3027 / 3**0.5, rel=1e-4)
    assert 2 - found["low"] == pytest.approx(found["high"] - 2)
    assert t_interval([5.0])["low"] is None
    for bad in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="finite"):
            t_interval(bad)


def test_pairs_remove_what_seeds_share():
    figures = {("a", s): {"x": 10.0 * s} for s in range(3)} | {("b", s): {"x": 10.0 * s - 1} for s in range(3)}
    found = paired(figures, "a", "b", "x", [0, 1, 2])
    assert (found["mean"], found["low"], found["high"]) == (1, 1, 1)
    assert shown(found, 1) == "1.0 [1.0, 1.0]*"
    assert not shown(t_interval([-1.0, 1.0]), 1).endswith("*")


def line(row: str, seed: int, error: float) -> dict:
    clips: list[dict[str, float | None]] = [
        {key: error + seed + clip for key in (*COLUMNS, *CONTROLS)} for clip in range(4)
    ]
    clips.append({**clips[0], "after_hidden_error": None})  # this clip has no occlusion
    return {"key": f"{row}/{seed}", "row": row, "seed": seed, "clips": clips}


def test_dose_report(tmp_path: Path, capsys):
    lines = [line(r, s, e) for r, e in (("no_track", 5.0), ("masked_0", 1.0), ("masked_30", 2.0)) for s in range(3)]
    lines += [line("masked_30", 3, 9.0)]  # a seed without the other rows yet
    out = tmp_path / "found.json"
    rows = ["no_track", "masked_0", "masked_30"]
    report({one["key"]: one for one in lines}, rows, [0, 1, 2, 3], "what is done", out)
    found = json.loads(out.read_text())
    assert found["seeds"] == [0, 1, 2] and len(found["runs"]) == 10
    differences = {(*d["row"], *d["minus"]): d for d in found["differences"]}
    assert set(differences) == {("masked_0", "no_track"), ("masked_30", "masked_0"), ("masked_30", "no_track")}
    assert differences["masked_30", "masked_0"]["error"]["values"] == [1, 1, 1]
    assert differences["masked_0", "no_track"]["error"]["clips"] == 5
    assert differences["masked_0", "no_track"]["after_hidden_error"]["clips"] == 4
    assert found["means"]["masked_0"]["error"]["mean"] == pytest.approx(np.mean([0, 1, 2, 3, 0]) + 1 + 1)
    assert "| 30 % wrong, masked | 1.00 [1.00, 1.00]*+ |" in capsys.readouterr().out


def test_rows_differ_in_what_they_say():
    rows = dose_response.rows()
    assert set(dose_response.DEFAULT) <= set(rows) and "swap_30" not in dose_response.DEFAULT
    settings = [json.dumps(value, sort_keys=True) for row, value in rows.items() if row != "base"]
    assert len(set(settings)) == len(settings)
    assert rows["unmasked_30"] == {"tracking.corruption.share": 0.3, "tracking.masked": False}


def test_failed_run_says_why(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"optim\.steps"):
        train(overfit.CONFIG, tmp_path / "run", {"optim.steps": -1})


@pytest.mark.slow
def test_overfit_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """Two steps of training are no memory, but every row is trained, measured, reported and not done twice."""
    short = tmp_path / "short.yaml"
    short.write_text(
        overfit.CONFIG.read_text().replace("steps: 300", "steps: 2").replace("log_steps: 25", "log_steps: 1")
    )
    monkeypatch.setattr(overfit, "CONFIG", short)
    monkeypatch.setattr(overfit, "ROWS", {row: overfit.ROWS[row] for row in ("full", "no_track")})
    monkeypatch.setattr(overfit, "EFFECTS", (("both", "full", "no_track"),))
    work, out = tmp_path / "work", tmp_path / "overfit.json"
    monkeypatch.setattr(sys, "argv", ["overfit", "--work", str(work), "--seeds", "1", "--long", "0", "--out", str(out)])
    overfit.main()
    first = (work / "fits.jsonl").read_text()
    overfit.main()
    assert (work / "fits.jsonl").read_text() == first
    found = json.loads(out.read_text())
    runs = {run["row"]: run for run in found["runs"]}
    assert set(runs) == {"full", "no_track"} and len(runs["full"]["curve"]) == 2
    assert "pos" in runs["full"]["curve"][0] and "pos" not in runs["no_track"]["curve"][0]
    assert found["means"]["full"]["error@51"]["mean"] > 0 and (work / "runs/full_0/sheet.png").is_file()
    assert found["effects"][0]["drift@51"]["values"][0] != 0
    # the figures are the held-out points' and not the trained ones'
    assert runs["full"]["figures"]["terms@51"] >= overfit.LEAST_TERMS
