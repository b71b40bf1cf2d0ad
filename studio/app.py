"""Composes the studio and launches it. This process never imports torch: heavy work is in `studio.worker`."""

import logging
import os
import threading
import time
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import typer

from studio import theme, uploads, views
from studio.jobs import make_runner
from studio.runs import Workspace
from studio.service import Studio
from studio.studies import Studies
from studio.tabs import animate
from studio.tabs import study as study_tab
from t4d.errors import InputError

TITLE = "Track4DGen Studio"
HOUR = 3600
CACHE_HOURS = 12


def build(studio: Studio, owner_only: bool = True) -> gr.Blocks:
    """The page of a studio.

    Args:
        studio: the studio.
        owner_only: nobody but the person who runs it reaches the page; only then it has the Study tab, which reads
            folders of this machine and shows which method is which.
    """
    hour = 3600
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(hour, CACHE_HOURS * hour)
    ) as page:
        gr.HTML(views.HEADER, padding=False)
        if owner_only:
            with gr.Tabs():
                with gr.Tab("Animate", id="animate-tab"):
                    animate.build(studio)
                with gr.Tab("Study", id="study-tab") as tab:
                    study_tab.build(Studies(studio.workspace), tab)
        else:
            animate.build(studio)

        def leave(request: gr.Request) -> None:
            studio.leave(request.session_hash or "local")

        page.unload(leave)
    page.queue(default_concurrency_limit=8, max_size=64)
    return page


def launch_settings(studio: Studio) -> dict[str, Any]:
    """Arguments of ``launch()`` that every way of starting shares."""
    return {
        "theme": theme.theme(),
        "css_paths": [theme.STYLE],
        "head": theme.HEAD,
        "footer_links": [],
        "ssr_mode": False,
        "enable_monitoring": False,
        "run_history": False,
        "max_file_size": uploads.MAX_BYTES,
        "allowed_paths": [str(studio.workspace.root)],
        "blocked_paths": [str(studio.workspace.private)],
        "show_error": True,
    }


def main(
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1, and 0.0.0.0 on Spaces.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; the first free one from 7860 where not given.")] = None,
    share: Annotated[bool, typer.Option(help="Make a public link through Gradio's relay.")] = False,
    study: Annotated[
        Path | None,
        typer.Option(envvar="T4D_STUDY", help="Serve this user study to raters, and nothing else: a file or folder."),
    ] = None,
) -> None:
    """Start the studio in a browser page."""
    if study is not None:
        from studio.study.app import serve
        from studio.study.opening import prepared_folder

        return serve(prepared_folder(study), host, port, share)
    studio = Studio(Workspace(), make_runner())
    threading.Thread(target=_clean_forever, args=(studio.workspace,), name="studio-clean", daemon=True).start()
    default = "0.0.0.0" if os.environ.get("SPACE_ID") else "127.0.0.1"
    try:
        address = host or default
        page = build(studio, owner_only=not share and address in ("127.0.0.1", "localhost", "::1"))
        page.launch(server_name=address, server_port=port, share=share, **launch_settings(studio))
    finally:
        studio.runner.close()


def run() -> None:
    """Entry point of ``app.py``."""
    try:
        typer.run(main)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


def _clean_forever(workspace: Workspace) -> None:
    while True:
        try:
            workspace.clean()
        except OSError:  # a disk's, or a race with a page: the next hour's turn
            logging.getLogger(__name__).exception("cleaning")
        time.sleep(HOUR)
