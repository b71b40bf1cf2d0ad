"""A rater in the same process, for tests."""

import time
import uuid
from collections.abc import Callable, Mapping

from studio.study.contract import Ack, Page, Submission
from studio.study.service import StudyService

Scores = int | Mapping[str, int]


def submission(page: Page, score: Scores = 3, **values) -> Submission:
    """A complete submission of a page: one score everywhere, or given ones."""
    cells = [f"{video.slot}/{row.id}" for video in page.videos for row in page.criteria]
    scores = dict(score) if isinstance(score, Mapping) else dict.fromkeys(cells, score)
    given = {"key": str(uuid.uuid4()), "token": page.token, "scores": scores, "watched_s": 60.0, "page_s": 12.0}
    return Submission(**(given | values))


def begin(service: StudyService, **external: str) -> str:
    """Joins and agrees; returns the resume code."""
    code = service.join(external=external).code
    service.consent(code)
    return code


def rate_all(
    service: StudyService, code: str, score: Callable[[Page], int | Mapping[str, int]] = lambda page: 3
) -> None:
    """Submits every page that is left."""
    while service.join(code).phase != "done":
        page = service.page(code)
        ack: Ack = service.answer(code, submission(page, score(page)))
        assert ack.stored


def milliseconds() -> int:
    """A browser's clock."""
    return int(time.time() * 1000)
