"""Heavy work outside the web process: one spawned worker, jobs one at a time, progress, cancel and crash recovery.

Why a process: numba's workqueue threading layer aborts its process when two threads enter it, and torch threads, leaks
and kills must stay out of the server. Why spawned: the web process has threads, and never imports torch.
"""

import atexit
import collections
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from studio.inline import InlineJobs
from studio.job import Job
from studio.worker import STOP, serve, write_log
from t4d.errors import InputError

POLL_S = 0.1


class Runner(Protocol):
    """What the pages need of `Jobs` or `InlineJobs`."""

    def submit(self, target: str, payload: Mapping[str, Any], folder: Path) -> Job:
        """Queues a task (see `studio.worker.execute` for `target`); `folder` takes its log."""
        ...

    @property
    def idle(self) -> bool:
        """True where a submitted job would begin at once."""
        ...

    def close(self) -> None:
        """Stops the work."""
        ...


class Jobs:
    """The queue and its single worker process, which starts with the first job and restarts after a crash.

    Args:
        limit: jobs that may wait; one more is refused with a sentence.
        grace_s: seconds a cancelled job may take to stop by itself before its process is killed.
        keep_s: seconds between two signs of life of a job that was stopped and writes what it has.
    """

    def __init__(self, limit: int = 20, grace_s: float = 10.0, keep_s: float = 120.0) -> None:
        self.limit, self.grace_s, self.keep_s = limit, grace_s, keep_s
        self._context = multiprocessing.get_context("spawn")
        self._waiting: collections.deque[Job] = collections.deque()
        self._current: Job | None = None
        self._lock = threading.Condition()
        self._process: Any = None
        self._connection: Any = None
        self._thread: threading.Thread | None = None
        self._closed = False
        atexit.register(self.close)

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker, None before the first job."""
        return None if self._process is None else self._process.pid

    @property
    def idle(self) -> bool:
        """True where a submitted job would begin at once."""
        with self._lock:
            return self._current is None and not self._waiting

    def submit(self, target: str, payload: Mapping[str, Any], folder: Path) -> Job:
        """Queues a task.

        Args:
            target: ``"module:function"`` of a generator, see `studio.worker.execute`.
            payload: JSON values.
            folder: the run folder; takes ``log.txt``.

        Raises:
            InputError: too many jobs wait, or the studio is closing.
        """
        job = Job(target, payload, folder)
        with self._lock:
            self._waiting = collections.deque(j for j in self._waiting if not j.snapshot.ended)
            if self._closed:
                raise InputError("The studio is shutting down; start it again and repeat the request.")
            if len(self._waiting) >= self.limit:
                raise InputError(f"{len(self._waiting)} jobs are waiting already; try again in a few minutes.")
            self._waiting.append(job)
            self._renumber()
            if self._thread is None:
                self._thread = threading.Thread(target=self._dispatch, name="studio-jobs", daemon=True)
                self._thread.start()
            self._lock.notify_all()
        return job

    def close(self) -> None:
        """Kills the worker and ends every job; safe to call twice."""
        with self._lock:
            self._closed = True
            jobs = [*self._waiting, *([self._current] if self._current else [])]
            self._waiting.clear()
            self._lock.notify_all()
        for job in jobs:
            job._update(state="cancelled", message="The studio was closed.")
            job.cancel()
        self._kill()

    def _renumber(self) -> None:
        for index, job in enumerate(self._waiting):
            job._update(ahead=index + (self._current is not None))

    def _dispatch(self) -> None:
        while True:
            with self._lock:
                self._current = None
                self._lock.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                self._current = job = self._waiting.popleft()
                self._renumber()
            if job._begin():
                try:
                    self._run(job)
                except Exception as error:  # whatever happens here, the next job must find a dispatcher
                    self._kill()
                    job._update(state="failed", message=f"The worker could not be used ({error}); try again.")

    def _run(self, job: Job) -> None:
        order = {"id": job.id, "target": job.target, "payload": dict(job.payload), "folder": job.folder}
        self._send_or_restart(order)
        deadline, asked, keeps = None, 0, False
        while True:
            try:
                if self._connection.poll(POLL_S):
                    message = json.loads(self._connection.recv_bytes())
                    if message["id"] == job.id:
                        if job._receive(message):
                            return
                        keeps = bool(message.get("keeps"))
                        if asked == STOP and keeps:
                            deadline = time.monotonic() + self.keep_s
                if job.asked > asked:
                    asked = job.asked
                    self._connection.send_bytes(json.dumps({"id": job.id, "asked": asked}).encode())
                    deadline = time.monotonic() + (self.keep_s if keeps and asked == STOP else self.grace_s)
            except (EOFError, OSError):
                self._after_crash(job)
                return
            if deadline is not None and time.monotonic() > deadline:
                self._kill()
                job._update(state="cancelled", message="Cancelled.", eta_s=None)
                return

    def _send_or_restart(self, order: dict) -> None:
        if self._process is not None and not self._process.is_alive():
            self._kill()
        if self._process is None:
            self._start()
        try:
            self._connection.send_bytes(json.dumps(order).encode())
        except OSError:  # it died while idle
            self._kill()
            self._start()
            self._connection.send_bytes(json.dumps(order).encode())

    def _start(self) -> None:
        ours, theirs = self._context.Pipe(duplex=True)
        process = self._context.Process(target=serve, args=(theirs,), name="studio-worker", daemon=True)
        process.start()
        theirs.close()  # so that the worker's death is an end of file here
        # only a started process can be killed, and one that starts while the studio closes has nobody else to do it
        self._process, self._connection = process, ours
        if self._closed:
            self._kill()
            raise OSError("the studio is closing")

    def _after_crash(self, job: Job) -> None:
        process = self._process
        process.join(5)
        code = process.exitcode
        self._kill()
        if job.asked:
            job._update(state="cancelled", message="Cancelled.", eta_s=None)
            return
        write_log(job.folder, f"The worker process ended with exit code {code} (negative: the signal that killed it).")
        cause = (
            "was killed by the system, most likely because memory ran out; use fewer Gaussians or a smaller clip"
            if code == -9
            else f"stopped unexpectedly (exit code {code})"
        )
        job._update(state="failed", message=f"The worker {cause}; the studio is ready for the next job.", eta_s=None)

    def _kill(self) -> None:
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is not None:
            process.kill()
            process.join(5)
        if connection is not None:
            connection.close()


def make_runner() -> Runner:
    """`InlineJobs` under ZeroGPU, else the spawned worker."""
    return InlineJobs() if os.environ.get("SPACES_ZERO_GPU") else Jobs()
