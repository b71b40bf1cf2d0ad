"""Files of one JSON object a line that a slot adds to, log.jsonl and position.jsonl, and what of them a call goes on
from: a killed one leaves steps that are made again, and perhaps half a line."""

import json
import os
from pathlib import Path
from typing import Any


def append(path: Path, row: dict[str, Any], on_disk: bool = False) -> None:
    """Adds a line; with `on_disk` its bytes are there when this returns, which a checkpoint's position needs."""
    with path.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
        if on_disk:
            stream.flush()
            os.fsync(stream.fileno())


def read_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Rows up to a step, without lines that are not whole; none of a file that is not there."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            print(f"NOTE: a line of {path.name} that a killed call left half written is removed.", flush=True)
            continue
        if _step_of(row) <= step:
            rows.append(row)
    return rows


def cut_back(path: Path, step: int) -> None:
    """Removes lines of later steps, and lines that are not whole: the next line would be glued to one."""
    if not path.is_file():
        return
    part = path.with_suffix(".part")
    part.write_text("".join(json.dumps(row) + "\n" for row in read_until(path, step)))
    part.replace(path)


def _step_of(row: dict[str, Any]) -> int:
    """Steps made when a row was written; an evaluation holds them among its figures."""
    return row.get("evaluation", row).get("step", 0)
