"""From a planned page to what its rater sees: videos, rows, stored scores."""

from pathlib import PurePosixPath

from sqlalchemy import text
from sqlmodel import Session, col, select

from studio.study.contract import Page, Row, Shown
from studio.study.models import Participant, PlanPage, Score
from studio.study.schema import AttentionCheck, Item, StudyFile
from studio.study.store import code_digest


class Grid:
    """The pages of one study.

    Args:
        study: the prepared study file.
    """

    def __init__(self, study: StudyFile) -> None:
        self.study = study
        self.items: dict[str, Item] = {item.id: item for item in (*study.items, *study.practice_items())}
        self.checks: dict[str, AttentionCheck] = {check.id: check for check in study.checks}

    def media_paths(self) -> list[str]:
        """``media/...`` of everything that may be shown."""
        found = [check.video for check in self.study.checks if check.video]
        for item in self.items.values():
            found += [item.reference, *item.videos.values()]
        return found

    def shown(self, page: PlanPage) -> list[tuple[str, str, str]]:
        """(slot, method, media path) of a page's videos."""
        if page.kind == "check" and not page.methods:
            return [("A", "", str(self.checks[str(page.attention)].video))]
        videos = self.items[page.item].videos
        return [(chr(65 + k), method, videos[method]) for k, method in enumerate(page.methods.split())]

    def rows(self, page: PlanPage) -> tuple[Row, ...]:
        """Rows of a page's grid; an instruction check's row stands anywhere among the others."""
        rows = [Row(criterion.id, criterion.question, criterion.anchors) for criterion in self.study.criteria]
        check = self.checks.get(page.attention or "")
        if check is not None and check.video is None:
            place = int(code_digest(page.token), 16) % (len(rows) + 1)  # anywhere, but the same at every visit
            rows.insert(place, Row(check.id, check.instruction))
        return tuple(rows)

    def cells(self, page: PlanPage) -> list[tuple[str, str, str]]:
        """(slot, row, method) of a page's grid."""
        return [(slot, row.id, method) for slot, method, _ in self.shown(page) for row in self.rows(page)]

    def page(self, session: Session, page: PlanPage, reached: int) -> Page:
        """A page as its rater sees it.

        Args:
            session: on the database.
            page: the planned page.
            reached: position of the rater's first unanswered page.
        """
        newest = session.execute(
            text("SELECT id, comment, edit FROM newest_answer WHERE token = :token"), {"token": page.token}
        ).first()
        scores: dict[str, int] = {}
        if newest is not None:
            cells = session.exec(select(Score).where(col(Score.answer) == newest.id))
            scores = {f"{cell.slot}/{cell.row}": cell.score for cell in cells}
        person = session.get(Participant, page.participant)
        answered = page.position < reached
        return Page(
            token=page.token,
            index=page.position,
            pages=self.study.pages,
            kind=page.kind,  # type: ignore[arg-type]
            title=page.title,
            result=page.result,
            reference=PurePosixPath(self.items[page.item].reference).name,
            prompt=self.items[page.item].prompt,
            videos=tuple(Shown(slot, PurePosixPath(path).name) for slot, _, path in self.shown(page)),
            criteria=self.rows(page),
            levels=self.study.levels,
            scores=scores,
            comment=newest.comment if newest is not None else "",
            answered=answered,
            editable=(not answered or self.study.back) and person is not None and person.finished_at is None,
            edit=newest.edit if newest is not None else 0,
            min_watch_s=self.study.min_watch_s,
            comments=self.study.comments,
        )
