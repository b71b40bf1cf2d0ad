"""What a training log says of a run."""

import json
import sys

import pytest

from eval import training_log
from eval.training_log import curve, hours
from t4d.paths import ASSETS

LOGS = ASSETS / "weights" / "mini" / "training"


def test_a_log_by_hand():
    rows = [
        {"step": 10, "diff": 2.0, "copy": 2.0, "seconds_per_step": 360.0},
        {"step": 20, "diff": 1.0, "copy": 4.0, "seconds_per_step": 180.0},
        {"step": 25, "diff": 3.0, "seconds_per_step": 72.0},
    ]
    assert curve(rows, 20) == [(20, 1.5, 0.5), (25, 3.0, None)]
    assert hours(rows) == pytest.approx(1.0 + 0.5 + 0.1)


def write(folder, name, *rows):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def told(folder, monkeypatch, capsys) -> str:
    """What the program prints."""
    monkeypatch.setattr(sys, "argv", ["training_log", *([] if folder is None else [str(folder)])])
    training_log.main()
    return capsys.readouterr().out


def row(step, seconds, **more):
    return {"step": step, "diff": 2.0, "copy": 4.0, "seconds_per_step": seconds, **more}


def test_versions_are_told_in_their_order_and_the_motion_mean_among_them(tmp_path, monkeypatch, capsys):
    # hours: 1 + 0.5; 0.1 and, from 10 to 40, 30 steps of 18 s: 0.15; 2; 3.2. Evaluations and starts count nothing
    write(tmp_path, "stage1_1", {"event": "start", "step": 0}, row(10, 360.0), row(20, 180.0))
    write(tmp_path, "motion_mean_0", row(10, 36.0), {"evaluation": {"step": 10}}, row(40, 18.0))
    write(tmp_path, "stage1_10", row(100, 72.0))
    write(tmp_path, "v2_stage1_0", row(320, 36.0))
    out = told(tmp_path, monkeypatch, capsys)
    names = [line.split(" | ")[0].strip("| ") for line in out.splitlines()[2:] if line.startswith("|")]
    assert names == ["v2_stage1_0", "motion_mean_0", "stage1_1", "stage1_10"]
    assert out.endswith("\n480 steps, 7.0 hours\n")  # 6.95; nothing was left out


def test_logs_that_are_left_out_are_told_with_the_reason(tmp_path, monkeypatch, capsys):
    write(tmp_path, "stage1_0", row(10, 360.0))
    for name in ("autoencoder", "other_stage1_notes"):
        write(tmp_path, name, row(10, 360.0))
    write(tmp_path, "v0_stage1", {"step": 10, "loss": 2.0})
    write(tmp_path, "stage1_1", {"step": 10, "diff": 2.0, "steps_per_second": 1.0})
    out = told(tmp_path, monkeypatch, capsys)
    assert [line for line in out.splitlines() if line.startswith("| stage1")] == ["| stage1_0 | 10 | 2.0000 | 0.500 |"]
    assert out.endswith(
        "\n10 steps, 1.0 hours\nLeft out: autoencoder (not named stage1 or motion_mean), other_stage1_notes (not named "
        "stage1 or motion_mean), stage1_1 (without seconds_per_step), v0_stage1 (an earlier form, without diff).\n"
    )


def test_the_shipped_logs_are_read_and_a_folder_without_any_is_refused(tmp_path, monkeypatch, capsys):
    out = told(None, monkeypatch, capsys)
    places = [
        out.index(f"| {row} |")
        for row in ("v1_stage1_4 | 1900", "v2_stage1_0 | 2900", "motion_mean_1 | 2200", "stage1_2 | 520")
    ]
    assert 0 < places[0] and places == sorted(places)
    hours_line, left_out = out.splitlines()[-2:]
    # summed from the files another way: a row's steps are those since the next smaller step of its log
    seconds = 0.0
    for path in LOGS.glob("*.jsonl"):
        speeds = {r["step"]: r["seconds_per_step"] for r in map(json.loads, path.open()) if "diff" in r}
        seconds += sum(
            speed * (step - max([s for s in speeds if s < step], default=0)) for step, speed in speeds.items()
        )
    assert hours_line.endswith(f" steps, {seconds / 3600:.1f} hours")
    assert left_out.startswith("Left out: autoencoder (") and "v0_stage1 (" in left_out and "v0_words (" in left_out
    monkeypatch.setattr(sys, "argv", ["training_log", str(tmp_path)])
    with pytest.raises(SystemExit):
        training_log.main()
    assert "holds no stage1" in capsys.readouterr().err
