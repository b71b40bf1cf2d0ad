"""One running study: what its page, its admin view and its programs ask for. No widgets, no torch."""

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import text
from sqlmodel import Session, select

from studio.study import export, flags, participants
from studio.study.contract import Ack, Finished, NotSaved, Page, Rater, Refused, Submission
from studio.study.folder import MEDIA_NAME, read_study
from studio.study.grid import Grid
from studio.study.models import Answer, Code, External, Participant, PlanPage
from studio.study.plan import Planner
from studio.study.schema import StudyFile
from studio.study.store import Overtaken, Store, code_digest
from studio.study.submission import check_content, check_form, usable_parameters
from t4d.errors import InputError

_LOG = logging.getLogger(__name__)
# New raters leave this much of the disk free, or this share of a small one, so that who has begun can finish.
ROOM_BYTES, ROOM_SHARE = 200 * 2**20, 0.05
_NO_SUCH_PAGE = "This study has no such page for you; go back to the study's first page."


class StudyService:
    """A prepared study folder with its database. Safe to call from several threads; several processes may open it.

    Args:
        folder: made by ``python -m studio.study check`` (`studio.study.media.prepare`).
        mirror: the mirror file; ``answers.jsonl`` in the folder where not given. Elsewhere, say on a persistent disk,
            it outlives the folder: a missing database is rebuilt from it.

    Raises:
        InputError: not a prepared study, or its answers belong to another design.
    """

    def __init__(self, folder: Path, mirror: Path | None = None) -> None:
        self.folder = Path(folder).resolve()
        self.media = self.folder / "media"
        self.study: StudyFile = read_study(self.folder / "study.yaml")
        self._grid = Grid(self.study)
        for path in self.media_paths():
            if not MEDIA_NAME.fullmatch(path):
                raise InputError(
                    f"{self.folder} is not a prepared study ('{path[:80]}' is not one of its media files); make it "
                    "with: python -m studio.study check STUDY.yaml"
                )
        self._planner = Planner(self.study)
        self._backing_up = threading.Lock()
        self.store = Store(self.folder, mirror)
        if not self.store.claim_design(self.study.design_digest()):
            self.close()
            raise InputError(
                f"The answers in {self.folder} belong to another design (items, methods, criteria, order or rules have "
                "changed since); prepare the changed study in a folder of its own."
            )

    def media_paths(self) -> list[str]:
        """``media/...`` of everything that may be shown."""
        return self._grid.media_paths()

    def join(self, code: str | None = None, external: Mapping[str, str] | None = None) -> Rater:
        """Begins, or goes on where a code or a recruiting service's participant was before.

        Args:
            code: resume code; None for someone new.
            external: query parameters of the address; only those the study names are kept.

        Raises:
            Refused: unknown code, study closed, or a recruiting service's preview.
            NotSaved: the participant could not be stored.
        """
        self._check_open("")
        if code is not None:
            with self.store.read() as session:
                return self._rater(session, self._participant(session, code), code)
        try:
            kept = usable_parameters(external or {}, self.study.completion.params)
        except Refused as refusal:
            raise self._refuse("preview", "", str(refusal)) from None
        participant, code = self.store.join(kept, self.study.completion.participant_params)
        with self.store.read() as session:
            return self._rater(session, participant, code)

    def consent(self, code: str) -> Rater:
        """Notes that the rater agreed, and fixes the plan. Calling it again changes nothing.

        Raises:
            Refused: unknown code or study closed.
            NotSaved: it could not be stored, or hardly any disk is left and this rater is new.
        """
        with self.store.read() as session:
            participant = self._participant(session, code)
            begun = self._reached(session, participant) is not None
        self._check_open(participant)
        disk = shutil.disk_usage(self.folder)
        if not begun and disk.free < min(ROOM_BYTES, ROOM_SHARE * disk.total):
            _LOG.error("%d MB free on the disk of %s: no new raters.", disk.free // 2**20, self.folder)
            raise NotSaved(
                "The study takes no new raters at the moment, since its disk is nearly full; try again later."
            )
        self.store.consent(participant, self._planner.plan, time.time() - 3600 * self.study.abandon_after_h)
        with self.store.read() as session:
            return self._rater(session, participant, code)

    def page(self, code: str, index: int | None = None) -> Page:
        """A page of the rater with what is stored of its answers.

        Args:
            code: resume code.
            index: None for the first unanswered page, or the last page where all are answered.

        Raises:
            Refused: unknown code, no consent yet, or a page that is not (or no longer) open to this rater.
        """
        with self.store.read() as session:
            participant = self._participant(session, code)
            reached = self._reached(session, participant)
            if reached is None:
                raise self._refuse("no consent", participant, "Please read the information page and agree first.")
            wanted = min(reached, self.study.pages - 1) if index is None else index
            valid = isinstance(wanted, int) and not isinstance(wanted, bool) and 0 <= wanted < self.study.pages
            if not valid or wanted > reached:
                raise self._refuse("forged page", participant, _NO_SUCH_PAGE)
            if wanted < reached and not self.study.back and index is not None:
                raise self._refuse("back", participant, "This page is answered, and this study has no way back.")
            query = select(PlanPage).where(PlanPage.participant == participant, PlanPage.position == wanted)
            return self._grid.page(session, session.exec(query).one(), reached)

    def answer(self, code: str, submission: Submission, draft: bool = False) -> Ack:
        """Stores a page's scores. When this returns they are on disk, once, however often they were sent.

        Args:
            code: resume code.
            submission: from the browser; checked here.
            draft: an autosave: it may be incomplete and does not end the page. Drafts are kept as history. Once the
                page has been submitted, a complete draft is an edit and counts.

        Raises:
            Refused: forged, impossible, too early, or too late; nothing is stored and the refusal is counted.
            NotSaved: the disk or database failed; nothing is stored and the same submission can be sent again.
        """
        with self.store.read() as session:
            participant = self._participant(session, code)
            try:
                check_form(submission)
            except Refused as refusal:
                raise self._refuse("malformed", participant, str(refusal)) from None
            page = session.exec(
                select(PlanPage).where(PlanPage.token == submission.token, PlanPage.participant == participant)
            ).first()
            if page is None:
                raise self._refuse("forged page", participant, _NO_SUCH_PAGE)
            known = session.exec(select(Answer.id).where(Answer.key == submission.key)).first() is not None
            reached = self._reached(session, participant) or 0
            person = session.get(Participant, participant)
        cells = self._grid.cells(page)
        if not known:
            self._check_open(participant)
            if person is None or person.finished_at is not None:
                raise self._refuse("finished", participant, "You have finished; answers can no longer be changed.")
            if page.position > reached:
                raise self._refuse("ahead", participant, "Pages before this one are not answered yet; go back to them.")
            if page.position < reached and not self.study.back:
                raise self._refuse("back", participant, "This page is answered, and this study has no way back.")
            try:
                check_content(
                    submission, [f"{slot}/{row}" for slot, row, _ in cells], self.study.levels, draft=draft,
                    min_watch_s=self.study.min_watch_s, comments=self.study.comments,
                )  # fmt: skip
            except Refused as refusal:
                raise self._refuse("bad answer", participant, str(refusal)) from None
        try:
            stored = self.store.answer(page, submission, cells, self.study.levels, draft, self.study.back)
        except Overtaken as refusal:
            raise self._refuse(refusal.kind, participant, str(refusal)) from None
        following = page.position if draft else page.position + 1
        return Ack(submission.key, stored, following if following < self.study.pages else None)

    def finish(self, code: str) -> Finished:
        """Ends the rater's study; answers can no longer be changed. Calling it again gives the same.

        Raises:
            Refused: unknown code, or pages are still open.
            NotSaved: it could not be stored.
        """
        with self.store.read() as session:
            participant = self._participant(session, code)
            reached = self._reached(session, participant)
            query = select(External).where(External.participant == participant)
            external = {row.name: row.value for row in session.exec(query)}
        if reached is None or reached < self.study.pages:
            left = self.study.pages - (reached or 0)
            raise self._refuse("unfinished", participant, f"{left} pages are not answered yet; go on with them.")
        rule = self.study.completion
        given = self.store.finish(participant, rule.code or "T4D-" + secrets.token_hex(5).upper())
        address = rule.redirect
        if address is not None:
            for name in ("code", *rule.params):
                value = given if name == "code" else external.get(name, "")
                address = address.replace("{" + name + "}", quote(value, safe=""))
        return Finished(given, address)

    def counts(self) -> dict[str, Any]:
        """How far the study is and how balanced: see `export.counts`. It names methods: for the admin only."""
        with self.store.read() as session:
            return export.counts(session, self.study)

    def flags(self) -> list[dict[str, Any]]:
        """One row per participant who consented, with reasons for doubt: see `flags.rows`."""
        with self.store.read() as session:
            return flags.rows(session, self.study)

    def rows(self) -> list[dict[str, Any]]:
        """The long table, one row per score: see `export.long_rows`."""
        with self.store.read() as session:
            return export.long_rows(session, self.study)

    def export(self, participant: str) -> dict[str, Any]:
        """Everything stored about one participant, for that person: see `participants.export`."""
        with self.store.read() as session:
            return participants.export(session, participant)

    def erase(self, participant: str) -> None:
        """Deletes one participant everywhere: database, mirror and backups: see `participants.erase`."""
        with self._backing_up:  # a copy being made would still hold the participant
            participants.erase(self.store, participant, self.folder / "backups")

    def refused(self, kind: str, detail: str) -> None:
        """Counts a request that the page or the admin view refused before it came here (a wrong password, say)."""
        self._refuse(kind, "", detail)

    def backup(self) -> Path:
        """Copies the database, in use, to ``backups/``.

        Raises:
            NotSaved: no space, or not writable.
        """
        with self._backing_up:
            stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
            return self.store.database.backup(self.folder / "backups" / f"study-{stamp}.db")

    def close(self) -> None:
        """Closes the database."""
        self.store.close()

    def _check_open(self, participant: str) -> None:
        closes = self.study.expires
        if closes is not None and datetime.now(UTC) >= closes:
            day = closes.strftime("%d %B %Y")
            raise self._refuse("closed", participant, f"This study closed on {day}; thank you for your interest.")

    def _participant(self, session: Session, code: str) -> str:
        sound = isinstance(code, str) and 0 < len(code) <= 100
        found = session.get(Code, code_digest(code)) if sound else None
        if found is None:
            raise self._refuse("unknown code", "", "This code is not known here; check it, or begin anew.")
        return found.participant

    def _refuse(self, kind: str, participant: str, sentence: str) -> Refused:
        """Counts a refusal and gives the exception to raise; a full disk does not turn it into another one."""
        _LOG.info("refused (%s): %s", kind, sentence)
        try:
            self.store.refused(kind, participant, sentence)
        except NotSaved as error:
            _LOG.warning("a refusal (%s) could not be counted: %s", kind, error)
        return Refused(sentence)

    def _reached(self, session: Session, participant: str) -> int | None:
        """Position of the first page that was never submitted; None before consent."""
        person = session.get(Participant, participant)
        if person is None or person.consented_at is None:
            return None
        query = text(
            "SELECT min(position) FROM page WHERE participant = :id AND NOT EXISTS "
            "(SELECT 1 FROM answer WHERE answer.token = page.token AND NOT answer.draft)"
        )
        first = session.execute(query, {"id": participant}).scalar_one()
        return self.study.pages if first is None else int(first)

    def _rater(self, session: Session, participant: str, code: str) -> Rater:
        reached = self._reached(session, participant)
        if reached is None:
            return Rater(code, "consent", 0, self.study.pages, participant)
        phase = "practice" if reached < len(self.study.practice) else "rate"
        done = reached >= self.study.pages
        return Rater(code, "done" if done else phase, reached, self.study.pages, participant)
