"""The learning curve of a model's runs, from the logs that ship with it: ``python -m eval.training_log [FOLDER]``.

One line for every 200 steps of every run of Stage One and of the motion mean, earlier versions' first: the mean loss,
and the loss over that of predicting no motion with the same clips, noises and weights ("still"), which falls below 1
as the network learns how objects move. Absolute losses of runs with other noise or balance do not compare; the
ratio does, roughly. Then hours by the clock, which other work on the machine shared, and which logs of the folder were
left out.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t4d.paths import ASSETS
from train.ship import PROGRAMS

EVERY = 200
NAME = re.compile(rf"(?:(.+)_)?(?:{'|'.join(PROGRAMS)})(?:_(\d+))?")  # of a log: version, program, number


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a log that hold losses."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if "diff" in row]


def left_out(name: re.Match[str] | None, rows: Sequence[dict[str, Any]]) -> str:
    """Why a log has no curve here; "" where it has one."""
    if name is None:
        return f"not named {' or '.join(PROGRAMS)}"
    if not rows:
        return "an earlier form, without diff"
    return "" if all("seconds_per_step" in row for row in rows) else "without seconds_per_step"


def hours(rows: Sequence[dict[str, Any]]) -> float:
    """Time by the clock, from the mean seconds of a step that every row holds for the steps since the one before."""
    steps = [row["step"] for row in rows]
    return sum(row["seconds_per_step"] * (b - a) for row, a, b in zip(rows, [0, *steps], steps)) / 3600


def curve(rows: Sequence[dict[str, Any]], every: int = EVERY) -> list[tuple[int, float, float | None]]:
    """(last step, mean loss, loss over "still" or None where the log lacks it) for every so many steps."""
    parts: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        parts.setdefault((row["step"] - 1) // every, []).append(row)
    found = []
    for part in parts.values():
        loss = sum(row["diff"] for row in part)
        still = sum(row.get("copy", 0.0) for row in part)
        found.append((part[-1]["step"], loss / len(part), loss / still if still else None))
    return found


def _age(name: re.Match[str]) -> tuple[bool, str, int]:
    """Logs of earlier versions (``v1_stage1_0``) before those of the shipped one (``stage1_0``), by their numbers."""
    version, number = name.groups()
    return version is None, version or "", int(number or 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ASSETS / "weights" / "mini" / "training")
    folder = parser.parse_args().folder
    logs = {path: NAME.fullmatch(path.stem) for path in sorted(folder.glob("*.jsonl"))}
    rows_of = {path: read(path) if name else [] for path, name in logs.items()}
    reasons = {path.stem: why for path, name in logs.items() if (why := left_out(name, rows_of[path]))}
    names = {path: name for path, name in logs.items() if name and path.stem not in reasons}
    runs = {path: rows_of[path] for path in sorted(names, key=lambda path: _age(names[path]))}
    told = "Left out: " + ", ".join(f"{name} ({why})" for name, why in reasons.items()) + "."
    if not runs:
        parser.error(f"{folder} holds no stage1*.jsonl or motion_mean*.jsonl with losses. {told if reasons else ''}")
    print("| run | to step | loss | loss / still |\n| --- | --- | --- | --- |")
    steps, total = 0, 0.0
    for path, rows in runs.items():
        for step, loss, ratio in curve(rows):
            print(f"| {path.stem} | {step} | {loss:.4f} | {'' if ratio is None else f'{ratio:.3f}'} |")
        steps, total = steps + rows[-1]["step"], total + hours(rows)
    print(f"\n{steps} steps, {total:.1f} hours")
    if reasons:
        print(told)


if __name__ == "__main__":
    main()
