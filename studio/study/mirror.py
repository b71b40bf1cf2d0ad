"""``answers.jsonl``: the journal as a file that any tool reads, one JSON object a line, and that restores the database.

It holds everything the database does, recruiting parameters included, so it is private; what to publish is `export`'s.
"""

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from sqlmodel import col, select

from studio.study.contract import NotSaved
from studio.study.database import Database
from studio.study.models import Journal
from t4d.errors import InputError

_LOG = logging.getLogger(__name__)
_TAIL = 2**16


class Mirror:
    """The file beside the database. The database is the truth; the mirror follows it, from any process.

    Args:
        path: the file.
        database: whose journal it copies.
        lock: file that processes lock while they write; on the local disk, which the mirror may not be.
    """

    def __init__(self, path: Path, database: Database, lock: Path) -> None:
        self.path = path
        self._database = database
        self._last, self._size = 0, -1
        self._lock = FileLock(lock, timeout=10, mode=0o600)

    def follow(self, required: bool = False) -> None:
        """Appends what the journal has and the file has not. A failure is logged and made good by the next call.

        Args:
            required: what is missing in the file is not safe, so a failure is raised.

        Raises:
            NotSaved: the file could not be written, and it is required.
        """
        try:
            with self._lock:
                if not self.path.is_file() or self.path.stat().st_size != self._size:
                    self._last = self._last_in_file()  # another process wrote, or this one could not
                self._append(self._entries(self._last))
        except (OSError, Timeout, InputError) as error:
            self._failed(error)
            if required:
                raise NotSaved(
                    "Your answers could not be saved (the storage that lasts takes nothing now); they stay on this "
                    "page, so try again in a minute."
                ) from error

    def rebuild(self) -> None:
        """Makes the file equal to the journal: appends what is missing, rewrites it where a line differs or is torn.

        A file that had to be rewritten stays beside the new one, as ``answers-TIME.jsonl``. A failure is logged.
        """
        try:
            self._rebuild(keep=True)
        except (OSError, Timeout, InputError) as error:
            self._failed(error)

    def forget(self, participant: str) -> None:
        """Drops a participant's lines from the file and from kept older ones, before the database drops the rows.

        Raises:
            OSError: a file cannot be written.
        """
        with self._lock:
            for file in (self.path, *self.path.parent.glob(f"{self.path.stem}-*.jsonl")):
                lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
                left = [line for line in lines if participant.encode() not in line]
                if left != lines:
                    _replace(file, b"".join(left))
            self._size = -1

    def forgotten(self) -> None:
        """Makes the file equal to the journal, which no longer has the participant, and keeps no older copy.

        Raises:
            OSError: the file cannot be written.
        """
        self._rebuild(keep=False)

    def _rebuild(self, keep: bool) -> None:
        with self._lock:
            entries = self._entries(0)
            wanted = [_line(entry) for entry in entries]
            found = self.path.read_bytes().splitlines(keepends=True) if self.path.is_file() else []
            if found == wanted[: len(found)]:
                self._append(entries[len(found) :])
            else:
                if keep:  # a copy: at no moment is there no file
                    stamp = time.strftime("%Y%m%d-%H%M%S")
                    copy = self.path.with_name(f"{self.path.stem}-{stamp}-{secrets.token_hex(3)}.jsonl")
                    copy.touch(mode=0o600)
                    shutil.copyfile(self.path, copy)
                self._size = _replace(self.path, b"".join(wanted))
            self._last = (entries[-1].n or 0) if entries else 0  # also where nothing was missing

    def _failed(self, error: Exception) -> None:
        self._size = -1
        _LOG.warning("answers.jsonl could not be written (%s); the database has everything", error)

    def _entries(self, after: int) -> Sequence[Journal]:
        with self._database.read() as session:
            return session.exec(select(Journal).where(col(Journal.n) > after).order_by(col(Journal.n))).all()

    def _append(self, entries: Sequence[Journal]) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            data = b"".join(_line(entry) for entry in entries)
            size = os.fstat(descriptor).st_size
            if data and os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, size)
                raise OSError("no space for a whole line")
            self._size = size + len(data)
        finally:
            os.close(descriptor)
        if entries:
            self._last = entries[-1].n or 0

    def _last_in_file(self) -> int:
        """Number of the last whole line; a torn one is cut off."""
        if not self.path.is_file():
            return 0
        with self.path.open("r+b") as file:
            size = start = file.seek(0, os.SEEK_END)
            tail = b""
            while start and tail.count(b"\n") < 2:  # a consent's line, with its plan, may be long
                start = max(0, size - max(_TAIL, 2 * len(tail)))
                file.seek(start)
                tail = file.read()
            end = tail.rfind(b"\n") + 1
            if end < len(tail):
                file.truncate(start + end)
            lines = tail[:end].splitlines()
        try:
            return int(json.loads(lines[-1])["n"]) if lines else 0
        except (ValueError, TypeError, KeyError):
            raise OSError("its last line is not one of this program's; start the study again to rewrite it") from None


def read_entries(path: Path) -> list[dict]:
    """The entries of a mirror, up to the first damaged line; none where the file is missing."""
    entries = []
    if path.is_file():
        for line in path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
                n, participant, kind, body = (entry[key] for key in ("n", "participant", "kind", "body"))
                entries.append({"n": int(n), "participant": str(participant), "kind": str(kind), "body": dict(body)})
            except (ValueError, TypeError, KeyError):
                break
    return entries


def _replace(file: Path, data: bytes) -> int:
    """Puts other bytes in a file's place, at once; returns their number."""
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())
    part.replace(file)
    return len(data)


def _line(entry: Journal) -> bytes:
    body = json.loads(entry.body)
    return _dump({"n": entry.n, "participant": entry.participant, "kind": entry.kind, "body": body})


def _dump(entry: dict) -> bytes:
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
