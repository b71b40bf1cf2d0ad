"""Every write to the study's database: each one short transaction, journalled and mirrored."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, SQLModel, col, select

from studio.study.contract import Refused, Submission
from studio.study.database import Database
from studio.study.mirror import Mirror, read_entries
from studio.study.models import Answer, Code, Event, External, Journal, Meta, Participant, PlanPage, Score
from studio.study.plan import Planned
from t4d.errors import InputError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no letter that is read as a digit
_TABLES: dict[str, type[SQLModel]] = {
    "participant": Participant,
    "code": Code,
    "external": External,
    "page": PlanPage,
    "answer": Answer,
    "score": Score,
}


class Store:
    """The database and its mirror.

    Args:
        folder: the study's folder, in which ``study.db`` is made.
        mirror: the mirror file; ``answers.jsonl`` in the folder where not given. Where only the mirror is left, the
            database is rebuilt from it.

    Raises:
        InputError: the folder or the database cannot be used.
    """

    def __init__(self, folder: Path, mirror: Path | None = None) -> None:
        path, mirror = folder / "study.db", mirror or folder / "answers.jsonl"
        entries = [] if path.is_file() else read_entries(mirror)
        self.database = Database(path)
        self.mirror = Mirror(mirror, self.database, folder / "answers.lock")
        try:
            if entries:
                self._restore(entries)
        except BaseException as error:
            self.close()
            for file in folder.glob("study.db*"):  # made a moment ago
                file.unlink()
            if isinstance(error, ValueError | KeyError | TypeError | IntegrityError):
                raise InputError(
                    f"{mirror} does not hold a study's answers ({type(error).__name__}); put the newest copy from "
                    f"backups/ in place of {path.name}, or move the file away."
                ) from error
            raise
        self.mirror.rebuild()

    def read(self):
        """`Database.read`."""
        return self.database.read()

    def join(self, external: Mapping[str, str]) -> tuple[str, str]:
        """Adds a participant.

        Returns:
            Pseudonym and resume code.
        """
        now, code, name = time.time(), new_code(), "p" + secrets.token_hex(6)
        rows: list[SQLModel] = [Participant(id=name, joined_at=now, seen_at=now)]
        rows.append(Code(digest=code_digest(code), participant=name))
        rows += [External(participant=name, name=key, value=value) for key, value in external.items()]
        with self.database.write() as session:
            self._add(session, name, "join", rows)
        self.mirror.follow()
        return name, code

    def add_code(self, participant: str) -> str:
        """A further resume code of a participant."""
        code = new_code()
        with self.database.write() as session:
            self._add(session, participant, "code", [Code(digest=code_digest(code), participant=participant)])
        self.mirror.follow()
        return code

    def consent(self, participant: str, plan: Callable[[int], Sequence[Planned]], abandoned_before: float) -> None:
        """Notes the consent and fixes the plan; does nothing where that was done before.

        Args:
            participant: pseudonym.
            plan: number of a plan -> its pages.
            abandoned_before: who is not finished and was last seen before this time does not hold a plan.
        """
        with self.database.write() as session:
            person = session.get(Participant, participant)
            if person is None:
                raise Refused("This study has no such participant any more; begin anew.")
            if person.consented_at is not None:
                return
            now = time.time()
            person.slot, person.consented_at, person.seen_at = _free_slot(session, abandoned_before), now, now
            session.add(person)
            session.flush()
            pages = [_page(participant, k, page) for k, page in enumerate(plan(person.slot))]
            self._add(session, participant, "consent", pages, slot=person.slot, at=now)
        self.mirror.follow()

    def answer(
        self, page: PlanPage, submission: Submission, cells: Sequence[tuple[str, str, str]], levels: int, draft: bool
    ) -> bool:
        """Stores a checked submission, exactly once per key.

        Args:
            page: the page that the token names.
            submission: already checked against the page.
            cells: (slot, row, method) of every cell of the page's grid.
            levels: highest score.
            draft: an autosave.

        Returns:
            False where the key was stored before.

        Raises:
            Refused: the key was used for something else.
            NotSaved: as `Database.write`.
        """
        content = [submission.token, dict(submission.scores), submission.comment, draft]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        with self.database.write() as session:
            known = session.exec(select(Answer).where(Answer.key == submission.key)).first()
            if known is not None:
                if known.digest != digest:
                    raise Refused("This answer's number was already used for another answer; reload the page.")
                return False
            now = time.time()
            answer = Answer(
                key=submission.key, token=page.token, at=now, draft=draft, edit=submission.edit, digest=digest,
                complete=len(submission.scores) == len(cells), comment=submission.comment,
                watched_s=submission.watched_s, page_s=submission.page_s,
            )  # fmt: skip
            session.add(answer)
            session.flush()
            scores: list[SQLModel] = [
                Score(answer=answer.id or 0, slot=slot, row=row, method=method, levels=levels,
                      score=submission.scores[f"{slot}/{row}"])
                for slot, row, method in cells
                if f"{slot}/{row}" in submission.scores
            ]  # fmt: skip
            session.execute(
                text("UPDATE participant SET seen_at = :at WHERE id = :id"), {"at": now, "id": page.participant}
            )
            self._add(session, page.participant, "answer", [answer, *scores])
        self.mirror.follow()
        return True

    def finish(self, participant: str, code: str) -> str:
        """Notes that a rater has finished.

        Returns:
            The completion code: ``code``, or the one given before.
        """
        with self.database.write() as session:
            person = session.get(Participant, participant)
            if person is None:
                raise Refused("This study has no such participant any more.")
            if person.finished_at is not None:
                return person.completion or code
            person.finished_at = person.seen_at = time.time()
            person.completion = code
            session.add(person)
            self._note(session, participant, "finish", {"at": person.finished_at, "completion": code})
        self.mirror.follow()
        return code

    def claim_design(self, digest: str) -> bool:
        """Ties the answers to a design; until somebody has agreed to take part it may still change.

        Returns:
            False where there are plans or answers of another design.
        """
        with self.database.read() as session:
            if (found := session.get(Meta, "design")) is not None and found.value == digest:
                return True
        with self.database.write() as session:
            found = session.get(Meta, "design") or Meta(key="design", value=digest)
            begun = session.exec(select(PlanPage.token).limit(1)).first() is not None
            if begun and found.value != digest:
                return False
            found.value = digest
            session.add(found)
            self._note(session, "", "meta", {"key": "design", "value": digest})
        self.mirror.follow()
        return True

    def refused(self, kind: str, participant: str, detail: str) -> None:
        """Counts a refused request; ``detail`` is the sentence of the newest one."""
        now = time.time()
        with self.database.write() as session:
            event = session.get(Event, (kind, participant))
            event = event or Event(kind=kind, participant=participant, count=0, first_at=now, last_at=now, detail="")
            event.count, event.last_at, event.detail = event.count + 1, now, detail[:300]
            session.add(event)

    def close(self) -> None:
        """Closes the database."""
        self.database.close()

    def _add(self, session: Session, participant: str, kind: str, rows: Sequence[SQLModel], **facts: Any) -> None:
        """Adds rows and journals them as they are."""
        for row in rows:
            session.add(row)
            session.flush()
        tables = {kind.__tablename__: name for name, kind in _TABLES.items()}
        body = [[tables[type(row).__tablename__], row.model_dump()] for row in rows]
        self._note(session, participant, kind, {**facts, "rows": body})

    def _note(self, session: Session, participant: str, kind: str, body: dict) -> None:
        session.add(Journal(participant=participant, kind=kind, body=json.dumps(body, ensure_ascii=False)))
        session.flush()

    def _restore(self, entries: Sequence[dict]) -> None:
        with self.database.write() as session:
            for entry in entries:
                body = entry["body"]
                for table, values in body.get("rows", ()):
                    session.add(_TABLES[table].model_validate(values))
                    session.flush()
                person = session.get(Participant, entry["participant"])
                if person is not None and entry["kind"] == "consent":
                    person.slot, person.consented_at, person.seen_at = body["slot"], body["at"], body["at"]
                if person is not None and entry["kind"] == "finish":
                    person.finished_at, person.completion = body["at"], body["completion"]
                if entry["kind"] == "meta":
                    session.merge(Meta(key=body["key"], value=body["value"]))
                session.add(Journal(**{**entry, "body": json.dumps(body, ensure_ascii=False)}))
                session.flush()


def has_begun(folder: Path) -> bool:
    """Whether anybody agreed to take part in the study of this folder, by its database or, without one, its mirror.

    Raises:
        InputError: the database cannot be read.
    """
    path = folder / "study.db"
    if not path.is_file():
        return any(entry["kind"] == "consent" for entry in read_entries(folder / "answers.jsonl"))
    database = Database(path)
    try:
        with database.read() as session:
            return session.exec(select(PlanPage.token).limit(1)).first() is not None
    finally:
        database.close()


def _page(participant: str, position: int, page: Planned) -> PlanPage:
    return PlanPage(
        token=secrets.token_urlsafe(12),
        participant=participant,
        position=position,
        kind=page.kind,
        item=page.item,
        methods=" ".join(page.methods),
        title=page.title,
        result=page.result,
        attention=page.check,
        repeat_of=page.repeat_of,
    )


def new_code() -> str:
    """A resume code: 100 random bits in four groups that can be read aloud."""
    letters = [secrets.choice(_ALPHABET) for _ in range(20)]
    return "-".join("".join(letters[k : k + 5]) for k in range(0, 20, 5))


def code_digest(code: str) -> str:
    """What is stored of a resume code. 100 random bits need no salt and no slow hash."""
    plain = code.strip().lower().translate(str.maketrans("oil", "011", "- "))
    return hashlib.sha256(plain.encode()).hexdigest()


def _free_slot(session: Session, abandoned_before: float) -> int:
    """The lowest plan number that nobody holds: erased raters and those who gave up free theirs."""
    held = session.exec(
        select(Participant.slot).where(
            col(Participant.slot).is_not(None),
            col(Participant.finished_at).is_not(None) | (col(Participant.seen_at) >= abandoned_before),
        )
    ).all()
    taken = set(held)
    return next(number for number in range(len(taken) + 1) if number not in taken)
