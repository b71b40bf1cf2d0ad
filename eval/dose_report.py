"""Tables of the dose-response experiment."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.stage1_runs import shown, t_interval
from eval.stage2_truth import processor
from t4d.metrics.bootstrap import two_way_bootstrap

COLUMNS = {"error": 2, "after_hidden_error": 2, "delta_avg": 4, "drift": 4, "distinct": 4, "relative_drift": 3,
           "diff@51": 4, "diff@501": 4}  # fmt: skip
CONTROLS = ("static_error", "static_delta_avg", "cell_error", "cell_delta_avg")
#: Name, rows, and the rows that are taken away: means over the rows of each side, seed by seed.
DIFFERENCES = (
    ("tracking losses", ("masked_0",), ("no_track",)),
    ("10 % wrong, masked", ("masked_10",), ("masked_0",)),
    ("30 % wrong, masked", ("masked_30",), ("masked_0",)),
    ("10 % wrong, unmasked", ("unmasked_10",), ("unmasked_0",)),
    ("30 % wrong, unmasked", ("unmasked_30",), ("unmasked_0",)),
    # these two were added after three seeds were seen, for a narrower interval of the dose alone
    ("10 % wrong, mean of both", ("masked_10", "unmasked_10"), ("masked_0", "unmasked_0")),
    ("30 % wrong, mean of both", ("masked_30", "unmasked_30"), ("masked_0", "unmasked_0")),
    ("no mask, exact", ("unmasked_0",), ("masked_0",)),
    ("no mask, 10 % wrong", ("unmasked_10",), ("masked_10",)),
    ("no mask, 30 % wrong", ("unmasked_30",), ("masked_30",)),
    ("30 % wrong against no losses", ("masked_30",), ("no_track",)),
    ("30 % wrong, no mask, against no losses", ("unmasked_30",), ("no_track",)),
    ("30 % swapped", ("swap_30",), ("masked_0",)),
    ("30 % drifting", ("drift_30",), ("masked_0",)),
    ("30 % jumping", ("jump_30",), ("masked_0",)),
)


def table(lines: Mapping[str, Mapping[str, Any]], row: str, key: str, seeds: Sequence[int]) -> np.ndarray:
    """[clips, seeds] of a figure; clips without it (nothing to count, which the data decides) are left out."""
    by_seed = {line["seed"]: line["clips"] for line in lines.values() if line["row"] == row}
    values = [[clip[key] for clip in by_seed[seed]] for seed in seeds]
    return np.array([clip for clip in zip(*values) if None not in clip], np.float64)


def interval(values: np.ndarray) -> dict[str, Any]:
    """Student's interval over seeds, of means over clips: what another training would give on these clips; and the
    two-way bootstrap over clips and seeds."""
    both = two_way_bootstrap(values)
    return {**t_interval(values.mean(0).tolist()), "bootstrap": [both.low, both.high], "clips": len(values)}


def report(
    lines: Mapping[str, Mapping[str, Any]], rows: Sequence[str], seeds: Sequence[int], protocol: str, out: Path | None
) -> None:
    """Prints the tables over seeds that are complete in all rows and writes everything as JSON."""
    done = {(line["row"], line["seed"]) for line in lines.values()}
    seeds = [seed for seed in seeds if all((row, seed) in done for row in rows)]
    if not seeds:
        print("no seed has all rows yet")
        return
    means = {row: {key: interval(table(lines, row, key, seeds)) for key in COLUMNS} for row in rows}
    controls = {key: float(table(lines, rows[0], key, seeds).mean()) for key in CONTROLS}
    print(f"\nMeans over held-out clips and seeds {list(seeds)}\n\n| row | " + " | ".join(COLUMNS) + " |")
    print("|" + " --- |" * (len(COLUMNS) + 1))
    for row in rows:
        print(f"| {row} | " + " | ".join(f"{means[row][k]['mean']:.{d}f}" for k, d in COLUMNS.items()) + " |")
    print("\nControls: " + ", ".join(f"{key} {value:.3f}" for key, value in controls.items()))
    tables = {(row, key): table(lines, row, key, seeds) for row in rows for key in COLUMNS}
    differences: list[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], dict[str, dict[str, Any]]]] = []
    for name, ups, downs in DIFFERENCES:
        if {*ups, *downs} <= set(rows):
            sides = {k: [np.mean([tables[row, k] for row in side], 0) for side in (ups, downs)] for k in COLUMNS}
            differences.append(((name, ups, downs), {k: interval(up - down) for k, (up, down) in sides.items()}))
    print("\nPaired differences, 95 % t intervals over seeds; * leaves out zero; + so does the bootstrap with clips\n")
    print("| | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (len(COLUMNS) + 1))
    for (name, _, _), found in differences:
        cells = []
        for key, digits in COLUMNS.items():
            low, high = found[key]["bootstrap"]
            cells.append(shown(found[key], digits) + ("+" if low > 0 or high < 0 else ""))
        print(f"| {name} | " + " | ".join(cells) + " |")
    if out is None:
        return
    content = {
        "protocol": protocol.strip(),
        "seeds": list(seeds),
        "means": means,
        "controls": controls,
        "differences": [{"of": of, "row": row, "minus": other, **found} for (of, row, other), found in differences],
        "hardware": processor(),
        "torch": torch.__version__,
    }
    text = json.dumps(content, indent=1)
    runs = ",\n  ".join(json.dumps(line) for line in lines.values())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{text[:-2]},\n "runs": [\n  {runs}\n ]\n}}\n')
