"""The load program, small: ten raters over HTTP, the server killed once."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from eval.study_load import run_load
from eval.study_load_rater import Habits, Ledger, Sent
from eval.study_load_truth import Found, compare, digest

pytestmark = pytest.mark.slow
BUSY = Habits(draft=0.5, twice=0.2, device=0.2, back=0.2, stale=0.2, pause_s=0.05)


def by_name(found: list[Found]) -> dict[str, int]:
    return {line.what: line.wrong for line in found}


def test_ten_raters_and_a_kill_lose_nothing_and_the_check_would_notice(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as thread:  # browser tests leave an event loop in this one
        run = thread.submit(run_load, tmp_path, 10, 1, 3, BUSY, 4, 3).result()
    assert run.holds, (run.found, run.ledger.wrong)
    (kill,) = run.kills
    assert kill.open > 0, "the server was killed while nothing was on its way"
    assert run.ledger.counts["requests without an answer"] > 0
    assert len(run.ledger.finished) == 10 and run.pages == 1 + 4 * 3 + 2 + 2
    for habit in ("double submits", "resumed by code", "changed earlier pages", "stale repeats"):
        assert run.ledger.counts[habit] > 0, f"nobody tried: {habit}"
    assert all(line.measured for line in run.found)
    _damaged_studies_are_noticed(tmp_path / "study", run.ledger)


def _damaged_studies_are_noticed(study: Path, ledger: Ledger) -> None:
    """Every kind of damage is found by its own line: a check that cannot fail would prove nothing."""
    first = ledger.sent[0]
    lost = Sent("00000000-0000-4000-8000-000000000000", first.code, first.token, 1, True, {}, acks=[True])
    ledger.sent.append(lost)
    assert by_name(compare(study, ledger))["acknowledged submissions stored as they were sent"] == 1
    ledger.sent.pop()
    final = next(sent for sent in reversed(ledger.sent) if not sent.draft and any(sent.acks))
    final.acks.append(True)
    assert by_name(compare(study, ledger))["acknowledged submissions stored once"] == 1
    final.acks.pop()
    row, score = next(iter(final.scores.items()))
    final.scores[row] = score % 5 + 1
    found = by_name(compare(study, ledger))
    assert found["acknowledged submissions stored as they were sent"] == 1
    assert found["current answers that are the last ones given"] == 1
    final.scores[row] = score
    assert by_name(compare(study, ledger)).keys() and not any(by_name(compare(study, ledger)).values())
    with closing(sqlite3.connect(study / "study.db")) as database:  # two pages of a rater change places
        rater = database.execute("SELECT participant FROM code WHERE digest = ?", [digest(final.code)]).fetchone()
        for old, new in ((1, 1000), (2, 1), (1000, 2)):
            database.execute("UPDATE page SET position = ? WHERE participant = ? AND position = ?", [new, *rater, old])
        database.commit()
    assert by_name(compare(study, ledger))["pages shown as the stored plan says"] == 2
    lines = (study / "answers.jsonl").read_text().splitlines(keepends=True)
    answer = next(line for line in lines if '"kind":"answer"' in line)
    (study / "answers.jsonl").write_text("".join([*lines, answer]))
    assert by_name(compare(study, ledger))["submissions in the mirror, each once"] == 1
