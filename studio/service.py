"""What the animate page asks for, without widgets: choose a source, start, stop, result. Tested without a browser."""

import dataclasses
import json
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from studio import settings, uploads
from studio.gallery import GalleryObject, read_gallery
from studio.job import Job, Snapshot
from studio.jobs import Runner
from studio.runs import Workspace
from t4d.config import Config
from t4d.errors import InputError
from t4d.prompt import checked_prompt

ANIMATE = "studio.tasks:animate"
INSPECT = "studio.tasks:inspect"
INSPECT_S = 60.0


@dataclass(frozen=True)
class Source:
    """The chosen object: its file on the server and the name shown."""

    path: str
    name: str
    uploaded: bool


@dataclass(frozen=True)
class Files:
    """Result files of a run."""

    clip: Path
    orbit: Path
    player: Path
    downloads: tuple[Path, ...]
    notes: tuple[str, ...]
    stopped: bool


class Studio:
    """One studio: its folder, its worker and its objects.

    Args:
        workspace: where runs and uploads lie.
        runner: where heavy work goes.
        task: ``module:function`` that animates (tests give their own).
        inspect: ``module:function`` that looks into an upload.
    """

    def __init__(self, workspace: Workspace, runner: Runner, task: str = ANIMATE, inspect: str = INSPECT) -> None:
        self.workspace, self.runner = workspace, runner
        self.task, self.inspect = task, inspect
        self.gallery: list[GalleryObject] = read_gallery()
        self._jobs: dict[str, Job] = {}
        self._starting = threading.Lock()  # two clicks of one session at once are one job

    def upload(self, files: Sequence[str], session: str) -> tuple[Source, dict | None]:
        """Takes an upload and, where the worker is free, looks into it.

        Returns:
            The source, and `studio.tasks.inspect`'s result or None where that is left to the job.

        Raises:
            InputError: why it cannot be used; the upload is deleted.
        """
        path = uploads.stage_upload([Path(file) for file in files], self.workspace.session_uploads(session))
        source = Source(str(path), path.name, uploaded=True)
        if not self.runner.idle:
            return source, None
        job = self.runner.submit(self.inspect, {"path": source.path}, self.workspace.private / "inspect")
        last = Snapshot()
        for last in job.watch():
            if last.elapsed_s > INSPECT_S:
                job.cancel()
        if last.state == "refused":
            self.workspace.forget_session(session)
            raise InputError(last.message)
        if last.state == "failed":
            self.workspace.forget_session(session)
            raise InputError(f"{source.name} could not be read. {last.message}")
        return source, last.result

    def start(
        self,
        session: str,
        source: Source | None,
        prompt: str,
        seed: float | None,
        preset: str,
        given: Sequence[float | None],
        variant: str = "full",
    ) -> tuple[Job, Path]:
        """Checks everything that can be checked here and queues the job.

        Returns:
            The job and its run folder.

        Raises:
            InputError: nothing chosen, an unusable prompt, seed or setting, a job of this session still running.
        """
        if source is None:
            raise InputError("No object is chosen; pick one from the gallery or upload a file.")
        if not Path(source.path).is_file():
            raise InputError(f"The upload {source.name} is no longer here; upload it again.")
        self._check_free(session)
        text = checked_prompt(prompt)
        if seed is None or not math.isfinite(seed) or seed != int(seed):
            raise InputError(f"The seed is {seed!r}; enter a whole number from 0 to 2147483647.")
        config = Config.load(preset, [f"seed={int(seed)}", *settings.overrides(given)], variant)
        self.workspace.clean()
        run = self.workspace.new_run(f"{Path(source.name).stem} · {text}")
        try:
            payload = {
                "path": str(self.workspace.lend_input(Path(source.path), run)),
                "prompt": text,
                "out": str(run),
                "cache": str(self.workspace.stages),
                "config": config.model_dump(mode="json"),
            }
            with self._starting:
                self._check_free(session)
                job = self._jobs[session] = self.runner.submit(self.task, payload, run)
        except (InputError, OSError) as error:
            self.workspace.return_input(run)
            self.workspace.drop_run(run)
            if isinstance(error, InputError):
                raise
            why = error.strerror or "its files could not be copied"
            raise InputError(f"The upload {source.name} cannot be used ({why}); upload it again.") from error
        return job, run

    def _check_free(self, session: str) -> None:
        running = self._jobs.get(session)
        if running is not None and not running.snapshot.ended:
            raise InputError("A job of yours is still running; wait for it or stop it.")

    def finish(self, session: str, job: Job, run: Path) -> None:
        """Ends what `start` began, however the job or the page went."""
        if not job.snapshot.ended:
            job.cancel()
        if self._jobs.get(session) is job:
            del self._jobs[session]
        self.workspace.return_input(run)

    def stop(self, session: str) -> bool:
        """Stops the session's job, which keeps the asset so far where there is one; False where none runs."""
        job = self._jobs.get(session)
        if job is None:
            return False
        job.stop()
        return True

    def leave(self, session: str) -> None:
        """The page was closed: its job ends, unseen, and its uploads go."""
        job = self._jobs.get(session)
        if job is not None:
            job.cancel()
        self.workspace.forget_session(session)

    def files(self, run: Path) -> Files:
        """The files of a finished run."""
        names = ("frames.zip", "animated.glb", "asset.safetensors", "clip.mp4", "orbit.mp4", "player.html", "run.json")
        names += ("tracks/tracks.npz", "tracks/tracks.csv", "clip.safetensors")
        manifest = json.loads((run / "run.json").read_text())
        return Files(
            run / "clip.mp4",
            run / "orbit.mp4",
            run / "player.html",
            tuple(run / name for name in names if (run / name).is_file()),
            tuple(manifest.get("warnings", ())),
            manifest.get("status") == "stopped",
        )


def to_state(source: Source) -> dict:
    """A source as JSON, for the page's state."""
    return dataclasses.asdict(source)


def from_state(state: dict | None) -> Source | None:
    """The inverse of `to_state`."""
    return None if state is None else Source(**state)
