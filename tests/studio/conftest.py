"""A running studio for tests of its API and its page."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.app import build, launch_settings
from studio.jobs import Jobs
from studio.runs import Workspace
from studio.service import Studio


@pytest.fixture(scope="module")
def start_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[Studio, str]]]:
    """``start(**arguments of Studio)`` gives a studio on a free port and its address; closed after the module."""
    opened = []

    def start(**tasks: str) -> tuple[Studio, str]:
        root: Path = tmp_path_factory.mktemp("runs")
        studio = Studio(Workspace(root), Jobs(grace_s=2.0), **tasks)
        page = build(studio)
        _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_settings(studio))
        opened.append((studio, page))
        return studio, url

    yield start
    for studio, page in opened:
        page.close(verbose=False)
        studio.runner.close()
