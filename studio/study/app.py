"""The served study: a Gradio process of its own with the study and nothing else in it."""

import logging
import os
import signal
from pathlib import Path, PurePosixPath
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from starlette.middleware import Middleware

from studio import theme
from studio.study import admin, rater_page
from studio.study.events import RaterEvents
from studio.study.gate import MAX_BODY, Gate, media_route
from studio.study.limits import RefusalLog
from studio.study.service import StudyService
from studio.study.space import kept_service


class ServedStudy:
    """A study with its page and routes.

    Args:
        service: the study.

    Attributes:
        page: the Gradio page.
        events: the rater's events, as functions.
    """

    def __init__(self, service: StudyService) -> None:
        self.service = service
        self.log = RefusalLog(service.folder)
        self.events = RaterEvents(service, self.log)
        self.page = rater_page.build(service, self.events)

    def launch(self, **settings: Any) -> str:
        """Starts the server; arguments as of ``gr.Blocks.launch``.

        Returns:
            The address, once the server runs (with ``prevent_thread_lock``) or has ended.
        """
        # _frontend=False skips Gradio's look at its own page, which must answer within 3 s: a server that comes back
        # while a hundred raters ask again would end itself there.
        _, url, _ = self.page.launch(**{**self.settings(), "_frontend": False, **settings})
        return url

    def close(self) -> None:
        """Stops the server and closes the study."""
        self.page.close(verbose=False)
        self.log.close()
        self.service.close()

    def settings(self) -> dict[str, Any]:
        """What ``launch`` and ``gr.mount_gradio_app`` are given."""
        media = [PurePosixPath(path).name for path in self.service.media_paths()]
        return {
            "theme": theme.theme(),
            "css_paths": [rater_page.STYLE],
            "head": rater_page.head(),
            "footer_links": [],
            "ssr_mode": False,
            "enable_monitoring": False,
            "run_history": False,
            "max_file_size": MAX_BODY,
            "blocked_paths": [str(self.service.folder)],
            "show_error": False,
            "app_kwargs": {
                "routes": [media_route(self.service.media, media), *admin.routes(self.service, self.log)],
                "middleware": [Middleware(Gate, log=self.log)],
            },
        }


def serve(folder: Path, host: str | None = None, port: int | None = None, share: bool = False) -> None:
    """Serves a prepared study until the process is told to stop.

    Args:
        folder: the study's folder, as ``python -m studio.study check`` leaves it.
        host: address to listen on; 127.0.0.1, and 0.0.0.0 on Spaces, where not given.
        port: the first free one from 7860 where not given.
        share: make a public link through Gradio's relay.

    Raises:
        InputError: the folder is not a prepared study, or the administrator's password is too short.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    # The end of a Space's machine is announced by SIGTERM: close the study as after Ctrl-C, with a last push.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    default = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"
    with kept_service(folder) as service:
        study = ServedStudy(service)
        try:
            study.launch(server_name=host or default, server_port=port, share=share)
        finally:
            study.close()
