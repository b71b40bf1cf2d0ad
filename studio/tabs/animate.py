"""The animate tab: object, sentence, button; then a video, an orbitable player and downloads."""

import secrets
from collections.abc import Iterator
from typing import Any

import gradio as gr

from studio import labels, settings, theme, uploads, views
from studio.gallery import GalleryObject
from studio.service import Source, Studio, from_state, to_state
from t4d.config import preset_names
from t4d.errors import InputError

NO_GALLERY = "The bundled objects are not in `assets/objects`; upload a file, or run `python -m t4d.data.gallery`."
NO_SOURCE = views.source("No object chosen", "pick one above or upload a file", [])
ANY_PROMPTS = ("it is walking", "it is running", "it is jumping", "it is dancing")


def build(studio: Studio) -> None:
    """Builds the tab inside the current Blocks."""
    preset = "mini" if "mini" in preset_names() else preset_names()[0]
    source, runs = gr.State(None), gr.State([])
    with gr.Row(elem_classes="t4d-main"):
        with gr.Column(scale=2, min_width=340, elem_classes="t4d-left"):
            gallery, upload = _object_fields(studio.gallery)
            card = gr.HTML(
                views.source("No object chosen", "pick one above or upload a file", []), elem_id="source", padding=False
            )
            prompt = gr.Textbox(
                label="What does it do?", placeholder="a fox is running", lines=1, max_lines=3, elem_id="prompt"
            )
            ideas = gr.Dataset(
                components=[prompt], samples=[[p] for p in ANY_PROMPTS], show_label=False, elem_classes="t4d-ideas"
            )
            with gr.Row(equal_height=True):
                start = gr.Button("Animate", variant="primary", elem_id="animate", scale=3)
                stop = gr.Button("Stop", variant="stop", elem_id="cancel", interactive=False, scale=1, min_width=90)
            with gr.Row(elem_classes="t4d-run-options"):
                choice = gr.Dropdown(preset_names(), value=preset, label="Preset", elem_id="preset", min_width=80)
                seed = gr.Number(0, label="Seed", precision=0, elem_id="seed", min_width=80)
                dice = gr.Button("Random", elem_id="dice", min_width=80)
            note = gr.Markdown(labels.preset_note(preset), elem_classes="t4d-note")
            with gr.Accordion("Settings", open=False, elem_id="settings"):
                with gr.Row():
                    given = settings.fields(preset)
                variant = settings.variant_field()
        with gr.Column(scale=5, min_width=320, elem_classes="t4d-right"):
            status = gr.HTML("", elem_id="status", padding=False)
            empty = gr.HTML(views.EMPTY, elem_id="empty", padding=False)
            with gr.Column(visible=False) as results:
                with gr.Row(elem_classes="t4d-results"):
                    with gr.Column(scale=3, min_width=300):
                        player = gr.HTML("", elem_id="player", padding=False)
                    with gr.Column(scale=2, min_width=220):
                        clip = _video("Generated clip, four views", "clip")
                        orbit = _video("Orbit of the asset", "orbit")
                with gr.Column(visible=False) as extras:
                    files = gr.File(label="Downloads", file_count="multiple", interactive=False, elem_id="downloads")
            history = gr.Dataset(
                components=[gr.Textbox(visible=False)],
                samples=[],
                type="index",
                label="Runs of this session",
                visible=False,
                elem_id="history",
            )
            report = gr.JSON(visible=False)

    shown = [results, extras, empty, player, clip, orbit, files]

    def show_run(run_id: str, ids: list[str]) -> dict:
        found = {run.id: run for run in studio.workspace.history(ids)}
        if run_id not in found:
            return {status: views.refusal("This run is no longer on disk; runs are deleted after a week.")}
        made = studio.files(found[run_id].folder)
        return {
            results: gr.update(visible=True),
            extras: gr.update(visible=True),
            empty: gr.update(visible=False),
            player: views.player(made.player),
            clip: str(made.clip),
            orbit: str(made.orbit),
            files: [str(file) for file in made.downloads],
        }

    def animate(
        chosen: dict | None,
        ids: list[str],
        prompt: str,
        seed: float,
        preset: str,
        variant: str,
        request: gr.Request,
        *given: float,
    ) -> Iterator[dict]:
        """Animates the chosen object; upload one first with /upload. Yields status, files and a JSON report."""
        session = _session(request)
        try:
            job, run = studio.start(session, from_state(chosen), prompt, seed, preset, given, variant)
        except InputError as error:
            yield {status: views.refusal(str(error)), report: {"state": "refused", "message": str(error)}}
            return
        busy = {start: gr.update(interactive=False), stop: gr.update(interactive=True)}
        free = {start: gr.update(interactive=True), stop: gr.update(interactive=False)}
        previewed = False
        try:
            for now in job.watch():
                text = views.status(now, stopping=bool(job.asked))
                update: dict[Any, Any] = {status: text, **busy}
                update[report] = {"state": now.state, "stage": now.stage, "fraction": now.fraction, "run": run.name}
                if now.preview and not previewed:
                    previewed = True
                    update |= {results: gr.update(visible=True), empty: gr.update(visible=False), clip: now.preview}
                    update |= {player: views.WAITING_PLAYER, orbit: None, extras: gr.update(visible=False)}
                if not now.ended:
                    yield update
                    continue
                update |= {**free, report: {"state": now.state, "message": now.message, "run": run.name}}
                if now.state == "done":
                    ids = [run.name, *ids]
                    made = studio.files(run)
                    update |= show_run(run.name, ids)
                    update[status] = views.done(now.elapsed_s, int(seed), list(made.notes), made.stopped)
                    update |= {runs: ids, history: _history(studio, ids)}
                elif previewed:
                    update |= {results: gr.update(visible=False), empty: gr.update(visible=True)}
                yield update
        finally:
            studio.finish(session, job, run)

    def pick(event: gr.SelectData, prompt: str) -> tuple:
        chosen = studio.gallery[event.index]
        known = {"", *ANY_PROMPTS, *(p for o in studio.gallery for p in o.prompts)}
        text = chosen.prompts[0] if chosen.prompts and prompt.strip() in known else prompt
        made = Source(str(chosen.file), chosen.name, uploaded=False)
        ideas = gr.Dataset(samples=[[p] for p in chosen.prompts or ANY_PROMPTS])
        return to_state(made), views.source(chosen.name, "from the gallery", []), text, ideas

    def receive(paths: list[str] | None, request: gr.Request) -> tuple:
        """Uploads an object: one file with its companions, or one .zip. Returns what was found in it."""
        try:
            made, found = studio.upload(paths or [], _session(request))
        except InputError as error:
            return None, views.refusal(str(error)), gr.update(value=None), gr.skip()
        facts, notes = "uploaded", []
        if found is not None:
            clips = len(found["clips"])
            moving = f", {clips} animation{'s' * (clips != 1)} (the rest pose is used)" if clips else ""
            facts, notes = f"{found['facts']}{moving}", found["notes"]
        # The server's copy is gone: the field must not offer it again.
        return to_state(made), views.source(made.name, facts, notes), gr.update(value=None), _ideas(made.name)

    def cancel(request: gr.Request) -> Any:
        """Stops this session's job; a fit that has begun keeps the asset so far. A second call cancels it."""
        return views.stopping() if studio.stop(_session(request)) else gr.skip()

    inputs = [source, runs, prompt, seed, choice, variant, *given]
    outputs = [status, start, stop, *shown, runs, history, report]
    gr.on(
        [start.click, prompt.submit],
        animate,
        inputs,
        outputs,
        api_name="animate",
        show_progress="hidden",
        concurrency_limit=32,
        trigger_mode="once",
    )
    stop.click(
        cancel,
        None,
        status,
        queue=False,
        api_name="cancel",
    )
    if gallery is not None:
        gallery.select(pick, [prompt], [source, card, prompt, ideas], show_progress="hidden", api_visibility="private")
    upload.upload(receive, [upload], [source, card, upload, ideas], show_progress="hidden", api_name="upload")
    ideas.click(lambda row: row[0], [ideas], [prompt], show_progress="hidden", api_visibility="private")
    dice.click(lambda: secrets.randbelow(2**31), None, seed, queue=False, api_visibility="private")
    choice.change(
        lambda name: [labels.preset_note(name), *settings.values(name)],
        [choice],
        [note, *given],
        show_progress="hidden",
        api_visibility="private",
    )

    def reopen(index: int, ids: list[str]) -> dict:
        found = studio.workspace.history(ids)
        if index >= len(found):
            return {status: views.refusal("This run is no longer on disk; runs are deleted after a week.")}
        return {status: views.refusal(found[index].title, "neutral"), **show_run(found[index].id, ids)}

    history.click(reopen, [history, runs], [status, *shown], show_progress="hidden", api_visibility="private")


