"""What a training log says of a run."""

import sys

import pytest

from eval import training_log
from eval.training_log import curve, hours


def test_a_log_by_hand():
    rows = [
        {"step": 10, "diff": 2.0, "copy": 2.0, "seconds_per_step": 360.0},
        {"step": 20, "diff": 1.0, "copy": 4.0, "seconds_per_step": 180.0},
        {"step": 25, "diff": 3.0, "seconds_per_step": 72.0},
    ]
    assert curve(rows, 20) == [(20, 1.5, 0.5), (25, 3.0, None)]
    assert hours(rows) == pytest.approx(1.0 + 0.5 + 0.1)


def test_versions_are_told_in_their_order_and_the_motion_mean_among_them(tmp_path, monkeypatch, capsys):
    row = '{"step": 10, "diff": 2.0, "copy": 4.0, "seconds_per_step": 360.0}'
    for name in ("stage1_1", "motion_mean_0", "stage1_10", "v2_stage1_0", "autoencoder", "other_stage1_notes"):
        (tmp_path / f"{name}.jsonl").write_text(row)
    monkeypatch.setattr(sys, "argv", ["training_log", str(tmp_path)])
    training_log.main()
    out = capsys.readouterr().out
    names = [line.split(" | ")[0].strip("| ") for line in out.splitlines()[2:] if line.startswith("|")]
    assert names == ["v2_stage1_0", "motion_mean_0", "stage1_1", "stage1_10"]
    assert out.endswith("40 steps, 4.0 hours\n")


def test_the_shipped_logs_are_read_and_a_folder_without_any_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["training_log"])
    training_log.main()
    out = capsys.readouterr().out
    places = [
        out.index(f"| {row} |")
        for row in ("v1_stage1_4 | 1900", "v2_stage1_0 | 2900", "motion_mean_1 | 2200", "stage1_2 | 520")
    ]
    assert 0 < places[0] and places == sorted(places) and out.rstrip().endswith("hours")
    monkeypatch.setattr(sys, "argv", ["training_log", str(tmp_path)])
    with pytest.raises(SystemExit):
        training_log.main()
    assert "holds no stage1" in capsys.readouterr().err
