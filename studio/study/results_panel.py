"""Results on the page: Table 3, figures, the whole report and files, computed when asked for."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from studio.study.results import CAPTIONS, Results, write_results
from t4d.errors import InputError

#: Tables scroll sideways on a phone instead of breaking their numbers.
STYLE = (
    "<style>.t4d-study-wide table { display: block; max-width: 100%; overflow-x: auto; white-space: nowrap; }</style>"
)
NAMES = {"scores": "Scores", "means": "Means", "differences": "Differences"}


@dataclass(frozen=True)
class ResultsPanel:
    """The built panel.

    Attributes:
        update: Computes the results; returns values of `outputs`. For events beside the button, such as a page's load
            or a tab's selection.
        outputs: Components that `update` fills.
        button: "Compute".
    """

    update: Callable[[], list[Any]]
    outputs: list[gr.components.Component]
    button: gr.Button


def build(load: Callable[[], Results], title: str = "User study", api: bool = False) -> ResultsPanel:
    """Builds the panel inside the current ``gr.Blocks``.

    Nothing is computed before someone presses the button, so that opening a page costs nothing.

    Args:
        load: Gives the results as of now, for example ``lambda: results(study, service.rows())``. An `InputError` of it
            is shown as a sentence in their place.
        title: Of the files.
        api: Whether the button's function may be called through the app's API.
    """
    gr.HTML(STYLE, padding=False)
    with gr.Row():
        button = gr.Button("Compute results", variant="primary", scale=0, min_width=220)
    table = gr.Markdown("Nothing is computed yet.", elem_classes="t4d-study-wide", buttons=["copy"])
    plots = []
    with gr.Tabs():
        for name, label in NAMES.items():
            with gr.Tab(label):
                gr.Markdown(CAPTIONS[name], elem_classes="t4d-note")
                plots.append(gr.Plot(show_label=False, elem_id=f"study-{name}"))
        with gr.Tab("Whole report"):
            report = gr.Markdown(elem_classes="t4d-study-wide", buttons=["copy"])
        with gr.Tab("LaTeX"):
            latex = gr.Code(show_label=False, interactive=False, language="latex")
        with gr.Tab("Files"):
            files = gr.File(show_label=False, file_count="multiple", interactive=False)

    # one folder by panel, written over: Gradio serves copies, which it names by content and clears away itself
    folder = Path(tempfile.mkdtemp(prefix="study-results-"))

    def update() -> list[Any]:
        try:
            found = load()
        except InputError as error:
            return [str(error), *[None] * len(plots), "", "", None]
        written = write_results(found, folder, title)
        figures = [found.figures.get(name) for name in NAMES]
        return [found.table, *figures, found.report, found.latex, [str(path) for path in written]]

    outputs: list[Any] = [table, *plots, report, latex, files]
    button.click(update, outputs=outputs, show_progress="minimal", api_visibility="public" if api else "private")
    return ResultsPanel(update, outputs, button)