def _object_fields(objects: list[GalleryObject]) -> tuple[gr.Gallery | None, gr.File]:
    with gr.Tabs(elem_classes="t4d-object"):
        with gr.Tab("Gallery", id="gallery"):
            if objects:
                gallery = gr.Gallery(
                    [(str(o.thumbnail or theme.BLANK), o.name) for o in objects],
                    columns=4,
                    height=216,
                    allow_preview=False,
                    show_label=False,
                    object_fit="cover",
                    buttons=[],
                    interactive=False,
                    elem_id="gallery",
                )
            else:
                gallery = None
                gr.Markdown(NO_GALLERY, elem_classes="t4d-note")
        with gr.Tab("Upload", id="upload"):
            upload = gr.File(
                file_count="multiple",
                label=f"GLB, glTF, OBJ, PLY or ZIP, up to {uploads.MAX_BYTES // 2**20} MB",
                height=190,
                elem_id="upload",
            )
    return gallery, upload


def _ideas(name: str) -> gr.Dataset:
    """Sentences about an uploaded file, named after it where its name is a word."""
    word = name.partition(".")[0].lower()
    subject = f"a{'n' * word.startswith(tuple('aeiou'))} {word}" if word.isalpha() and len(word) < 20 else "it"
    return gr.Dataset(samples=[[f"{subject} {prompt.partition(' ')[2]}"] for prompt in ANY_PROMPTS])


def _video(label: str, name: str) -> gr.Video:
    return gr.Video(
        label=label, height=232, autoplay=True, loop=True, interactive=False, buttons=[], elem_id=name, min_width=200
    )


def _history(studio: Studio, ids: list[str]) -> gr.Dataset:
    found = studio.workspace.history(ids)
    return gr.Dataset(samples=[[run.title] for run in found], visible=bool(found))


def _session(request: gr.Request) -> str:
    return request.session_hash or "local"
