"""User studies of the studio: drafting, preparing, previewing and rating them, without widgets.

Raters' pages are those of `studio.study`; here the studio's own server shows them to whoever runs the studio.
"""

import json
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import gradio as gr
from fastapi import FastAPI
from starlette.routing import Mount

from studio.runs import RUN_ID, Workspace
from t4d.errors import InputError

if TYPE_CHECKING:  # scipy, PyAV and the database load when a study is used
    from studio.study.app import ServedStudy
    from studio.study.media import Prepared
    from studio.study.service import StudyService

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
ADDRESS = "/study/"


class Studies:
    """The studies in one folder, ``NAME.yaml`` and the prepared ``NAME/`` each, and their pages in a running server.

    Args:
        workspace: of the studio; studies lie in its part that is never served.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.root = workspace.private / "studies"
        self._previews = tempfile.TemporaryDirectory(prefix="t4d-preview-", ignore_cleanup_errors=True)
        self._open: dict[str, ServedStudy] = {}
        self._previewed: ServedStudy | None = None
        self._routes: dict[int, tuple[FastAPI, Mount]] = {}
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """Prepared studies, the newest first."""
        found = [path for path in self.root.glob("*/study.yaml") if NAME.fullmatch(path.parent.name)]
        return [path.parent.name for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]

    def runs(self) -> list[tuple[str, str]]:
        """(title with the variant, id) of the studio's finished runs, newest first."""
        names = [path.name for path in self.workspace.root.iterdir() if RUN_ID.fullmatch(path.name)]
        found = []
        for run in self.workspace.history(names):
            manifest = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
            found.append((f"{run.title} · {manifest.get('config', {}).get('variant', 'full')}", run.id))
        return found

    def draft(
        self, name: str, title: str, folders: Iterable[str], runs: Sequence[str], video: Literal["orbit", "clip"]
    ) -> tuple[str, tuple[str, ...]]:
        """A study file of what methods have produced, to be read and edited before `prepare`.

        Args:
            name: of the study, 1 .. 40 of a-z, 0-9, - and _.
            title: shown to raters.
            folders: lines as ``python -m studio.study init`` takes them.
            runs: ids of the studio's runs; a run's variant is its method.
            video: which video of a run.

        Returns:
            YAML, and notes about what was left out or guessed.

        Raises:
            InputError: nothing usable, or the name is taken.
        """
        from studio.study.folder import dump_study
        from studio.study.sources import draft_study

        path = self._file(name)
        if path.with_suffix("").exists():
            raise InputError(f"There is a study '{name}' already; give another name.")
        chosen = [line.strip() for line in folders if line.strip()]
        chosen += [str(run.folder) for run in self.workspace.history(list(runs))]
        if not chosen:
            raise InputError("Nothing is chosen; tick runs, or give folders, one per line.")
        draft = draft_study(chosen, self.root, video=video, title=title.strip() or "User study")
        return dump_study(draft.study), draft.notes

    def prepare(self, name: str, text: str, progress: Callable[[str], None] = lambda line: None) -> "Prepared":
        """Writes the study file and makes the folder that raters are served from.

        Raises:
            InputError: the text is not a study, a file of it cannot be used, or answers belong to another design.
        """
        from studio.study.media import prepare

        path = self._file(name)
        self.root.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{name}-{secrets.token_hex(4)}.yaml")  # what is prepared is replaced by what works only
        part.write_text(text, encoding="utf-8")
        try:
            with self._lock:
                prepared = prepare(part, path.with_suffix(""), progress)
                part.replace(path)
                self.close(name)  # the next look at it reads the new texts
        except InputError as error:
            raise InputError(str(error).replace(str(part), "The study file")) from error
        finally:
            part.unlink(missing_ok=True)
        return prepared

    def text(self, name: str) -> str:
        """The study file as it was written, to be edited; empty where only the prepared folder is here."""
        path = self._file(name)
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def folder(self, name: str) -> Path:
        """The prepared folder.

        Raises:
            InputError: there is no such study.
        """
        folder = self._file(name).with_suffix("")
        if not (folder / "study.yaml").is_file():
            raise InputError(f"There is no study '{name}' here; prepare one first.")
        return folder

    def service(self, name: str) -> "StudyService":
        """The study's service, one for all pages of this process.

        Raises:
            InputError: there is no such study, or it cannot be opened.
        """
        return self._served(name).service

    def rate(self, name: str, app: FastAPI) -> str:
        """Shows the study to raters in the studio's server; what they answer counts.

        Args:
            name: of the study.
            app: the studio's running server.

        Returns:
            The page's address, relative to the studio's.
        """
        with self._lock:
            return self._mount(self._served(name), app)

    def preview(self, name: str, app: FastAPI) -> str:
        """As `rate`, with a copy of the study whose answers are thrown away. An earlier preview ends."""
        with self._lock:
            copy = self._copy(self.folder(name))
            old, self._previewed = self._previewed, _built(copy)
            if old is not None:
                self._shut(old)
                shutil.rmtree(old.service.folder, ignore_errors=True)
            return self._mount(self._previewed, app)

    def close(self, name: str) -> None:
        """Ends the study's page in this server, if there is one; what was answered stays."""
        with self._lock:
            served = self._open.pop(name, None)
            if served is not None:
                self._shut(served)

    def _served(self, name: str) -> "ServedStudy":
        with self._lock:
            folder = self.folder(name)
            if name not in self._open:
                self._open[name] = _built(folder)
            return self._open[name]

    def _file(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise InputError(f"'{name[:60]}' is not a study's name; use 1 to 40 of a-z, 0-9, - and _.")
        return self.root / f"{name}.yaml"

    def _copy(self, folder: Path) -> Path:
        """The study without its answers. Its media have other names, so that a browser keeps the two apart."""
        copy = Path(self._previews.name) / secrets.token_hex(8)
        (copy / "media").mkdir(parents=True)
        text = (folder / "study.yaml").read_text(encoding="utf-8")
        for file in (folder / "media").iterdir():
            name = secrets.token_hex(12) + file.suffix
            text = text.replace(file.name, name)
            try:
                os.link(file, copy / "media" / name)
            except OSError:  # another file system
                shutil.copyfile(file, copy / "media" / name)
        (copy / "study.yaml").write_text(text, encoding="utf-8")
        return copy

    def _mount(self, served: "ServedStudy", app: FastAPI) -> str:
        if id(served) not in self._routes:
            holder = FastAPI()
            gr.mount_gradio_app(holder, served.page, ADDRESS + secrets.token_urlsafe(12), **served.settings())
            served.page.is_running = True  # its events are plain requests: it needs no queue
            served.page.create_limiter()
            route = next(route for route in holder.router.routes if isinstance(route, Mount))
            app.router.routes.insert(0, route)  # before Gradio's own, one of which takes every address
            self._routes[id(served)] = app, route
        return self._routes[id(served)][1].path.removeprefix("/") + "/"

    def _shut(self, served: "ServedStudy") -> None:
        shown = self._routes.pop(id(served), None)
        if shown is not None:
            app, route = shown
            app.router.routes.remove(route)
        served.close()


def _built(folder: Path) -> "ServedStudy":
    """The study with its page, made in a thread of its own: inside an event, a component would be an update of one."""
    from studio.study.app import ServedStudy
    from studio.study.service import StudyService

    with ThreadPoolExecutor(1) as apart:
        return apart.submit(lambda: ServedStudy(StudyService(folder))).result()
