"""A rater of a served study without a browser, for tests of every package that serves one."""

import http.client
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx


class Browserless:
    """A rater over plain HTTP, as any program on the internet may be.

    Args:
        url: of the served study.
        code: resume code, for one who has joined.
    """

    def __init__(self, url: str, code: str | None = None) -> None:
        self.url, self.code = url, code
        self.http = httpx.Client(timeout=60)

    def ask(self, event: str, *values: Any) -> dict:
        """The answer of an event, ``ok`` or not."""
        reply = self.http.post(f"{self.url}/gradio_api/run/study_{event}", json={"data": list(values)})
        assert reply.status_code == 200, reply.text
        return reply.json()["data"][0]

    def begin(self, **external: str) -> "Browserless":
        """Joins and agrees."""
        self.code = self.ask("join", None, external)["rater"]["code"]
        assert self.ask("consent", self.code)["ok"]
        return self

    def page(self, index: int | None = None) -> dict:
        """A page."""
        return self.ask("page", self.code, index)["page"]

    def submission(self, page: dict, score: Callable[[int], Any] = lambda k: 1 + k % 5, **changes: Any) -> dict:
        """A sound submission of a page, with changes."""
        rows = [f"{shown['slot']}/{row['id']}" for shown in page["videos"] for row in page["criteria"]]
        sound = {
            "key": str(uuid.uuid4()),
            "token": page["token"],
            "scores": {row: score(k) for k, row in enumerate(rows)},
            "comment": "",
            "watched_s": 5.0,
            "page_s": 9.0,
            "edit": page["edit"] + 1,
        }
        return sound | changes

    def answer(self, submission: dict, draft: Any = False) -> dict:
        """Sends a submission."""
        return self.ask("answer", self.code, submission, draft)

    def raw(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """A request whose path no library has tidied up."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        connection.putrequest(method, path, skip_accept_encoding=True)
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Content-Type", "application/json")
        connection.endheaders()
        try:
            connection.send(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of a large body had arrived
        reply = connection.getresponse()
        found = reply.status, reply.read()
        connection.close()
        return found
