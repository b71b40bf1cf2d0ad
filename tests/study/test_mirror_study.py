"""What outlives a database, in which nothing may be lost, and what an erased participant leaves, which is nothing."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from study_rating import begin, rate_all, submission

from studio.study import mirror as mirror_module
from studio.study import store as store_module
from studio.study.contract import NotSaved
from studio.study.database import Database
from studio.study.service import StudyService
from studio.study.store import Store


def kinds(mirror: Path) -> list[str]:
    """Kinds of the mirror's entries; each must have its own number, in order."""
    entries = [json.loads(line) for line in mirror.read_text().splitlines()]
    assert [entry["n"] for entry in entries] == sorted({entry["n"] for entry in entries})
    return [entry["kind"] for entry in entries]


def test_the_mirror_goes_on_after_a_plan_of_many_pages(study_folder):
    folder = study_folder(items=220, methods=tuple(f"method{k}" for k in range(4)))
    service, other = StudyService(folder), Store(folder)
    begin(service)
    lines = (folder / "answers.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines[-1]) > 2 * mirror_module._TAIL
    other.join({})  # another process, which has to find the end of what this one wrote
    assert kinds(folder / "answers.jsonl") == ["meta", "join", "consent", "join"]
    begin(service)
    whole = (folder / "answers.jsonl").read_bytes()
    (folder / "answers.jsonl").write_bytes(whole[:-20])  # a process died while it wrote the long line
    other.join({})
    assert (folder / "answers.jsonl").read_bytes().startswith(whole)
    assert kinds(folder / "answers.jsonl")[-3:] == ["join", "consent", "join"]
    other.close()
    service.close()


@pytest.mark.parametrize("left", ["an empty file", "empty tables", "a study nobody had joined"])
def test_a_database_without_raters_does_not_stand_above_a_mirror_with_some(study_folder, left):
    folder = study_folder(items=1)
    service = StudyService(folder)
    code = begin(service)
    rate_all(service, code)
    rows, mirrored = service.rows(), (folder / "answers.jsonl").read_bytes()
    service.close()
    for file in folder.glob("study.db*"):
        file.unlink()
    if left == "an empty file":  # the process that was restoring it was killed
        (folder / "study.db").touch()
    elif left == "empty tables":
        Database(folder / "study.db").close()
    else:  # made where the kept mirror was not at hand, as while an image is built
        (folder / "answers.jsonl").unlink()
        StudyService(folder).close()
        (folder / "answers.jsonl").write_bytes(mirrored)
    again = StudyService(folder)
    assert again.rows() == rows and again.join(code).phase == "done"
    assert (folder / "answers.jsonl").read_bytes() == mirrored
    again.close()


def test_a_restored_rater_was_last_seen_when_answering(study_folder, monkeypatch):
    folder = study_folder(items=1, abandon_after_h=1.0)
    service = StudyService(folder)
    now = store_module.time.time()
    monkeypatch.setattr(store_module.time, "time", lambda: now - 7200)
    code = begin(service)
    monkeypatch.setattr(store_module.time, "time", lambda: now - 60)
    service.answer(code, submission(service.page(code)))
    rater = service.join(code).number
    person = service.export(rater)["participant"]
    service.close()
    for file in folder.glob("study.db*"):
        file.unlink()
    again = StudyService(folder)
    assert again.export(rater)["participant"] == person
    assert again.export(again.join(begin(again)).number)["participant"]["slot"] == 1, "the plan is still held"
    again.close()


def test_a_mirror_that_lasts_has_what_is_acknowledged(study_folder, tmp_path):
    folder, home = study_folder(items=1), tmp_path / "lasting"
    home.mkdir()
    mirror = home / "answers.jsonl"
    service = StudyService(folder, mirror)
    code = begin(service)
    mirror.rename(home / "aside")
    mirror.mkdir()  # nothing can be written there
    sent = submission(service.page(code))
    for _ in range(2):
        with pytest.raises(NotSaved, match=r"could not be saved .* stay on this page"):
            service.answer(code, sent)
    mirror.rmdir()
    (home / "aside").rename(mirror)
    assert not service.answer(code, sent).stored, "the database had it all the time"
    assert kinds(mirror) == ["meta", "join", "consent", "answer"]
    service.close()


def test_there_is_a_mirror_at_every_moment(study_folder, monkeypatch):
    folder = study_folder(items=1)
    service = StudyService(folder)
    begin(service)
    service.close()
    mirror = folder / "answers.jsonl"
    torn = mirror.read_bytes()[:-20]
    mirror.write_bytes(torn)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mirror_module.os, "fsync", full)
    StudyService(folder).close()
    assert mirror.read_bytes() == torn
    monkeypatch.undo()
    StudyService(folder).close()
    assert kinds(mirror) == ["meta", "join", "consent"]


def test_erasing_says_so_where_the_mirror_cannot_be_changed(study_folder, monkeypatch):
    folder = study_folder(items=1)
    service = StudyService(folder)
    rater = service.join(begin(service, PROLIFIC_PID="person0")).number
    blocked = folder / "answers.part"
    blocked.mkdir()
    with pytest.raises(NotSaved, match=r"could not be erased from answers\.jsonl"):
        service.erase(rater)
    assert service.export(rater)["participant"]["id"] == rater, "erasing can be repeated"
    blocked.rmdir()
    service.erase(rater)
    assert "person0" not in (folder / "answers.jsonl").read_text()
    service.close()


def test_erasing_reaches_the_backup_of_a_killed_process(study_folder):
    folder = study_folder(items=1)
    service = StudyService(folder)
    rater = service.join(begin(service, PROLIFIC_PID="person0")).number
    made = service.backup()
    made.rename(made.with_suffix(".part"))
    service.erase(rater)
    assert list(made.parent.iterdir()) == []
    service.close()


def test_only_the_owner_reads_the_database(study_folder):
    folder = study_folder(items=1)
    service = StudyService(folder)
    begin(service, PROLIFIC_PID="person0")
    private = [path for path in folder.iterdir() if path.name.startswith(("study.db", "answers.jsonl"))]
    assert len(private) >= 2 and {path.stat().st_mode & 0o077 for path in private} == {0}
    service.close()
    with closing(sqlite3.connect(folder / "study.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
