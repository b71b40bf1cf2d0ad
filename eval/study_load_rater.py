"""A simulated rater: a person with a browser that keeps every answer until the server has acknowledged it."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 5.0  # between tries, as `studio/study/web/outbox.js` does it
GIVE_UP_S = 1200.0


class Refused(RuntimeError):
    """The server answered with a sentence that no repetition will change."""


class NoAnswer(RuntimeError):
    """Nothing is known about what the server did with the request: it is to be sent again."""


@dataclass
class Sent:
    """One submission as its sender knows it.

    Attributes:
        key: idempotency key.
        code: the rater's.
        token: the page's.
        edit: as in `studio.study.contract.Submission`.
        draft: whether it was an autosave.
        scores: "slot/row" -> score.
        comment: as sent.
        acks: the ``stored`` of every acknowledgement; empty where none arrived.
        lost: tries that got no answer.
    """

    key: str
    code: str
    token: str
    edit: int
    draft: bool
    scores: dict[str, int]
    comment: str = ""
    acks: list[bool] = field(default_factory=list)
    lost: int = 0


@dataclass
class Ledger:
    """What all raters know: the truth that the database is held against.

    Attributes:
        sent: every submission, in the order it was first sent.
        orders: code -> page index -> (token, reference, prompt, videos) as first shown.
        seconds: of every acknowledged submission's last try, by kind.
        counts: double submits, resumes, requests without an answer, ...
        open: requests on their way now.
        ended: nobody shall go on, because the server cannot be started.
        wrong: sentences about anything that was not as it must be.
        finished: code -> completion code.
        answered: tokens of the pages whose submission was acknowledged.
    """

    sent: list[Sent] = field(default_factory=list)
    orders: dict[str, dict[int, tuple]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"draft": [], "answer": [], "page": []})
    counts: Counter = field(default_factory=Counter)
    open: int = 0
    ended: bool = False
    wrong: list[str] = field(default_factory=list)
    finished: dict[str, str] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)

    @property
    def acknowledged(self) -> int:
        """Submissions of which at least one acknowledgement arrived."""
        return sum(bool(sent.acks) for sent in self.sent)


@dataclass(frozen=True)
class Habits:
    """Probabilities a page.

    Attributes:
        draft: an autosave before the page is complete.
        twice: the page is submitted twice at the same moment (a double click).
        device: the rater goes on in another browser, which has the resume code only.
        back: an earlier page is opened and changed.
        stale: an acknowledged submission of an earlier page is sent again.
        pause_s: seconds between pages, at most.
    """

    draft: float = 0.5
    twice: float = 0.1
    device: float = 0.1
    back: float = 0.1
    stale: float = 0.05
    pause_s: float = 0.2


class SimulatedRater:
    """Walks a whole study.

    Args:
        url: of the served study.
        seed: everything random about this rater.
        ledger: shared by all raters.
        habits: how the rater behaves.
    """

    def __init__(self, url: str, seed: int, ledger: Ledger, habits: Habits) -> None:
        self.url, self.ledger, self.habits = url, ledger, habits
        self.rng = random.Random(seed)
        self.code = ""
        self._edits: dict[str, int] = {}
        self._last: list[Sent] = []
        self._client = self._browser()

    async def run(self) -> None:
        """Joins, consents, rates every page and finishes; problems go to the ledger."""
        try:
            await self._walk()
        except Refused as refusal:
            self.ledger.wrong.append(f"a proper request was refused: {refusal}")
        except TimeoutError:
            self.ledger.wrong.append(f"a rater got no answer for {GIVE_UP_S:.0f} s")
        finally:
            await self._client.aclose()

    async def _walk(self) -> None:
        rater = await self._until("join", None, {})
        self.code, pages = rater["code"], rater["pages"]
        self.ledger.orders[self.code] = {}
        rater = await self._until("consent", self.code)
        if rater["page"] != 0:
            self.ledger.wrong.append(f"a new rater begins at page {rater['page']}")
        index: int | None = 0
        while index is not None:
            if self.rng.random() < self.habits.device:
                await self._change_device(index)
            following = await self._rate(index)
            if following != (index + 1 if index + 1 < pages else None):
                self.ledger.wrong.append(f"page {index} of {pages} is followed by {following}")
            if index and self.rng.random() < self.habits.back:
                await self._rate(self.rng.randrange(index))
                self.ledger.counts["changed earlier pages"] += 1
            if self._last and self.rng.random() < self.habits.stale:
                await self._send(self.rng.choice(self._last))
                self.ledger.counts["stale repeats"] += 1
            index = following
            await asyncio.sleep(self.rng.random() * self.habits.pause_s)
        finished = await self._until("finish", self.code)
        self.ledger.finished[self.code] = finished["code"]

    async def _rate(self, index: int) -> int | None:
        """Opens a page, fills it in and submits it; returns the index that the server names next."""
        page = await self._until("page", self.code, index, kind="page")
        self._compare_order(index, page)
        rows = [f"{shown['slot']}/{row['id']}" for shown in page["videos"] for row in page["criteria"]]
        scores = {row: self.rng.randint(1, page["levels"]) for row in rows}
        if self.rng.random() < self.habits.draft:
            await self._send(self._sent(page, dict(list(scores.items())[: self.rng.randint(1, len(rows))]), True))
        sent = self._sent(page, scores, False)
        if self.rng.random() < self.habits.twice:
            self.ledger.counts["double submits"] += 1
            acks = await asyncio.gather(self._send(sent), self._send(sent))
            if acks[0]["next_page"] != acks[1]["next_page"]:
                self.ledger.wrong.append(f"a double submit of page {index} leads to two pages")
            ack = acks[0]
        else:
            ack = await self._send(sent)
        self._last.append(sent)
        return ack["next_page"]

    def _sent(self, page: Mapping[str, Any], scores: dict[str, int], draft: bool) -> Sent:
        token = page["token"]
        edit = self._edits[token] = max(self._edits.get(token, 0), page["edit"]) + 1
        sent = Sent(str(uuid.UUID(int=self.rng.getrandbits(128), version=4)), self.code, token, edit, draft, scores)
        self.ledger.sent.append(sent)
        return sent

    async def _send(self, sent: Sent) -> dict:
        """Sends until acknowledged; the same key every time."""
        submission = {name: getattr(sent, name) for name in ("key", "token", "scores", "comment", "edit")}
        submission |= {"watched_s": 5.0, "page_s": 6.0}
        kind = "draft" if sent.draft else "answer"
        ack = await self._until("answer", sent.code, submission, sent.draft, kind=kind, sent=sent)
        if ack["key"] != sent.key:
            self.ledger.wrong.append("an acknowledgement names another key")
        sent.acks.append(ack["stored"])
        if not sent.draft:
            self.ledger.answered.add(sent.token)
        return ack

    def _compare_order(self, index: int, page: Mapping[str, Any]) -> None:
        shown = (page["token"], page["reference"], page["prompt"], *(video["media"] for video in page["videos"]))
        first = self.ledger.orders[self.code].setdefault(index, shown)
        if first != shown:
            self.ledger.wrong.append(f"page {index} of a rater changed")

    async def _change_device(self, index: int) -> None:
        await self._client.aclose()
        self._client = self._browser()
        rater = await self._until("join", self.code, {})
        self.ledger.counts["resumed by code"] += 1
        if (rater["code"], rater["page"]) != (self.code, index):
            self.ledger.wrong.append(f"resumed at page {rater['page']} instead of {index}")

    async def _until(self, name: str, *data: Any, kind: str = "", sent: Sent | None = None) -> dict:
        """A call that is repeated until the server answers, as the page does it."""
        pause = FIRST_PAUSE_S
        async with asyncio.timeout(GIVE_UP_S):
            while True:
                if self.ledger.ended:
                    raise Refused("the run was ended")
                began = asyncio.get_running_loop().time()
                try:
                    reply = await self._call(name, *data)
                except NoAnswer:
                    self.ledger.counts["requests without an answer"] += 1
                    if sent is not None:
                        sent.lost += 1
                    await asyncio.sleep(pause * self.rng.uniform(0.8, 1.2))
                    pause = min(1.5 * pause, LONGEST_PAUSE_S)
                    continue
                if kind:
                    self.ledger.seconds[kind].append(asyncio.get_running_loop().time() - began)
                return reply

    async def _call(self, name: str, *data: Any) -> dict:
        self.ledger.open += 1
        try:
            reply = await self._client.post(f"{self.url}/gradio_api/run/study_{name}", json={"data": list(data)})
        except httpx.TransportError as error:
            raise NoAnswer from error
        finally:
            self.ledger.open -= 1
        if reply.status_code >= 500:
            raise NoAnswer
        if reply.status_code != 200:
            raise Refused(f"{name}: HTTP {reply.status_code}, {reply.text[:300]}")
        (answer,) = reply.json()["data"]
        if not answer["ok"]:
            raise NoAnswer if answer["retry"] else Refused(f"{name}: {answer['message']}")
        (result,) = (value for key, value in answer.items() if key != "ok")
        return result

    def _browser(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(timeout=30.0, trust_env=False)
