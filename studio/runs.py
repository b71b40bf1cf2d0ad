"""Run folders and uploads on disk: names nobody can guess, size limits, clean-up by age. Pages hold ids only."""

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from t4d.errors import InputError
from t4d.paths import REPO

RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{24}")
HOUR = 3600.0


@dataclass(frozen=True)
class Run:
    """A finished run that a page can show again.

    Attributes:
        id: the folder's name; 96 random bits, so that a link to a run is known to its maker only.
        folder: absolute path.
        title: object and prompt, for the history list.
        made: Unix seconds.
    """

    id: str
    folder: Path
    title: str
    made: float


class Workspace:
    """The studio's folder: ``<id>/`` per run, and ``private/`` (uploads, stage cache), which is never served.

    Args:
        root: made if missing; None uses ``$T4D_RUNS``, else ``runs/studio`` of the repository.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = Path(root or os.environ.get("T4D_RUNS") or REPO / "runs" / "studio").resolve()
        self.private = self.root / "private"
        self.uploads = self.private / "uploads"
        self.stages = self.private / "stages"
        try:
            self.uploads.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The studio's folder {self.root} cannot be written ({error.strerror}); set T4D_RUNS to one that can."
            ) from error

    def new_run(self, title: str) -> Path:
        """Makes an empty run folder whose ``title.json`` names it in the history."""
        folder = self.root / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(12)}"
        folder.mkdir()
        (folder / "title.json").write_text(json.dumps({"title": title}))
        return folder

    def drop_run(self, run: Path) -> None:
        """Deletes a run folder."""
        shutil.rmtree(run, ignore_errors=True)

    def history(self, ids: list[str]) -> list[Run]:
        """The runs of these ids that still exist and have a result, newest first. Other names are ignored."""
        found = []
        for run_id in ids:
            folder = self.root / run_id
            if RUN_ID.fullmatch(run_id) and (folder / "run.json").is_file() and (folder / "player.html").is_file():
                title = json.loads((folder / "title.json").read_text())["title"]
                found.append(Run(run_id, folder, title, folder.stat().st_mtime))
        return sorted(found, key=lambda run: run.id, reverse=True)

    def session_uploads(self, session: str) -> Path:
        """The upload folder of a browser session; the session name comes from the browser, hence the hash."""
        return self.uploads / hashlib.sha256(session.encode()).hexdigest()[:24]

    def forget_session(self, session: str) -> None:
        """Deletes a session's uploads."""
        shutil.rmtree(self.session_uploads(session), ignore_errors=True)

    def lend_input(self, source: Path, run: Path) -> Path:
        """The object file for a job: one of ours as it is, an upload as a linked copy under the run's name.

        A new upload or the end of the session can then not pull the files from under a running job.

        Args:
            source: the object file; an uploaded one lies somewhere inside ``uploads/<session>/<token>``.
            run: folder of the run; the copy is dropped with `return_input`.
        """
        if self.uploads not in source.parents:
            return source
        session, token, *inside = source.relative_to(self.uploads).parts
        target = self.uploads / run.name
        shutil.copytree(self.uploads / session / token, target, copy_function=_link)
        os.utime(target)  # copytree copies the upload's age, by which `clean` would judge the copy
        return target.joinpath(*inside)

    def return_input(self, run: Path) -> None:
        """Drops what `lend_input` made."""
        shutil.rmtree(self.uploads / run.name, ignore_errors=True)

    def clean(self, runs_hours: float = 24 * 7, uploads_hours: float = 12) -> int:
        """Deletes runs and uploads older than this; returns how many folders.

        What `lend_input` lent is as old as its run may be: a job reads its object again at its end.
        """
        now, count = time.time(), 0
        for folder, hours in [
            *((f, runs_hours) for f in self.root.iterdir() if RUN_ID.fullmatch(f.name)),
            *((f, runs_hours if RUN_ID.fullmatch(f.name) else uploads_hours) for f in self.uploads.iterdir()),
        ]:
            try:
                age = now - folder.stat().st_mtime
            except FileNotFoundError:  # a page was closed, or a job ended, since the list was made
                continue
            if age > hours * HOUR:
                shutil.rmtree(folder, ignore_errors=True)
                count += 1
        return count


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
