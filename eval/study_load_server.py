"""A served study as a process of its own, on one port through every kill and restart."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from t4d.paths import REPO

SERVE = (sys.executable, "-m", "studio.study", "serve")
READY_S = 180.0


class Server:
    """``python -m studio.study serve FOLDER`` under a program's hand; as a context it runs from start to stop.

    Args:
        folder: The study folder.
        log: Where the server's output is appended.
        prefix: Words before the command, such as ``setpriv`` and its options.
        environment: Variables beside those of this process.
    """

    def __init__(
        self, folder: Path, log: Path, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.log, self.prefix = folder, log, prefix
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.starts = 0
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> "Server":
        try:
            self.start()
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Id of the running process."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def start(self) -> None:
        """Starts the process; `wait` tells when it answers."""
        command = [*self.prefix, *SERVE, str(self.folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=REPO, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.starts += 1

    def wait(self, limit_s: float = READY_S) -> float:
        """Waits until the page is served; returns the seconds it took.

        Raises:
            RuntimeError: the process ended, or nothing answered in `limit_s` seconds; with the end of its output.
        """
        assert self._process is not None, "the server was not started"
        began = time.monotonic()
        while time.monotonic() - began < limit_s:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with code {self._process.returncode}: {self.output()}")
            try:
                if httpx.get(self.url, timeout=10).status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise RuntimeError(f"the server did not answer within {limit_s:.0f} s: {self.output()}")

    def kill(self) -> None:
        """SIGKILL: no handler of the server runs, nothing is flushed."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ctrl-C, as a researcher ends the study; killed where it has not ended after 20 s."""
        self._end(signal.SIGINT)

    def output(self, characters: int = 2000) -> str:
        """The end of what the server printed."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.is_file() else ""

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
