"""What a browser sent, judged against the page it claims to be for."""

import math
import re
from collections.abc import Collection, Mapping

from studio.study.contract import MAX_COMMENT, Refused, Submission

_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_PARAM = re.compile(r"[A-Za-z0-9_.:@+-]{1,128}")
_MAX_EDIT = 2**53
_WATCH_SLACK_S = 0.25


def check_form(submission: Submission) -> None:
    """Refuses a submission whose values have impossible types, sizes or ranges, whatever page it is for.

    Raises:
        Refused: one sentence that repeats nothing of what was sent.
    """
    if not isinstance(submission.key, str) or not _UUID4.fullmatch(submission.key):
        raise Refused("The answer's key is not a version 4 UUID in lower case; reload the page.")
    if not isinstance(submission.token, str) or not 0 < len(submission.token) <= 64:
        raise Refused("The answer names no page; reload the page.")
    if not isinstance(submission.comment, str) or "\0" in submission.comment:
        raise Refused("The comment is not plain text; type it again.")
    if len(submission.comment) > MAX_COMMENT:
        raise Refused(f"The comment has {len(submission.comment)} characters; at most {MAX_COMMENT} fit, shorten it.")
    try:
        submission.comment.encode()
    except UnicodeEncodeError:
        raise Refused("The comment is not plain text; type it again.") from None
    for seconds in (submission.watched_s, submission.page_s):
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e8:
            raise Refused("The answer's times are not seconds; reload the page.")
    if (
        isinstance(submission.edit, bool)
        or not isinstance(submission.edit, int)
        or not 0 <= submission.edit < _MAX_EDIT
    ):
        raise Refused("The answer's edit number is not a whole number; reload the page.")
    if not isinstance(submission.scores, Mapping):
        raise Refused("The answer has no scores; reload the page.")


def check_content(
    submission: Submission, cells: Collection[str], levels: int, *, draft: bool, min_watch_s: float, comments: bool
) -> None:
    """Refuses scores that do not fit the page's grid, and a page submitted too early.

    Args:
        submission: passed `check_form`.
        cells: "slot/row" of the grid.
        levels: highest score.
        draft: an autosave, which may be incomplete and early.
        min_watch_s: as in `contract.Page`; a quarter of a second is forgiven.
        comments: whether the study takes comments.

    Raises:
        Refused: one sentence that repeats nothing of what was sent.
    """
    if not submission.scores.keys() <= set(cells):
        raise Refused("The answer rates something that is not on this page; reload the page.")
    for score in submission.scores.values():
        if isinstance(score, bool) or not isinstance(score, int) or not 1 <= score <= levels:
            raise Refused(f"A score is not a whole number from 1 to {levels}; choose one of the buttons.")
    if submission.comment and not comments:
        raise Refused("This study takes no comments; leave the comment out.")
    if draft:
        return
    missing = len(cells) - len(submission.scores)
    if missing:
        raise Refused(f"{missing} of the {len(cells)} rows {'have' if missing > 1 else 'has'} no score yet; rate all.")
    if submission.watched_s < min_watch_s - _WATCH_SLACK_S:
        left = math.ceil(min_watch_s - submission.watched_s)
        raise Refused(f"Please watch the video for {left} s more before going on.")


def usable_parameters(external: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    """The query parameters that the study keeps: of the wanted names, with values such as recruiting services send.

    Raises:
        Refused: the page is MTurk's preview, in which nobody has accepted the task yet.
    """
    if external.get("assignmentId") == "ASSIGNMENT_ID_NOT_AVAILABLE":
        raise Refused("This is a preview; accept the task first, then open it again.")
    return {
        name: value
        for name, value in external.items()
        if name in wanted and isinstance(value, str) and _PARAM.fullmatch(value)
    }
