"""One job as a page sees it: a queued, running or ended piece of heavy work."""

import dataclasses
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from studio.worker import DROP, STOP, TERMINAL

DOUBLE_CLICK_S = 1.0
State = Literal["queued", "running", "done", "refused", "failed", "cancelled"]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a page shows of a job at one moment.

    Attributes:
        state: queued, running, done, refused (bad input), failed (our fault) or cancelled.
        stage: name of the running stage.
        fraction: overall, 0..1.
        message: one sentence: of the stage, or why the job ended.
        eta_s: seconds left by the pipeline's estimate, or None.
        preview: path of a picture to show meanwhile, or None.
        result: the task's result (paths), on done.
        ahead: jobs that run before this one.
        elapsed_s: seconds since the job began to run.
    """

    state: State = "queued"
    stage: str = ""
    fraction: float = 0.0
    message: str = ""
    eta_s: float | None = None
    preview: str | None = None
    result: dict | None = None
    ahead: int = 0
    elapsed_s: float = 0.0

    @property
    def ended(self) -> bool:
        """True where nothing more will happen."""
        return self.state in TERMINAL


class Job:
    """One submitted task; made by `Jobs.submit` or `InlineJobs.submit`."""

    def __init__(self, target: str, payload: Mapping[str, Any], folder: Path) -> None:
        self.id = secrets.token_hex(8)
        self.target, self.payload, self.folder = target, payload, str(folder)
        self._snapshot = Snapshot()
        self._changed = threading.Condition()
        self._asked, self._asked_at = 0, 0.0
        self._began: float | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The present state."""
        with self._changed:
            return self._with_clock()

    @property
    def asked(self) -> int:
        """What was asked of the job: 0, `STOP` or `DROP`."""
        return self._asked

    def stop(self) -> None:
        """Asks the job to end with what it has, or where it has nothing to show, at once; the second time to end."""
        if self._asked and time.monotonic() - self._asked_at < DOUBLE_CLICK_S:
            return
        self._ask(DROP if self._asked else STOP)

    def cancel(self) -> None:
        """Asks the job to end; a queued job ends at once, a running one within the grace time."""
        self._ask(DROP)

    def _ask(self, what: int) -> None:
        self._asked, self._asked_at = max(self._asked, what), time.monotonic()
        with self._changed:
            if self._snapshot.state == "queued":
                self._set(state="cancelled", message="Cancelled before it began.")

    def watch(self, every_s: float = 1.0) -> Iterator[Snapshot]:
        """Yields the state whenever it changes, and every `every_s` seconds; the last one has ``ended``."""
        while True:
            with self._changed:
                now = self._with_clock()
            yield now
            if now.ended:
                return
            with self._changed:
                seen = dataclasses.replace(now, elapsed_s=self._snapshot.elapsed_s)
                self._changed.wait_for(lambda: self._snapshot != seen, timeout=every_s)  # noqa: B023

    def _update(self, **changes: Any) -> None:
        with self._changed:
            if not self._snapshot.ended:
                self._set(**changes)

    def _begin(self) -> bool:
        """Moves queued to running; False where the job was cancelled before."""
        with self._changed:
            if self._snapshot.ended:
                return False
            self._began = time.monotonic()
            self._set(state="running", ahead=0)
            return True

    def _receive(self, message: dict) -> bool:
        """Takes a message of `studio.worker.execute`; True where it was the last one."""
        kind = message["kind"]
        if kind == "progress":
            known = {k: message[k] for k in ("stage", "fraction", "message", "preview") if message.get(k) is not None}
            self._update(**known, eta_s=message.get("eta_s"))
        elif kind == "done":
            self._update(state="done", fraction=1.0, result=message.get("result"), eta_s=None)
        elif kind == "cancelled":
            self._update(state="cancelled", message="Cancelled.", eta_s=None)
        else:
            self._update(state=kind, message=message["message"], eta_s=None)
        return kind in TERMINAL

    def _set(self, **changes: Any) -> None:
        if self._began is not None and changes.get("state") in TERMINAL:
            changes["elapsed_s"] = time.monotonic() - self._began
        self._snapshot = dataclasses.replace(self._snapshot, **changes)
        self._changed.notify_all()

    def _with_clock(self) -> Snapshot:
        if self._began is None or self._snapshot.ended:
            return self._snapshot
        return dataclasses.replace(self._snapshot, elapsed_s=time.monotonic() - self._began)
