"""run.json: what a run was given, what it did, and what it cost."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from t4d.export.files import atomic_path
from t4d.export.machine import code_version, file_sha256, hardware, package_versions, thread_counts, tree_cost
from t4d.paths import REPO


@dataclass
class StageRecord:
    """Cost of one stage; `details` and `cached` are free for the stage to fill in.

    Attributes:
        name: Stage name.
        wall_seconds: Elapsed time.
        cpu_seconds: User and system time of this process and all of its descendants.
        peak_rss_bytes: Largest sampled sum of resident memory over the process tree.
        cached: The stage's outputs came from an earlier run.
        status: "running", "done", "failed" or "cancelled".
        details: Numbers worth keeping (JSON values).
    """

    name: str
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0
    cached: bool = False
    status: str = "running"
    details: dict[str, Any] = field(default_factory=dict)


class RunRecorder:
    """Measures a run and writes its manifest.

    The file is rewritten at the start, after every stage and at the end, whole each time, so that a run that dies
    leaves a manifest whose status says how far it came. Use as a context manager::

        with RunRecorder(out / "run.json", inputs=[mesh], prompt=prompt, config=config, seed=0) as recorder:
            with recorder.stage("diffusion") as record:
                record.details["steps"] = 25

    Args:
        path: The run.json to write.
        inputs: Files the run reads; recorded by name, size and sha256, never by folder.
        prompt: The sentence.
        config: The resolved config as JSON values.
        seed: The seed.
        weights: For example {"label": ..., "sha256": ...}; None when no weights were used.
        sample_seconds: Interval of the memory sampler.
    """

    def __init__(
        self,
        path: Path,
        *,
        inputs: Sequence[Path] = (),
        prompt: str = "",
        config: Mapping[str, Any] | None = None,
        seed: int | None = None,
        weights: Mapping[str, Any] | None = None,
        sample_seconds: float = 0.1,
    ) -> None:
        self.path = Path(path)
        self.stages: list[StageRecord] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.outputs: dict[str, dict[str, Any]] = {}
        self.weights = dict(weights) if weights is not None else None
        self.status, self.error = "running", None
        self.stopped = False  # True: ended early at the user's wish, with results; the status says so
        self._inputs = [Path(item) for item in inputs]
        self._facts: dict[str, Any] = {"prompt": prompt, "config": dict(config or {}), "seed": seed}
        self._sample_seconds = sample_seconds
        self._peak = 0
        self._open: list[StageRecord] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._sampler: threading.Thread | None = None
        self._begun_wall = self._begun_cpu = 0.0
        self._started = ""

    def __enter__(self) -> "RunRecorder":
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._begun_wall = time.perf_counter()
        self._facts["inputs"] = [
            {"name": item.name, "bytes": item.stat().st_size, "sha256": file_sha256(item)} for item in self._inputs
        ]
        self._facts |= {"code": code_version(REPO), "versions": package_versions(), "hardware": hardware()}
        self._begun_cpu = self._sample()
        self._stop.clear()
        self._sampler = threading.Thread(target=self._watch, name="run-memory-sampler", daemon=True)
        self._sampler.start()
        self.write()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        if self._sampler is not None:
            self._sampler.join()
        self.status = "stopped" if self.stopped and error is None else _status(error)
        # the message only: a trace would carry the machine's folders into a file made to be shared
        self.error = None if error is None else f"{type(error).__name__}: {error}"
        self.write()

    @contextmanager
    def stage(self, name: str) -> Iterator[StageRecord]:
        """Measure the block as stage `name`; stages may follow one another or nest (a nested cost counts in both)."""
        record = StageRecord(name)
        begun_wall, begun_cpu = time.perf_counter(), self._sample()
        with self._lock:
            self.stages.append(record)
            self._open.append(record)
        error: BaseException | None = None
        try:
            yield record
        except BaseException as caught:
            error = caught
            raise
        finally:
            record.cpu_seconds = round(self._sample() - begun_cpu, 3)
            record.wall_seconds = round(time.perf_counter() - begun_wall, 3)
            record.status = _status(error)
            with self._lock:
                self._open.remove(record)
            self.write()

    def set_prompt(self, prompt: str) -> None:
        """Record the sentence where it is known only later (a clip from elsewhere brings its own)."""
        self._facts["prompt"] = prompt

    def note(self, text: str) -> None:
        """Keep a remark (a choice that was made, a label of the weights); repeated remarks are kept once."""
        if text not in self.notes:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning the user should see; repeated warnings are kept once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def add_output(self, name: str, path: Path) -> None:
        """Record a produced file or folder by its path inside the run folder (its bare name elsewhere) and its size."""
        path = Path(path)
        files = [item for item in path.rglob("*") if item.is_file()] if path.is_dir() else [path]
        root = self.path.parent.resolve()
        inside = path.resolve().is_relative_to(root)
        shown = path.resolve().relative_to(root).as_posix() if inside else path.name
        self.outputs[name] = {"path": shown, "files": len(files), "bytes": sum(file.stat().st_size for file in files)}

    def manifest(self) -> dict[str, Any]:
        """The manifest so far, as JSON values."""
        with self._lock:
            stages = [asdict(record) for record in self.stages]
        return {
            "format": 1,
            "status": self.status,
            "error": self.error,
            "started": self._started,
            **self._facts,
            "weights": self.weights,
            "stages": stages,
            "totals": {
                "wall_seconds": round(time.perf_counter() - self._begun_wall, 3),
                "cpu_seconds": round(tree_cost()[0] - self._begun_cpu, 3),
                "peak_rss_bytes": self._peak,
            },
            "threads": thread_counts(),
            "outputs": self.outputs,
            "notes": self.notes,
            "warnings": self.warnings,
        }

    def write(self) -> None:
        """Write the manifest now (atomically).

        Raises:
            ValueError: When a value is not finite; JSON has no NaN.
            TypeError: When the config or a detail is not made of JSON values.
        """
        text = json.dumps(self.manifest(), indent=2, allow_nan=False, ensure_ascii=False)
        with atomic_path(self.path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    def _sample(self) -> float:
        """CPU-seconds of the tree so far; raises the memory peaks on the way."""
        cpu, rss = tree_cost()
        with self._lock:
            self._peak = max(self._peak, rss)
            for record in self._open:
                record.peak_rss_bytes = max(record.peak_rss_bytes, rss)
        return cpu

    def _watch(self) -> None:
        while not self._stop.wait(self._sample_seconds):
            self._sample()


def _status(error: BaseException | None) -> str:
    """Status word for how a block ended."""
    from t4d.errors import Cancelled

    if error is None:
        return "done"
    return "cancelled" if isinstance(error, Cancelled | GeneratorExit | KeyboardInterrupt) else "failed"
