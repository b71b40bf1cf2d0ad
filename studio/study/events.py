"""What a rater's page asks of the server. Each event answers with a dictionary that holds ``ok`` and never raises.

The events are plain HTTP: ``POST /gradio_api/run/NAME`` with ``{"data": [arguments]}`` answers ``{"data": [answer]}``;
``gradio_client`` calls them as ``client.predict(..., api_name="/NAME")``. Names and arguments stay as they are here:

======================  ====================================  =====================================================
name                    arguments                             answer, besides ``ok``
======================  ====================================  =====================================================
``study_join``          code or null, {query parameters}      ``rater``: `contract.Rater`
``study_consent``       code                                  ``rater``
``study_page``          code, index or null (the first open)  ``page``: `contract.Page`, ``practice`` for ``kind``
``study_answer``        code, {`contract.Submission`}, draft  ``ack``: `contract.Ack`; a draft saves a page half done
``study_finish``        code                                  ``finished``: `contract.Finished`
======================  ====================================  =====================================================

Where ``ok`` is false, ``message`` is a sentence for the rater and ``retry`` says whether sending the same again later
can help (a full disk) or not (a score of 6). No HTTP answer at all, or one of 5xx, means: send the same again.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from studio.study.contract import NotSaved, Page, Rater, Refused, Submission
from studio.study.limits import Budget, RefusalLog
from studio.study.service import StudyService
from t4d.errors import InputError

JOINS = 600
JOIN_WINDOW_S = 60.0
UNEXPECTED = "Something went wrong on the server."
_UNREADABLE = "The answer cannot be read; reload the page."
_FIELDS = {field.name for field in fields(Submission)}
_PARAMS, _PARAM_LENGTH = 30, 500


class RaterEvents:
    """The events of one study.

    Args:
        service: the study.
        log: told about every refusal.
        joins: limit on new raters, so that nobody fills the disk with them.
    """

    def __init__(self, service: StudyService, log: RefusalLog, joins: Budget | None = None) -> None:
        self.service, self.log = service, log
        self._joins = joins or Budget(JOINS, JOIN_WINDOW_S)

    def join(self, code: str | None = None, external: dict | None = None) -> dict:
        """Starts a new rater, or finds the one whose resume code is given.

        Args:
            code: resume code; null for a new rater.
            external: query parameters of the address, e.g. ``{"PROLIFIC_PID": "..."}``.

        Returns:
            ``{"ok": true, "rater": {"code", "phase", "page", "pages", "number"}}``.
        """
        return self._answer("join", (code, external), lambda: {"rater": asdict(self._join(code, external))})

    def consent(self, code: str) -> dict:
        """Records that the rater has read the information and takes part.

        Args:
            code: resume code.

        Returns:
            ``{"ok": true, "rater": {...}}``.
        """
        return self._answer("consent", (code,), lambda: {"rater": asdict(self.service.consent(code))})

    def page(self, code: str, index: int | None = None) -> dict:
        """One page of a rater.

        Args:
            code: resume code.
            index: which page; null for the first unanswered one.

        Returns:
            ``{"ok": true, "page": {...}}``.
        """
        return self._answer("page", (code, index), lambda: {"page": public(self.service.page(code, index))})

    def answer(self, code: str, submission: dict, draft: bool = False) -> dict:
        """Stores the scores of a page.

        Args:
            code: resume code.
            submission: ``{"key": uuid4, "token": of the page, "scores": {"A/motion": 4}, "comment", "watched_s",
                "page_s", "edit"}``.
            draft: true for a page that is not finished.

        Returns:
            ``{"ok": true, "ack": {"key", "stored", "next_page"}}`` once it is on the disk.
        """

        def store() -> dict:
            if not isinstance(draft, bool) or not isinstance(submission, dict) or not {"key", "token", "scores"} <= (
                submission.keys()
            ) <= _FIELDS:  # fmt: skip
                raise self._malformed(_UNREADABLE)
            return {"ack": asdict(self.service.answer(code, Submission(**submission), draft=draft))}

        return self._answer("answer", (code, submission), store)

    def finish(self, code: str) -> dict:
        """The completion code, once every page is answered.

        Args:
            code: resume code.

        Returns:
            ``{"ok": true, "finished": {"code", "redirect"}}``.
        """
        return self._answer("finish", (code,), lambda: {"finished": asdict(self.service.finish(code))})

    def _join(self, code: Any, external: Any) -> Rater:
        if code is not None:
            return self.service.join(code)
        given = external or {}
        if not isinstance(given, dict) or len(given) > _PARAMS or any(
            not isinstance(value, str) or len(name) + len(value) > _PARAM_LENGTH for name, value in given.items()
        ):  # fmt: skip
            raise self._malformed("The address has unreadable parameters; open the link as it was given to you.")
        if not self._joins.take():
            raise NotSaved("Many people are starting right now.")
        return self.service.join(external=given)

    def _malformed(self, sentence: str) -> Refused:
        self.service.refused("malformed", sentence)
        return Refused(sentence)

    def _answer(self, event: str, sent: tuple, work: Callable[[], dict]) -> dict:
        try:
            if not _is_text(sent):
                raise self._malformed(_UNREADABLE)
            return {"ok": True, **work()}
        except InputError as error:
            self.log.refused(event, str(error))
            return {"ok": False, "message": str(error), "retry": isinstance(error, NotSaved)}
        except Exception:
            self.log.failed(event)
            return {"ok": False, "message": UNEXPECTED, "retry": True}


def public(page: Page) -> dict:
    """What of a page may reach a browser: everything but whether it is a check or a repetition."""
    shown = asdict(page)
    shown["practice"] = shown.pop("kind") == "practice"
    for row in shown["criteria"]:
        row["anchors"] = {str(level): text for level, text in row["anchors"].items()}  # JSON has no other keys
    return shown


def _is_text(sent: Any) -> bool:
    # JSON can spell half a surrogate pair, which no database, log or hash takes.
    try:
        json.dumps(sent, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
