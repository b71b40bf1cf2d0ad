"""What README and model card say of mini is what the stored results hold."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from eval.mini_forks import FORKS
from eval.mini_gates import Gate, table
from t4d.paths import ASSETS, REPO

RESULTS = REPO / "eval" / "results"
CARD = (ASSETS / "weights" / "mini" / "MODEL_CARD.md").read_text()
README = (REPO / "README.md").read_text()


def stored(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text())


def gate(row: dict[str, Any]) -> Gate:
    """A gate as it was before it was written."""
    least, most = row["limits"]
    limits = (-math.inf if least is None else least, math.inf if most is None else most)
    fields = {k: math.nan if v is None else v for k, v in row.items() if k != "holds"}
    found = Gate(**{**fields, "limits": limits})
    assert found.holds == row["holds"]
    return found


def short(value: float, digits: int = 2) -> str:
    """As the README writes figures: without the zero before the point."""
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def test_the_cards_gates_are_those_of_the_result():
    gates = [gate(row) for row in stored("mini.json")["gates"] if "(near)" not in row["what"]]
    assert len(gates) == 13 and table(gates) in CARD


def test_result_card_and_weights_are_of_one_model():
    index = json.loads((ASSETS / "weights" / "mini" / "model_index.json").read_text())
    assert stored("mini.json")["label"] == index["label"] and CARD.startswith("# mini v3\n")
    assert stored("mini.json")["weights"] == stored("first_guess.json")["weights"]
    assert stored("mini.json")["weights"] == stored("mini_forks.json")["forks"]["base"]["weights"]


@pytest.mark.parametrize("name", ["mini", *FORKS])
def test_the_readmes_gates_of_the_forks(name: str):
    rows = stored("mini.json")["gates"] if name == "mini" else stored("mini_forks.json")["gates"][name]
    values = {row["gate"]: row["value"] for row in rows[::-1] if "(near)" not in row["what"]}
    cells = [short(values[number]) for number in ("2a", "2b", "3a", "3b", "3d", "4a", "4b")]
    assert f"| {name} | {' | '.join(cells)} |" in README


@pytest.mark.parametrize("name", ["mini", *FORKS])
def test_the_readmes_probe_of_the_forks(name: str):
    found = stored("mini_forks.json")
    rows = found["probe"]["base" if name == "mini" else name]
    error, delta, drift = (sum(row[f] for row in rows) / len(rows) for f in ("error", "delta_avg", "relative_drift"))
    line = f"| {name} | {error:.1f} | {short(delta, 3)} | {drift:.1f} |"
    claims = {each["claim"]: each for each in found["claims"]}
    if (claim := claims.get(f"{name} - full")) is not None:
        line += " {} [{}, {}] |".format(*(short(claim[end], 3) for end in ("value", "low", "high")))
    assert line in README


def test_the_cards_first_guesses():
    found = {
        (r["rigs"], r["start"]): [short(x) for x in r["loss / still"]["999"]]
        for r in stored("first_guess.json")["rows"]
    }
    told = ["{} [{}, {}]".format(*found[rigs, "rest"]) for rigs in ("train", "near", "far")]
    middle = [found[rigs, "middle"][0] for rigs in ("train", "near", "far")]
    said = re.sub(r"\s+", " ", CARD)
    assert f"prints {told[0]} on training rigs, {told[1]} on near and {told[2]} on far rigs from rest" in said
    assert f"{middle[0]}, {middle[1]} and {middle[2]} from mid-motion" in said


def test_every_run_that_is_counted_is_there():
    logs: list[Path] = sorted((ASSETS / "weights" / "mini" / "training").glob("*.jsonl"))
    assert len(logs) == 12 and "twelve runs" in README and "twelve runs" in CARD
