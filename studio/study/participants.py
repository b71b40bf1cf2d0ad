"""One participant's rights: seeing what is stored and having it deleted. And the list that payments need."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlmodel import Session, col, select

from studio.study.contract import NotSaved, Refused
from studio.study.models import External, Participant
from studio.study.store import Store

# Rows that hang on others first: foreign keys are checked at every statement.
_ERASE = (
    "UPDATE participant SET erasing = 1 WHERE id = :id",
    "DELETE FROM score WHERE answer IN (SELECT answer.id FROM answer JOIN page USING (token) WHERE participant = :id)",
    "DELETE FROM answer WHERE token IN (SELECT token FROM page WHERE participant = :id)",
    "DELETE FROM page WHERE participant = :id",
    "DELETE FROM external WHERE participant = :id",
    "DELETE FROM code WHERE participant = :id",
    "DELETE FROM event WHERE participant = :id",
    "DELETE FROM journal WHERE participant = :id",
    "DELETE FROM participant WHERE id = :id",
)


def listing(session: Session) -> list[dict[str, Any]]:
    """Participants with their completion codes and recruiting parameters, for paying them; nothing about ratings."""
    external: dict[str, dict[str, str]] = {}
    for row in session.exec(select(External).order_by(col(External.id))):
        external.setdefault(row.participant, {})[row.name] = row.value
    names = dict.fromkeys(name for given in external.values() for name in given)  # a table has the same cells in a row
    people = session.exec(select(Participant).order_by(col(Participant.joined_at)))
    return [
        {
            "rater": person.id,
            "consented": person.consented_at is not None,
            "finished": person.finished_at is not None,
            "completion": person.completion or "",
            **{name: external.get(person.id, {}).get(name, "") for name in names},
        }
        for person in people
    ]


def export(session: Session, participant: str) -> dict[str, Any]:
    """Everything stored about one participant, history of answers included.

    Raises:
        Refused: there is no such participant.
    """
    person = session.get(Participant, participant)
    if person is None:
        raise Refused("This study has no participant of that name; names look like p0123456789ab.")
    found: dict[str, Any] = {"participant": person.model_dump(exclude={"erasing"})}
    mine = "FROM answer JOIN page USING (token) WHERE participant = :id"
    queries = {
        "external": "SELECT name, value FROM external WHERE participant = :id",
        "pages": "SELECT position, kind, item, methods, title, result FROM page WHERE participant = :id ORDER BY 1",
        "answers": f"SELECT answer.id, position, at, draft, comment, watched_s, page_s {mine} ORDER BY answer.id",
        "scores": f"SELECT * FROM score WHERE answer IN (SELECT answer.id {mine}) ORDER BY answer, slot, row",
        "refused": "SELECT kind, count, detail FROM event WHERE participant = :id",
    }
    for name, query in queries.items():
        found[name] = [dict(row) for row in session.execute(text(query), {"id": participant}).mappings()]
    return found


def erase(store: Store, participant: str, backups: Path) -> None:
    """Deletes one participant from the database, its free pages, the mirror and every backup in the folder.

    The plan number becomes free, so that the next rater restores the balance.

    Raises:
        Refused: there is no such participant.
        NotSaved: a file could not be changed; erase again when it can.
    """
    with store.read() as session:
        if session.get(Participant, participant) is None:
            raise Refused("This study has no participant of that name; names look like p0123456789ab.")
    for unfinished in backups.glob("*.part"):  # of a process that was killed
        unfinished.unlink(missing_ok=True)
    for copy in sorted(backups.glob("*.db")):
        try:
            with closing(sqlite3.connect(copy)) as connection:
                connection.execute("PRAGMA secure_delete = ON")
                with connection:
                    for statement in _ERASE:
                        connection.execute(statement, {"id": participant})
                connection.execute("VACUUM")
        except sqlite3.Error as error:
            raise NotSaved(
                f"The participant could not be erased from the backup {copy.name} ({error}), so nothing was erased; "
                "make that file writable or delete it, and try again."
            ) from error
    try:
        store.mirror.forget(participant)
    except OSError as error:
        raise NotSaved(
            f"The participant could not be erased from answers.jsonl ({error.strerror or error}), and is still in the "
            "database; make the file and its folder writable, and try again."
        ) from error
    with store.database.write() as session:
        for statement in _ERASE:
            session.execute(text(statement), {"id": participant})
    try:
        store.mirror.forgotten()
    except OSError as error:
        raise NotSaved(
            "The participant is erased from the database, but perhaps not from answers.jsonl "
            f"({error.strerror or error}); delete that file and start the study again, which writes it anew."
        ) from error
    store.database.truncate_log()
