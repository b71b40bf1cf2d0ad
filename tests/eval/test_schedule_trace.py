"""The program that asks whether sampling starts blind."""

import sys

import pytest
from mini_world import make_rigs

from eval import schedule_trace


@pytest.mark.slow
def test_the_time_is_that_at_which_the_models_own_sampling_starts(tmp_path, monkeypatch, capsys):
    rigs = make_rigs(tmp_path / "rigs")
    monkeypatch.setattr(sys, "argv", ["schedule_trace", "--rigs", str(rigs), "--clips", "1"])
    schedule_trace.main()
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("signal left at t = 999, the first of 25 steps: 0.00e+00")
    seen, blind, still = (float(cell) for cell in rows[-1].split("|")[2:5])
    assert seen == blind > 0 and still > 0  # mini's schedule ends at noise alone
