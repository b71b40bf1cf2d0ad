"""The study tab: choose results, edit the study file, prepare it; then preview it, rate, watch the counts, see results.

Whoever sees this tab can read videos anywhere on the machine and learns which method is which: it is for the person who
runs the studio. Raters elsewhere get a server of their own (``python app.py --study FOLDER``).
"""

from collections.abc import Callable
from typing import Any

import gradio as gr

from studio import study_cards, views
from studio.studies import Studies
from t4d.errors import InputError

COUNT_EVERY_S = 3.0


def build(studies: Studies, tab: gr.Tab) -> None:
    """Builds the tab inside the current Blocks.

    Args:
        studies: of this studio.
        tab: in which this is; choosing it looks for new runs and studies.
    """
    with gr.Row(elem_classes="t4d-main"):
        with gr.Column(scale=2, min_width=340, elem_classes="t4d-left"):
            choice = gr.Dropdown([], value=None, label="Study", elem_id="study-choice", filterable=False)
            with gr.Accordion("New study", open=True, elem_id="study-new") as new:
                with gr.Row():
                    name = gr.Textbox(label="Name", placeholder="pilot", max_length=40, elem_id="study-name")
                    title = gr.Textbox(label="Title, shown to raters", value="User study", elem_id="study-title")
                runs = gr.CheckboxGroup(
                    [], label="Runs of this studio; a run's variant is its method", elem_id="study-runs"
                )
                folders = gr.Textbox(
                    label="Folders on this machine, one a line",
                    placeholder="runs/full\nNAME=runs/other\nvideos (METHOD/OBJECT.mp4)",
                    lines=3,
                    elem_id="study-folders",
                )
                video = gr.Radio(
                    [("orbit of the asset", "orbit"), ("generated clip", "clip")], value="orbit", label="Video of a run"
                )
                draft = gr.Button("Draft the study file", elem_id="study-draft")
            with gr.Accordion("Study file", open=False, elem_id="study-file") as file:
                text = gr.Code(language="yaml", show_label=False, interactive=True, lines=12, max_lines=24)
                prepare = gr.Button("Prepare", variant="primary", elem_id="study-prepare")
            told = gr.HTML("", elem_id="study-told", padding=False)
        with gr.Column(scale=5, min_width=320, elem_classes="t4d-right"):
            counts = gr.HTML(study_cards.NO_STUDY, elem_id="study-counts", padding=False)
            with gr.Row(visible=False) as actions:
                preview = gr.Button("Preview as a rater", elem_id="study-preview")
                rate = gr.Button("Rate here", variant="primary", elem_id="study-rate")
            frame = gr.HTML("", elem_id="study-frame", padding=False)
            with gr.Accordion("Results", open=False, visible=False, elem_id="study-results") as results:
                _build_results(studies, choice, results)
    clock = gr.Timer(COUNT_EVERY_S, active=False)

    def look(chosen: str | None) -> tuple:
        """Studies and runs as they are now."""
        names = studies.names()
        found = studies.runs()
        chosen = chosen if chosen in names else None
        return gr.update(choices=names, value=chosen), gr.update(choices=found, visible=bool(found))

    def count(chosen: str | None) -> str:
        if chosen is None:
            return study_cards.NO_STUDY
        service = studies.service(chosen)
        return study_cards.progress(service.study, service.counts(), service.flags(), str(service.folder))

    def choose(chosen: str | None) -> dict:
        shown = chosen is not None
        return {
            counts: _or_sentence(lambda: count(chosen)),
            actions: gr.update(visible=shown),
            results: gr.update(visible=shown),
            frame: "",
            text: studies.text(chosen) if chosen is not None else "",
            # the editor shows the chosen one: a name typed for another would be given to its text
            name: "" if shown else gr.skip(),
            clock: gr.update(active=shown),
        }

    def draft_file(name: str, title: str, folders: str, runs: list[str], video: Any) -> tuple:
        try:
            written, notes = studies.draft(name.strip(), title, folders.splitlines(), runs, video)
        except InputError as error:
            return gr.skip(), views.refusal(str(error)), gr.skip(), gr.skip()
        notes = ("Read the study file, then press Prepare.", *notes)
        return (
            written,
            views.source("Drafted.", "Nothing is served yet.", list(notes)),
            gr.update(open=True),
            gr.update(open=False),
        )

    def prepare_study(name: str, chosen: str | None, written: str, progress: gr.Progress = gr.Progress()) -> tuple:  # noqa: B008
        named = name.strip() or chosen or ""

        def say(line: str) -> None:
            progress(None, desc=line)

        try:
            made = studies.prepare(named, written, say)
        except InputError as error:
            return views.refusal(str(error)), gr.skip(), gr.skip(), gr.skip(), gr.skip()
        detail = f"{len(made.study.items)} objects, {made.study.pages} pages a rater"
        names = gr.update(choices=studies.names(), value=named)
        return views.source(f"{named} is ready", detail, list(made.notes)), names, "", gr.update(open=False), ""

    def show_page(chosen: str, counted: bool, request: gr.Request) -> str:
        assert request.request is not None, "the page is shown in the server that was asked"
        app, show = request.request.app, studies.rate if counted else studies.preview
        return _or_sentence(lambda: study_cards.frame(show(chosen, app), counted))

    def show_preview(chosen: str, request: gr.Request) -> str:
        return show_page(chosen, False, request)

    def show_study(chosen: str, request: gr.Request) -> str:
        return show_page(chosen, True, request)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    tab.select(look, [choice], [choice, runs], **quiet)
    draft.click(draft_file, [name, title, folders, runs, video], [text, told, file, new], **quiet)
    prepare.click(
        prepare_study,
        [name, choice, text],
        [told, choice, name, file, frame],
        show_progress_on=told,
        api_visibility="private",
    )
    choice.change(choose, [choice], [counts, actions, results, frame, text, clock, name], **quiet)
    clock.tick(lambda chosen: _or_sentence(lambda: count(chosen)), [choice], [counts], **quiet)
    preview.click(show_preview, [choice], [frame], **quiet)
    rate.click(show_study, [choice], [frame], **quiet)


def _build_results(studies: Studies, choice: gr.Dropdown, results: gr.Accordion) -> None:
    """The panel of the chosen study, built when it is looked at: scipy and plotly load then."""

    @gr.render(inputs=[choice], triggers=[results.expand, choice.change])
    def panel(chosen: str | None) -> None:
        if chosen is None:
            return
        from studio.study import results_panel
        from studio.study.results import results as analysed

        service = studies.service(chosen)
        results_panel.build(lambda: analysed(service.study, service.rows()), service.study.title)


def _or_sentence(work: Callable[[], str]) -> str:
    try:
        return work()
    except InputError as error:
        return views.refusal(str(error))
