"""What the study's service and its page exchange. Nothing here names a method: these values may reach a rater."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from t4d.errors import InputError

Phase = Literal["consent", "practice", "rate", "done"]
Kind = Literal["practice", "item", "check", "repeat"]


@dataclass(frozen=True)
class Rater:
    """Where a rater stands.

    Attributes:
        code: the secret resume code (100 random bits, url-safe); whoever has it is this rater.
        phase: "consent" until `StudyService.consent`, then "practice" and "rate", "done" once every page is answered.
        page: index of the first unanswered page; ``pages`` when all are answered.
        pages: number of pages, practice, checks and repeats included; the same for every rater.
        number: the pseudonym, by which the rater may ask for their data or its deletion.
    """

    code: str
    phase: Phase
    page: int
    pages: int
    number: str


@dataclass(frozen=True)
class Row:
    """One row of the rating grid.

    Attributes:
        id: key of its scores, behind the slot and a slash.
        question: the text shown.
        anchors: texts of some levels, lowest level first.
    """

    id: str
    question: str
    anchors: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """One video of a page: its slot "A", "B", ... and its file name in ``media/`` (random, tells nothing)."""

    slot: str
    media: str


@dataclass(frozen=True)
class Page:
    """One page as a rater sees it.

    Attributes:
        token: names this page of this rater in a `Submission`; random.
        index: 0 .. ``pages`` - 1.
        pages: as in `Rater`.
        kind: "practice", "item", "check" or "repeat". Only "practice" may be shown to the rater.
        title: "Object k", or "Practice k".
        result: number of this page's result within its object, from 1; 0 in side-by-side layout.
        reference: file name in ``media/`` of the reference image.
        prompt: the sentence the videos were made from.
        videos: one video, or one per method in side-by-side layout.
        criteria: rows of the grid; each needs a score for every video.
        levels: scores are whole numbers from 1 to this.
        scores: "slot/row" -> score, as far as they are stored.
        comment: as stored.
        answered: whether the page has been submitted.
        editable: whether a submission would be accepted now (an answered page is only where the study allows back).
        edit: of the newest stored `Submission`; 0 where there is none.
        min_watch_s: seconds every video plays before the page can be submitted.
        comments: whether a comment field is offered.
    """

    token: str
    index: int
    pages: int
    kind: Kind
    title: str
    result: int
    reference: str
    prompt: str
    videos: tuple[Shown, ...]
    criteria: tuple[Row, ...]
    levels: int
    scores: Mapping[str, int]
    comment: str
    answered: bool
    editable: bool
    edit: int
    min_watch_s: float
    comments: bool


@dataclass(frozen=True)
class Submission:
    """Scores of one page, from a browser; nothing in it is trusted.

    Attributes:
        key: idempotency key, a UUID4 as text. A key sent again is acknowledged again and stored once.
        token: of the page.
        scores: "slot/row" -> score. A draft may leave some out.
        comment: free text, up to `MAX_COMMENT` characters.
        watched_s: seconds the page's video (the least watched one) has played.
        page_s: seconds the page was open and visible.
        edit: when the rater changed the page: milliseconds since 1970 by the browser's clock, at least one more than
            `Page.edit`. Of one page the submission with the largest number counts, so that a late retry of an older
            one never replaces a newer one; with equal numbers (all 0, say) the later arrival counts.
    """

    key: str
    token: str
    scores: Mapping[str, int]
    comment: str = ""
    watched_s: float = 0.0
    page_s: float = 0.0
    edit: int = 0


@dataclass(frozen=True)
class Ack:
    """The submission is stored, on disk.

    Attributes:
        key: of the submission.
        stored: False where this key had been stored before.
        next_page: index of the next page to show; None after the last one.
    """

    key: str
    stored: bool
    next_page: int | None


@dataclass(frozen=True)
class Finished:
    """What a rater gets at the end: the completion code to show, and where to send the browser (or None)."""

    code: str
    redirect: str | None


class Refused(InputError):
    """What arrived will never be accepted: sending it again is useless."""


class NotSaved(InputError):
    """The server could not store something sound (disk full, read-only, busy): keep it and send it again."""


MAX_COMMENT = 2000
