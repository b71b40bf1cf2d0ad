"""The database and its mirror: what is stored stays stored, and nothing else does."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest
from study_rating import begin, rate_all, submission

from studio.study import database
from studio.study.contract import NotSaved, Refused
from studio.study.service import StudyService
from studio.study.store import Store
from t4d.errors import InputError


@pytest.fixture
def filled(study_folder):
    """A folder with two finished raters, and the service on it."""
    folder = study_folder(items=1, methods=("a", "b"))
    service = StudyService(folder)
    codes = [begin(service, PROLIFIC_PID=f"person{k}") for k in range(2)]
    for k, code in enumerate(codes):
        rate_all(service, code, lambda page, k=k: 2 + k)
        service.finish(code)
    yield folder, service, codes
    service.close()


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


def raw(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "study.db")


def test_answers_cannot_be_changed_or_deleted(filled):
    folder, service, _ = filled
    before = service.rows()
    with closing(raw(folder)) as connection:
        for statement in (
            "UPDATE score SET score = 5",
            "UPDATE answer SET draft = 1",
            "DELETE FROM score",
            "DELETE FROM answer",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="answers are never"):
                connection.execute(statement)
        connection.rollback()
    assert service.rows() == before


def test_the_database_itself_refuses_impossible_rows(filled):
    folder, _, _ = filled
    with closing(raw(folder)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        key, token = connection.execute("SELECT key, token FROM answer").fetchone()
        answer = "INSERT INTO answer (key, token, at, draft, complete, edit, digest, comment, watched_s, page_s) VALUES"
        score = "INSERT INTO score VALUES"
        for statement in (
            f"{score} (1, 'Z', 'r', 'm', 0, 5)",
            f"{score} (1, 'Z', 'r', 'm', 6, 5)",
            f"{score} (1, 'Z', 'r', 'm', 2.5, 5)",
            f"{score} (1, 'Z', 'r', 'm', '5; DROP TABLE answer', 5)",
            f"{score} (999, 'Z', 'r', 'm', 3, 5)",
            f"{answer} ('{key}', '{token}', 0, 0, 1, 0, '', '', 0, 0)",
            f"{answer} ('new', 'no such page', 0, 0, 1, 0, '', '', 0, 0)",
            f"{answer} ('new', '{token}', 0, 0, 0, 0, '', '', 0, 0)",
            f"{answer} ('new', '{token}', 0, 0, 1, 0, '', '{'x' * 2001}', 0, 0)",
        ):
            with pytest.raises(sqlite3.IntegrityError):
                connection.execute(statement)
        connection.execute(f"{answer} ('new', '{token}', 0, 0, 1, 0, '', 'fine', 0, 0)")  # the form is right
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_the_mirror_has_every_change_in_order(filled):
    folder, service, _ = filled
    entries = lines(folder)
    assert [entry["n"] for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry["kind"] for entry in entries] == ["meta"] + ["join", "consent"] * 2 + (
        ["answer"] * 2 + ["finish"]
    ) * 2
    scores = [row for entry in entries for table, row in entry["body"].get("rows", ()) if table == "score"]
    assert sorted(row["score"] for row in scores) == sorted(row["score"] for row in service.rows())
    assert (folder / "answers.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["short", "torn", "foreign", "gone", "reordered"])
def test_a_damaged_mirror_is_rebuilt_from_the_database(filled, damage):
    folder, service, codes = filled
    mirror = folder / "answers.jsonl"
    whole = mirror.read_bytes()
    service.close()
    rows = whole.splitlines(keepends=True)
    broken = {
        "short": b"".join(rows[:4]),
        "torn": whole[:-20],
        "foreign": whole + b'{"n":99}\n',
        "reordered": b"".join(rows[::-1]),
    }
    mirror.unlink()
    if damage != "gone":
        mirror.write_bytes(broken[damage])
    again = StudyService(folder)
    assert mirror.read_bytes() == whole
    kept = [path.read_bytes() for path in folder.glob("answers-*.jsonl")]
    assert kept == ([] if damage in ("gone", "short") else [broken[damage]])  # nothing is thrown away
    begin(again)
    assert lines(folder)[-1]["kind"] == "consent" and mirror.read_bytes().startswith(whole)
    assert again.join(codes[0]).phase == "done"
    again.close()


def test_two_processes_write_one_database_and_one_mirror(filled):
    folder, service, _ = filled
    other = Store(folder)  # the studio's "rate here" beside the served study
    for k in range(4):
        (service.store if k % 2 else other).join({})
    assert [entry["n"] for entry in lines(folder)] == list(range(1, len(lines(folder)) + 1))
    assert [entry["kind"] for entry in lines(folder)][-4:] == ["join"] * 4
    other.close()


def test_a_lost_database_is_rebuilt_from_the_mirror(filled):
    folder, service, codes = filled
    third = begin(service)
    service.answer(third, submission(service.page(third), {"A/motion": 4}), draft=True)
    page = service.page(third)
    rows, flags, people = service.rows(), service.flags(), service.counts()
    service.close()
    for file in folder.glob("study.db*"):
        file.unlink()
    again = StudyService(folder)
    assert (again.rows(), again.flags(), again.counts()) == (rows, flags, people)
    assert again.page(third) == page and again.finish(codes[0]).code
    assert again.join(external={"PROLIFIC_PID": "person1"}).phase == "done"
    rate_all(again, third)
    again.close()


def test_backups_are_whole_private_and_never_overwritten(filled, monkeypatch):
    folder, service, codes = filled
    first = service.backup()
    rate_all(service, begin(service))
    second = service.backup()
    assert first != second and first.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(first)) as old, closing(sqlite3.connect(second)) as new:
        assert old.execute("SELECT count(*) FROM current_answer").fetchone() == (4,)
        assert new.execute("SELECT count(*) FROM current_answer").fetchone() == (6,)
    with pytest.raises(NotSaved, match="could not be written"):
        service.store.database.backup(first)
    assert sorted(path.name for path in first.parent.iterdir()) == sorted({first.name, second.name})
    rows = service.rows()
    service.close()
    for file in folder.glob("study.db*"):
        file.unlink()
    (folder / "answers.jsonl").unlink()
    second.rename(folder / "study.db")
    again = StudyService(folder)
    assert again.rows() == rows and again.join(codes[0]).phase == "done"
    again.close()


def test_an_erased_participant_leaves_no_trace_in_any_file(filled):
    folder, service, codes = filled
    service.backup()
    (folder / "answers-20260101-000000-abcdef.jsonl").write_bytes((folder / "answers.jsonl").read_bytes())
    gone, kept = [row["rater"] for row in service.rows() if row["criterion"] == "motion"][::2]
    rows = service.rows()
    service.erase(gone)
    assert service.rows() == [row for row in rows if row["rater"] == kept]
    service.backup()
    traces = [gone.encode(), b"person0"]
    for file in (path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        assert not any(trace in content for trace in traces), file
    with pytest.raises(Refused, match="not known here"):
        service.join(codes[0])
    assert service.join(codes[1]).phase == "done"
    with pytest.raises(Refused, match="no participant of that name"):
        service.erase(gone)
    with pytest.raises(Refused, match="no participant of that name"):
        service.export(gone)
    service.close()
    again = StudyService(folder)  # the mirror, too, is as if the participant had never been
    assert len(again.rows()) == len(rows) // 2
    again.close()


def test_a_killed_process_loses_nothing_it_acknowledged(study_folder):
    folder = study_folder(items=8)
    program = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        from study_rating import begin, submission
        from studio.study.service import StudyService
        service = StudyService(Path(sys.argv[1]))
        code = begin(service)
        print(code, flush=True)
        while True:
            sent = submission(service.page(code))
            service.answer(code, sent)
            print(sent.key, flush=True)
        """
    )
    arguments = [sys.executable, "-c", program, str(folder), str(Path(__file__).parent)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    code = process.stdout.readline().strip()
    told = [process.stdout.readline().strip() for _ in range(5)]
    os.kill(process.pid, signal.SIGKILL)
    told += process.stdout.read().split()
    process.wait()
    service = StudyService(folder)
    with closing(raw(folder)) as connection:
        stored = [key for (key,) in connection.execute("SELECT key FROM answer ORDER BY id")]
    assert stored[: len(told)] == told and len(stored) - len(told) <= 1
    assert service.join(code).page == len(stored)
    assert sum(entry["kind"] == "answer" for entry in lines(folder)) == len(stored)
    service.close()


def test_a_failed_write_leaves_nothing_and_can_be_repeated(filled, monkeypatch):
    folder, service, _ = filled
    code = begin(service)
    sent = submission(service.page(code))
    before = service.counts()["submissions"]
    blocker = raw(folder)
    blocker.execute("PRAGMA busy_timeout = 0")
    blocker.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(database, "BUSY_S", 0.05)
    service.store.database.close()  # connections made from now on wait that long
    with pytest.raises(NotSaved, match=r"could not be saved \(database is locked\); they stay on this page"):
        service.answer(code, sent)
    assert service.counts()["submissions"] == before
    blocker.rollback()
    blocker.close()
    assert service.answer(code, sent).stored and not service.answer(code, sent).stored


def test_a_broken_mirror_does_not_stop_the_study(filled, caplog):
    folder, service, _ = filled
    (folder / "answers.jsonl").unlink()
    (folder / "answers.jsonl").mkdir()
    code = begin(service)
    assert service.answer(code, submission(service.page(code))).stored
    assert "answers.jsonl could not be written" in caplog.text
    (folder / "answers.jsonl").rmdir()
    service.answer(code, submission(service.page(code)))
    assert [entry["n"] for entry in lines(folder)] == list(range(1, len(lines(folder)) + 1))
    assert [entry["kind"] for entry in lines(folder)][-3:] == ["consent", "answer", "answer"]


def test_an_older_database_is_migrated_after_a_backup(filled, monkeypatch):
    folder, service, _ = filled
    rows = service.rows()
    service.close()
    monkeypatch.setattr(database, "SCHEMA_VERSION", 3)
    steps = {1: ("CREATE TABLE first (a)", "INSERT INTO first VALUES (7)"), 2: ("ALTER TABLE first ADD COLUMN b",)}
    monkeypatch.setattr(database, "MIGRATIONS", steps)
    again = StudyService(folder)
    assert again.rows() == rows
    again.close()
    with closing(raw(folder)) as connection:
        assert connection.execute("SELECT a, b FROM first").fetchall() == [(7, None)]
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
    (copy,) = (folder / "backups").glob("*.db")
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    monkeypatch.setattr(database, "SCHEMA_VERSION", 4)
    monkeypatch.setattr(database, "MIGRATIONS", {3: ("CREATE TABLE second (a)", "CREATE TABLE first (b)")})
    with pytest.raises(InputError, match="cannot be used as the study's database"):
        StudyService(folder)
    with closing(raw(folder)) as connection:  # all of a migration or nothing
        assert connection.execute("PRAGMA user_version").fetchone() == (3,)
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'second'").fetchall()


def test_a_newer_or_foreign_file_is_refused_and_left_alone(study_folder):
    folder = study_folder()
    with closing(raw(folder)) as connection:
        connection.execute("PRAGMA user_version = 77")
        connection.execute("CREATE TABLE anything (a)")
    with pytest.raises(InputError, match="schema version 77, this program knows 1"):
        StudyService(folder)
    other = study_folder()
    (other / "study.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match="cannot be used as the study's database"):
        StudyService(other)
    assert (other / "study.db").read_bytes() == b"not a database at all" * 100
