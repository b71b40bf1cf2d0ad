"""The stored study held against what its raters know, read with sqlite3 and json and none of the study's own code."""

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from eval.study_load_rater import Ledger, Sent


@dataclass(frozen=True)
class Found:
    """One line of the report.

    Attributes:
        what: the promise.
        measured: how many cases were looked at.
        wrong: how many broke it.
    """

    what: str
    measured: int
    wrong: int


def compare(folder: Path, ledger: Ledger) -> list[Found]:
    """Compares a study folder, whose server has ended, with the raters' ledger.

    Args:
        folder: the study folder.
        ledger: of raters who have all returned.
    """
    with closing(sqlite3.connect(folder / "study.db")) as database:
        database.row_factory = sqlite3.Row
        answers = {row["key"]: row for row in database.execute("SELECT * FROM answer")}
        stored = database.execute("SELECT count(*) FROM answer").fetchone()[0]
        scores = _scores(database)
        owner = {row["token"]: row["participant"] for row in database.execute("SELECT token, participant FROM page")}
        raters = {row["digest"]: row["participant"] for row in database.execute("SELECT digest, participant FROM code")}
        people = {row["id"]: row for row in database.execute("SELECT * FROM participant")}
        damage = [row[0] for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"]
        damage += [str(tuple(row)) for row in database.execute("PRAGMA foreign_key_check")]
        newest = _newest(database)
        plan = _plan(database, folder)
    acknowledged = [sent for sent in ledger.sent if sent.acks]
    names = {code: raters.get(digest(code), "") for code in ledger.orders}

    def exact(sent: Sent) -> bool:
        row = answers.get(sent.key)
        return (
            row is not None
            and (row["token"], bool(row["draft"]), row["edit"]) == (sent.token, sent.draft, sent.edit)
            and scores.get(row["id"], {}) == sent.scores
            and owner[sent.token] == names[sent.code]
        )

    expected = _expected(ledger)
    finished = {code: people[name]["completion"] for code, name in names.items() if people[name]["finished_at"]}
    kept = Counter(_mirrored(folder / "answers.jsonl"))
    shown = {(names[code], index): page for code, order in ledger.orders.items() for index, page in order.items()}
    given = ledger.finished
    unsaid = answers.keys() - {sent.key for sent in ledger.sent}
    unlike = (kept - Counter(list(answers))) + (Counter(list(answers)) - kept)

    def once(sent: Sent) -> bool:
        # The first store may have happened on a try whose acknowledgement was lost; a second one never.
        return sum(sent.acks) == 1 or (sum(sent.acks) == 0 and sent.lost > 0)

    return [
        _count("acknowledged submissions stored as they were sent", acknowledged, exact),
        _count("acknowledged submissions stored once", acknowledged, once),
        Found("stored submissions that nobody sent", stored, len(unsaid)),
        Found("submissions never acknowledged", len(ledger.sent), len(ledger.sent) - len(acknowledged)),
        _count(
            "current answers that are the last ones given", expected, lambda page: newest.get(page) == expected[page]
        ),
        _count("pages shown as the stored plan says", shown, lambda page: plan.get(page) == shown[page]),
        _count("raters finished, with the code they were given", names, lambda c: finished.get(c, "") == given.get(c)),
        Found("submissions in the mirror, each once", stored, sum(unlike.values())),
        Found("database damaged", 1, len(damage)),
        Found("complaints of raters", len(ledger.orders), len(ledger.wrong)),
    ]


def digest(code: str) -> str:
    """What the database keeps of a resume code: SHA-256 without the dashes."""
    return hashlib.sha256(code.replace("-", "").encode()).hexdigest()


def _count(what: str, cases: Any, holds: Callable[[Any], bool]) -> Found:
    cases = list(cases)
    return Found(what, len(cases), sum(not holds(case) for case in cases))


def _scores(database: sqlite3.Connection) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for row in database.execute("SELECT answer, slot, row, score FROM score"):
        found.setdefault(row["answer"], {})[f"{row['slot']}/{row['row']}"] = row["score"]
    return found


def _newest(database: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Page token -> scores that count now, by the study's own view."""
    found: dict[str, dict[str, int]] = {}
    query = "SELECT a.token, s.slot, s.row, s.score FROM current_answer AS a JOIN score AS s ON s.answer = a.id"
    for row in database.execute(query):
        cells = found.setdefault(row["token"], {})
        assert f"{row['slot']}/{row['row']}" not in cells, "a page has two current answers"
        cells[f"{row['slot']}/{row['row']}"] = row["score"]
    return found


def _expected(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Page token -> scores that the rater gave last, by the order in which they were given."""
    last: dict[str, Sent] = {}
    for sent in ledger.sent:
        if not sent.draft and sent.acks and (sent.token not in last or sent.edit > last[sent.token].edit):
            last[sent.token] = sent
    return {token: sent.scores for token, sent in last.items()}


def _plan(database: sqlite3.Connection, folder: Path) -> dict[tuple[str, int], tuple]:
    """(participant, position) -> (token, reference, prompt, videos) by the stored plan and the study file."""
    study = yaml.safe_load((folder / "study.yaml").read_text())
    items = {item["id"]: item for item in study["items"]} | {
        e["id"]: e for e in study["practice"] if isinstance(e, dict)
    }
    anchors = {check["id"]: check["video"] for check in study["checks"]}
    found = {}
    for row in database.execute("SELECT * FROM page"):
        item = items[row["item"]]
        videos = [item["videos"][method] for method in row["methods"].split()] or [anchors[row["attention"]]]
        shown = (item["reference"].split("/")[-1], item["prompt"], *(video.split("/")[-1] for video in videos))
        found[row["participant"], row["position"]] = (row["token"], *shown)
    return found


def _mirrored(path: Path) -> list[str]:
    """Keys of the submissions in the mirror."""
    keys = []
    for line in path.read_text().splitlines():
        rows = json.loads(line)["body"].get("rows", ())
        keys += [values["key"] for table, values in rows if table == "answer"]
    return keys
