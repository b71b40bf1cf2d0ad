"""The worker process's side of a job: run one named generator, report by JSON lines, stop when asked.

This module and what it imports stay free of gradio (the worker does not need it) and of torch (a task imports torch
itself, when it runs). Messages between the processes are JSON; nothing is unpickled.
"""

import importlib
import json
import math
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from t4d.errors import Cancelled, InputError

TERMINAL = ("done", "refused", "failed", "cancelled")
STOP, DROP = 1, 2  # what a user can ask of a job: to end with what it has, where it can; to end at once
LOG_NAME = "log.txt"


def execute(target: str, payload: Mapping[str, Any], folder: str, asked: Callable[[], int]) -> Iterator[dict]:
    """Runs one task to its end and turns whatever happens into messages.

    Args:
        target: ``"module:function"``; the function is called as ``function(payload, asked)`` and yields mappings with
            any of ``stage, fraction, message, eta_s, preview, result, keeps`` (JSON values). A task that ends by
            itself with what it has when it is asked to `STOP` says ``keeps: True``; others are cancelled.
        payload: JSON values.
        folder: where ``log.txt`` with the traceback goes when the task breaks.
        asked: 0, `STOP` or `DROP`: what the user asked for; polled by the task and between its steps.

    Yields:
        ``{"kind": "progress", ...}`` any number of times, then exactly one of the kinds in `TERMINAL`. The message of
        ``refused`` is the sentence of an `InputError`; that of ``failed`` is a sentence of our own.
    """
    result = None
    try:
        module, _, name = target.partition(":")
        steps = getattr(importlib.import_module(module), name)(payload, asked)
        try:
            for step in steps:
                if asked() >= (DROP if step.get("keeps") else STOP):
                    raise Cancelled
                if step.get("result") is not None:
                    result = step["result"]
                yield {"kind": "progress", **_finite(step)}
        finally:
            steps.close()
        yield {"kind": "done", "result": result}
    except Cancelled:
        yield {"kind": "cancelled"}
    except InputError as error:
        yield {"kind": "refused", "message": str(error)}
    except Exception as error:
        write_log(folder, traceback.format_exc())
        yield {"kind": "failed", "message": _sentence(error)}


def serve(connection: Connection) -> None:
    """Main loop of the worker process: jobs come in, messages go out; ends when the web process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the web process decides
    jobs: queue.SimpleQueue[dict] = queue.SimpleQueue()
    asked: dict[str, int] = {}
    threading.Thread(target=_listen, args=(connection, jobs, asked), daemon=True).start()
    while True:
        job = jobs.get()
        identifier = job["id"]
        for message in execute(job["target"], job["payload"], job["folder"], lambda: asked.get(identifier, 0)):  # noqa: B023
            connection.send_bytes(json.dumps({"id": identifier, **message}).encode())
        asked.pop(identifier, None)


def write_log(folder: str, text: str) -> None:
    """Appends to ``log.txt`` of a run folder, made if missing."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with (path / LOG_NAME).open("a") as file:
        file.write(text.rstrip() + "\n")


def _listen(connection: Connection, jobs: "queue.SimpleQueue[dict]", asked: dict[str, int]) -> None:
    while True:
        try:
            message = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)  # the web process is gone, however it went; a job that nobody sees must not run on
        if "asked" in message:
            asked[message["id"]] = message["asked"]
        else:
            jobs.put(message)


def _finite(step: Mapping[str, Any]) -> dict:
    """JSON has no NaN or infinity: an unknown ETA is null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in step.items()}


def _sentence(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return "The machine ran out of memory; lower the number of Gaussians or the clip size and try again."
    text = " ".join(str(error).split())[:160]
    detail = f"{name}: {text}" if text else name
    return f"Something went wrong inside the studio ({detail}); the details are in {LOG_NAME} of the run folder."
