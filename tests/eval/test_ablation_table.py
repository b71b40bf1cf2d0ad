"""Tables of an ablation from made-up figures with known answers."""

import json

import pytest

from eval.ablation_table import Column, grid, markdown, markdown_differences, summary

CASES, SEEDS = ["a", "b", "c"], [0, 1]
COLUMNS = (Column("psnr", "PSNR dB"), Column("off", "distance, %", 1, 100, -1))
GROUPS = {"all": CASES, "near": ["a"], "far": ["b", "c"]}


def made(row: str, gain: float) -> dict:
    """Case k and seed s give 20 + k + s + gain dB."""
    return {
        (row, case, seed): {"psnr": 20 + k + seed + gain, "off": 0.05 - gain / 100}
        for k, case in enumerate(CASES)
        for seed in SEEDS
    }


RECORDS = made("full", 0.0) | made("other", -1.0)


def test_means_intervals_and_differences():
    result = summary(RECORDS, ["full", "other"], COLUMNS, GROUPS, SEEDS)
    json.dumps(result)
    assert result["full"]["psnr"]["all"]["mean"] == pytest.approx(21.5)
    assert result["full"]["psnr"]["near"]["mean"] == pytest.approx(20.5)
    assert result["full"]["psnr"]["far"]["mean"] == pytest.approx(22.0)
    cell = result["full"]["psnr"]["all"]
    assert cell["low"] < cell["mean"] < cell["high"] and "minus_full" not in cell
    # paired: cases and seeds differ a lot, the difference does not
    difference = result["other"]["psnr"]["all"]["minus_full"]
    assert (difference["mean"], difference["low"], difference["high"]) == pytest.approx((-1, -1, -1))
    assert (difference["cases_better"], difference["cases"]) == (0, 3)
    # the other's distance is larger, and smaller is better
    assert result["other"]["off"]["all"]["minus_full"]["cases_better"] == 0
    assert result["other"]["fits"] == 6


def test_unfinished_seeds_are_left_out_of_rows_and_pairs():
    records = {key: value for key, value in RECORDS.items() if key != ("other", "c", 1)}
    assert grid(records, "other", "psnr", CASES, SEEDS).shape == (3, 1)  # pyright: ignore
    assert grid(records, "other", "psnr", ["a", "b"], SEEDS).shape == (2, 2)  # pyright: ignore
    assert grid(records, "absent", "psnr", CASES, SEEDS) is None
    result = summary(records, ["full", "other"], COLUMNS, GROUPS, SEEDS)
    assert result["other"]["psnr"]["all"]["mean"] == pytest.approx(20.0)
    assert result["other"]["psnr"]["all"]["minus_full"]["mean"] == pytest.approx(-1)
    assert result["other"]["fits"] == 5


def test_printed_tables():
    result = summary(RECORDS, ["full", "other"], COLUMNS, GROUPS, SEEDS)
    table = markdown(result, COLUMNS, ["near"]).splitlines()
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1
    assert table[2].startswith("| full | 20.50 [20.00, 21.00] | 5.0 [5.0, 5.0] | 6 |")
    plain = markdown(result, COLUMNS, ["near", "far"], intervals=False).splitlines()
    assert plain[0] == "| row | PSNR dB near | PSNR dB far | distance, % near | distance, % far | fits |"
    assert plain[3] == "| other | 19.50 | 21.00 | 6.0 | 6.0 | 6 |"
    assert "**" not in markdown_differences(result, COLUMNS, ["near"])  # one case says nothing about others
    differences = markdown_differences(result, COLUMNS, ["all"])
    assert "| other | **-1.00 [-1.00, -1.00]** | **+1.0 [+1.0, +1.0]** |" in differences
    assert "full |" not in differences.splitlines()[2]


def test_an_interval_around_zero_is_not_bold():
    records = made("full", 0.0) | {
        ("other", case, seed): {"psnr": 20 + k + seed + (1 if k else -1), "off": 0.05}
        for k, case in enumerate(CASES)
        for seed in SEEDS
    }
    result = summary(records, ["full", "other"], COLUMNS, {"all": CASES}, SEEDS)
    difference = result["other"]["psnr"]["all"]["minus_full"]
    assert difference["low"] < 0 < difference["high"] and difference["cases_better"] == 2
    assert "**" not in markdown_differences(result, COLUMNS[:1], ["all"])
