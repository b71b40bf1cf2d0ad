"""Every write to the study's database: each one short transaction, journalled and mirrored."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete, text
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


MAX_DRAFTS = 1000  # submissions of one page after which autosaves are refused, and twice as many after which all are


class Overtaken(Refused):
    """Something else was stored first; ``kind`` says what, for the count of refusals."""

    def __init__(self, kind: str, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind


class Store:
    """The database and its mirror.

    Args:
        folder: the study's folder, in which ``study.db`` is made.
        mirror: the mirror file; ``answers.jsonl`` in the folder where not given. Where only the mirror has raters, the
            database is rebuilt from it. A given one outlives the folder: nothing is acknowledged that it lacks.

    Raises:
        InputError: the folder or the database cannot be used.
    """

    def __init__(self, folder: Path, mirror: Path | None = None) -> None:
        path, self._lasting = folder / "study.db", mirror is not None
        mirror, new = mirror or folder / "answers.jsonl", not path.is_file()
        self._design: str | None = None
        self.database = Database(path)
        self.mirror = Mirror(mirror, self.database, folder / "answers.lock")
        try:
            entries = read_entries(mirror) if self._has_nobody() else []
            if any(entry["participant"] for entry in entries):
                self._restore(entries)
        except BaseException as error:
            self.close()
            for file in folder.glob("study.db*") if new else ():
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

    def join(self, external: Mapping[str, str], same: Collection[str] = ()) -> tuple[str, str]:
        """Adds a participant, or a further code of one who is here already.

        Args:
            external: query parameters to keep.
            same: names of those that name a person.

        Returns:
            Pseudonym and resume code.
        """
        now, code = time.time(), new_code()
        with self.database.write() as session:  # looked up here: a link opened twice at once is one person
            name = _known(session, {key: external[key] for key in same if key in external})
            if name is not None:
                self._add(session, name, "code", [Code(digest=code_digest(code), participant=name)])
            else:
                name = "p" + secrets.token_hex(6)
                rows: list[SQLModel] = [Participant(id=name, joined_at=now, seen_at=now)]
                rows.append(Code(digest=code_digest(code), participant=name))
                rows += [External(participant=name, name=key, value=value) for key, value in external.items()]
                self._add(session, name, "join", rows)
        self.mirror.follow()
        return name, code

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
            if person.consented_at is None:
                design = session.get(Meta, "design")
                if self._design is not None and (design is None or design.value != self._design):
                    raise Refused("This study was changed while it was open; whoever runs it has to start it again.")
                now = time.time()
                person.slot, person.consented_at, person.seen_at = _free_slot(session, abandoned_before), now, now
                session.add(person)
                session.flush()
                pages = [_page(participant, k, page) for k, page in enumerate(plan(person.slot))]
                self._add(session, participant, "consent", pages, slot=person.slot, at=now)
        self.mirror.follow(self._lasting)

    def answer(
        self,
        page: PlanPage,
        submission: Submission,
        cells: Sequence[tuple[str, str, str]],
        levels: int,
        draft: bool,
        back: bool = True,
    ) -> bool:
        """Stores a checked submission, exactly once per key.

        Args:
            page: the page that the token names.
            submission: already checked against the page.
            cells: (slot, row, method) of every cell of the page's grid.
            levels: highest score.
            draft: an autosave.
            back: whether a page may be changed after it was submitted.

        Returns:
            False where the key was stored before.

        Raises:
            Overtaken: the key was used for something else, or the page or the study was closed in the meantime.
            NotSaved: as `Database.write`.
        """  # fmt: skip
        content = [submission.token, dict(submission.scores), submission.comment, draft]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        with self.database.write() as session:
            known = session.exec(select(Answer).where(Answer.key == submission.key)).first()
            if known is not None and known.digest != digest:
                raise Overtaken("reused key", "This answer's number was already used for another answer; reload.")
            if known is None:
                _check_still_open(session, page, draft, back)
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
        self.mirror.follow(self._lasting)
        return known is None

    def finish(self, participant: str, code: str) -> str:
        """Notes that a rater has finished.

        Returns:
            The completion code: ``code``, or the one given before.
        """
        with self.database.write() as session:
            person = session.get(Participant, participant)
            if person is None:
                raise Refused("This study has no such participant any more.")
            if person.finished_at is None:
                person.finished_at = person.seen_at = time.time()
                person.completion = code
                session.add(person)
                self._note(session, participant, "finish", {"at": person.finished_at, "completion": code})
        self.mirror.follow(self._lasting)
        return person.completion or code

    def claim_design(self, digest: str) -> bool:
        """Ties the answers to a design; until somebody has agreed to take part it may still change.

        Returns:
            False where there are plans or answers of another design.
        """
        self._design = digest
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

    def _has_nobody(self) -> bool:
        with self.database.read() as session:
            return session.exec(select(Participant.id).limit(1)).first() is None

    def _restore(self, entries: Sequence[dict]) -> None:
        with self.database.write() as session:
            session.execute(delete(Journal))  # at most the design of an empty study
            session.execute(delete(Meta))
            for entry in entries:
                body = entry["body"]
                for table, values in body.get("rows", ()):
                    session.add(_TABLES[table].model_validate(values))
                    session.flush()
                person = session.get(Participant, entry["participant"])
                if person is not None and entry["kind"] == "consent":
                    person.slot, person.consented_at, person.seen_at = body["slot"], body["at"], body["at"]
                if person is not None and entry["kind"] == "answer":
                    person.seen_at = body["rows"][0][1]["at"]
                if person is not None and entry["kind"] == "finish":
                    person.finished_at = person.seen_at = body["at"]
                    person.completion = body["completion"]
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


def _known(session: Session, named: Mapping[str, str]) -> str | None:
    """The participant who came with one of these parameters before."""
    for name, value in named.items():
        query = select(External.participant).where(External.name == name, External.value == value)
        if (found := session.exec(query).first()) is not None:
            return found
    return None


def _check_still_open(session: Session, page: PlanPage, draft: bool, back: bool) -> None:
    """Refuses what was allowed when it was looked at and no longer is, and floods."""
    person = session.get(Participant, page.participant)
    if person is None or person.finished_at is not None:
        raise Overtaken("finished", "You have finished; answers can no longer be changed.")
    query = "SELECT count(*), coalesce(sum(NOT draft), 0) FROM answer WHERE token = :token"
    count, submitted = session.execute(text(query), {"token": page.token}).one()
    if submitted and not back:
        raise Overtaken("back", "This page is answered, and this study has no way back.")
    if count >= (MAX_DRAFTS if draft else 2 * MAX_DRAFTS):
        raise Overtaken("flood", f"This page was changed {count} times; go on with the next one.")


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
