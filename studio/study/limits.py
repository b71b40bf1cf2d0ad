"""Limits on how often something may happen, and the log of what was refused. Neither keeps addresses."""

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_NAME = "refused.log"
LOG_BYTES = 2**20
LOG_FILES = 3
MAX_LINE = 400
_PROGRAM = logging.getLogger("studio.study")


class Budget:
    """At most ``count`` events within any ``window_s`` seconds, over all visitors together.

    Counting visitors apart would need their addresses, which a study does not keep and a proxy hides or forges.

    Args:
        count: events allowed.
        window_s: length of the sliding window, seconds.
        clock: seconds, never going back.
    """

    def __init__(self, count: int, window_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.count, self.window_s, self._clock = count, window_s, clock
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Uses up one event; False, and nothing used up, where none is left."""
        with self._lock:
            self._forget()
            if len(self._times) >= self.count:
                return False
            self._times.append(self._clock())
            return True

    def give_back(self) -> None:
        """Undoes the newest ``take()``."""
        with self._lock:
            if self._times:
                self._times.pop()

    @property
    def wait_s(self) -> float:
        """Seconds until an event is left; 0 where one is."""
        with self._lock:
            self._forget()
            full = len(self._times) >= self.count
            return self._times[0] + self.window_s - self._clock() if full else 0.0

    def _forget(self) -> None:
        while self._times and self._times[0] <= self._clock() - self.window_s:
            self._times.popleft()


class _FileHandler(RotatingFileHandler):
    """Where a line cannot be written, says so in one line instead of `logging`'s page of traceback."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Called by `emit` inside its ``except``."""
        why = sys.exc_info()[1]
        _PROGRAM.warning("%s (%s could not be written: %s)", record.getMessage(), LOG_NAME, why)


class RefusalLog:
    """Lines about refused requests in ``FOLDER/refused.log`` (1 MB, three files kept), without codes or addresses.

    Args:
        folder: the study's folder; None logs to the program's own log only.
    """

    def __init__(self, folder: Path | None) -> None:
        self._log = logging.Logger("studio.study")
        self._handler: logging.Handler = logging.StreamHandler()
        if folder is not None:
            # delay: a read-only folder must not keep the study from opening
            self._handler = _FileHandler(
                folder / LOG_NAME, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8", delay=True
            )
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self._log.addHandler(self._handler)

    def refused(self, event: str, reason: str) -> None:
        """Writes one line; control characters are escaped and long reasons cut."""
        line = f"{event}: {reason}".encode("unicode_escape").decode()[:MAX_LINE]
        self._log.warning(line)

    def failed(self, event: str) -> None:
        """Reports an unexpected error, with its traceback, to the program's log."""
        _PROGRAM.exception("%s failed", event)

    def close(self) -> None:
        """Closes the file."""
        self._handler.close()
