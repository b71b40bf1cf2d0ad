"""A small real study, prepared and served, for the tests of the page and its addresses."""

import http.client
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import yaml

from studio.study.app import ServedStudy
from studio.study.media import prepare
from studio.study.schema import VideoSpec
from studio.study.service import StudyService
from studio.study.video import write_plain_video

LABELS = {"zebrafish": "Zanzibar Nets", "quokka": "Quibbler XL", "narwhal": "Nimbostratus"}
VIDEO = {"side": 64, "fps": 8, "seconds": 1.0}


def prepared_study(root: Path, items: int = 2, **fields: Any) -> Path:
    """Draws videos ``root/METHOD/objectK.mp4`` and prepares a study of them; returns its folder."""
    spec = VideoSpec.model_validate(VIDEO)
    for m, method in enumerate(LABELS):
        (root / method).mkdir(parents=True, exist_ok=True)
        for k in range(items):
            clip = np.full((spec.frames, spec.side, spec.side, 3), 128, np.uint8)
            for t in range(spec.frames):
                clip[t, 20:40, 4 + 4 * t : 20 + 4 * t] = (220 - 40 * m, 60 + 30 * k, 40 * m)
            write_plain_video(root / method / f"object{k}.mp4", clip, spec)
    entries = [
        {
            "id": f"wombat{k}",
            "object": f"Wombat number {k}",
            "prompt": f"The creature <b>{k}</b> hops & looks around.",
            "reference": f"zebrafish/object{k}.mp4",
            "videos": {method: f"{method}/object{k}.mp4" for method in LABELS},
        }
        for k in range(items)
    ]
    methods = [{"id": name, "label": label, "source": f"{name}/runs"} for name, label in LABELS.items()]
    study = {"title": "Moving objects", "methods": methods, "items": entries, "video": VIDEO, "min_watch_s": 0.5}
    path = root / "walrus.yaml"
    path.write_text(yaml.safe_dump(study | fields), encoding="utf-8")
    return prepare(path).folder


@contextmanager
def served(folder: Path) -> Iterator[tuple[ServedStudy, str]]:
    """Serves a prepared study from this process, on a free port."""
    study = ServedStudy(StudyService(folder))
    url = study.launch(prevent_thread_lock=True, quiet=True)
    try:
        yield study, url.rstrip("/")
    finally:
        study.close()


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


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Results of calls made by as many threads at the same moment."""
    gate, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index: int) -> None:
        gate.wait()
        results[index] = calls[index]()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def dump(value: Any) -> str:
    """JSON text as the server would write it."""
    return json.dumps(value, ensure_ascii=False)
