"""Jobs in this process, for ZeroGPU, which forks its own GPU worker around each call."""

import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.job import Job, Snapshot
from studio.worker import DROP, STOP, execute, write_log


class InlineJobs:
    """The interface of `studio.jobs.Jobs` without a process of our own.

    The task runs in the thread that iterates ``watch()``: ZeroGPU identifies the visitor by that thread's context.

    Args:
        gpu_seconds: the GPU time asked for per job.
    """

    def __init__(self, gpu_seconds: int = 120) -> None:
        self._execute: Callable[..., Iterator[dict]] = execute
        if os.environ.get("SPACES_ZERO_GPU"):
            import spaces  # pyright: ignore[reportMissingImports]  # present on ZeroGPU machines

            on_gpu = spaces.GPU(duration=gpu_seconds)(_execute_uncancellable)
            self._execute = lambda target, payload, folder, _asked: on_gpu(target, dict(payload), str(folder))

    @property
    def idle(self) -> bool:
        """True: each visitor's call is its own."""
        return True

    def submit(self, target: str, payload: Mapping[str, Any], folder: Path) -> Job:
        """Makes a job that runs while its ``watch()`` is iterated."""
        return _InlineJob(target, payload, folder, self._execute)

    def close(self) -> None:
        """Nothing runs outside a call."""


class _InlineJob(Job):
    def __init__(
        self, target: str, payload: Mapping[str, Any], folder: Path, run: Callable[..., Iterator[dict]]
    ) -> None:
        super().__init__(target, payload, folder)
        self._run = run

    def watch(self, every_s: float = 1.0) -> Iterator[Snapshot]:
        """Runs the task and yields after each of its steps."""
        if not self._begin():
            yield self.snapshot
            return
        yield self.snapshot
        try:
            for message in self._run(self.target, self.payload, self.folder, lambda: self.asked):
                self._receive(message)
                yield self.snapshot
                if self.asked >= (DROP if message.get("keeps") else STOP) and not self.snapshot.ended:
                    self._receive({"kind": "cancelled"})
                    yield self.snapshot
                if self.snapshot.ended:
                    return
        except Exception as error:  # not the task's, which `execute` tells, but ZeroGPU's: no GPU left, time used up
            write_log(str(self.folder), traceback.format_exc())
            self._receive({"kind": "failed", "message": f"The GPU was not lent or was taken back: {error}"})
            yield self.snapshot


def _execute_uncancellable(target: str, payload: Mapping[str, Any], folder: str) -> Iterator[dict]:
    # ZeroGPU pickles what it is given for its fork, which cannot see what is asked in this process: a stopped job ends
    # when its generator is closed.
    for message in execute(target, payload, folder, lambda: 0):
        yield {**message, "keeps": False}
