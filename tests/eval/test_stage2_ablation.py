"""The ablation program from end to end, very small: resumed, reported, drawn."""

import json
import sys
from pathlib import Path

import pytest
import torch

from eval import stage2_ablation, stage2_sheet
from eval.ablation_plan import Plan, arguments_of
from eval.stage2_sheet import cropped

pytestmark = pytest.mark.data

SMALL = ("splat.count=300", "stage1.size=32", "stage2.iterations=2", "stage2.refine_iterations=0")


def command(tmp_path: Path, *more: str) -> list[str]:
    settings = [word for item in SMALL for word in ("--set", item)]
    return ["program", "truth", "--cases", "Manta", "--seeds", "0", "--work", str(tmp_path / "work"), *settings, *more]


def test_resumed_reported_and_drawn(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    out, threads = tmp_path / "result.json", torch.get_num_threads()
    first = command(tmp_path, "--rows", "oracle,static,no_features_no_4dsh", "--out", str(out))
    monkeypatch.setattr(sys, "argv", first)
    stage2_ablation.main()
    assert json.loads(out.read_text())["summary"].keys() == {"oracle", "static", "no_features_no_4dsh"}

    lines = (tmp_path / "work/fits.jsonl").read_text()
    again = command(tmp_path, "--rows", "full,oracle,static,no_features_no_4dsh", "--out", str(out))
    monkeypatch.setattr(sys, "argv", again)
    stage2_ablation.main()
    assert (tmp_path / "work/fits.jsonl").read_text().startswith(lines)  # nothing was done twice
    result = json.loads(out.read_text())
    assert [line["row"] for line in result["fits"]].count("static") == 1 and len(result["fits"]) == 4
    assert result["frame_zero_difference"] == 0 and result["lines_of_other_source"] == 0
    share = {row: result["summary"][row]["share"]["all"]["mean"] for row in result["summary"]}
    assert (share["oracle"], share["static"]) == (1, 0)
    assert result["summary"]["oracle"]["delta_2"]["far"]["mean"] == 1
    assert "| full |" in capsys.readouterr().out

    monkeypatch.setattr(sys, "argv", command(tmp_path, "--rows", "full,static", "--out", str(tmp_path / "sheets")))
    stage2_sheet.main()
    assert (tmp_path / "sheets/Manta_ray-Swim-0.png").stat().st_size > 1000
    torch.set_num_threads(threads)


def test_keys_name_what_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_data: Path):
    def key(row: str, *more: str) -> str:
        import argparse

        monkeypatch.setattr(sys, "argv", command(tmp_path, "--rows", f"{row},static", *more))
        return Plan(arguments_of(argparse.ArgumentParser())).key(row, "Manta_ray-Swim", 0)

    assert key("full") == key("full", "--threads", "2") != key("no_4dsh")
    assert key("full") != key("full", "--set", "stage2.lambda_arap=0.3")
    assert key("static") == key("static", "--set", "stage2.lambda_arap=0.3")  # bounds depend on no fit
    assert key("static") != key("static", "--set", "splat.count=400")


def test_lines_name_the_code_that_ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared_data: Path):
    import argparse

    monkeypatch.setattr(sys, "argv", command(tmp_path, "--rows", "full,static"))
    plan = Plan(arguments_of(argparse.ArgumentParser()))
    before = plan.source("full"), plan.source("static"), plan.commit
    assert before[0] != before[1]
    monkeypatch.setattr("eval.ablation_store.PACKAGE", tmp_path)  # edited while fits run
    assert (plan.source("full"), plan.source("static"), plan.commit) == before
    assert Plan(arguments_of(argparse.ArgumentParser())).source("full") != before[0]


def test_sheets_are_cut_to_the_object():
    pictures = torch.full((2, 3, 3, 20, 30), 0.5)
    pictures[0, 1, :, 8:10, 12:17] = 0.9
    pictures[1, 1, :, 0:2, 0:2] = 0.9  # of a later row: the first decides
    assert cropped(pictures).shape == (2, 3, 3, 8, 11)
    assert torch.equal(cropped(pictures)[0, 1, 0, 3:5, 3:8], torch.full((2, 5), 0.9))
    assert cropped(torch.full((1, 2, 3, 6, 7), 0.5)).shape == (1, 2, 3, 6, 7)
