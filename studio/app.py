"""Composes the studio and launches it. This process never imports torch: heavy work is in `studio.worker`."""

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
from studio.tabs import animate
from t4d.errors import InputError

TITLE = "Track4DGen Studio"
HOUR = 3600
CACHE_HOURS = 12


def build(studio: Studio) -> gr.Blocks:
    """The page of a studio."""
    hour = 3600
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(hour, CACHE_HOURS * hour)
    ) as page:
        gr.HTML(views.HEADER, padding=False)
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
        build(studio).launch(server_name=host or default, server_port=port, share=share, **launch_settings(studio))
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
        workspace.clean()
        time.sleep(HOUR)
