"""The page a rater sees: one HTML component that `web/*.js` fills, and the browser's own store of unsent answers."""

import hashlib
from pathlib import Path

import gradio as gr
from markdown_it import MarkdownIt

from studio.study.contract import MAX_COMMENT
from studio.study.events import RaterEvents
from studio.study.schema import StudyFile
from studio.study.service import StudyService

WEB = Path(__file__).with_name("web")
STYLE = WEB / "study.css"
SCRIPTS = ("dom.js", "outbox.js", "player.js", "form.js", "keyboard.js", "screens.js", "rater.js")
SKELETON = "<div class='study' id='study-root'><p class='study-loading'>Loading the study …</p></div>"
START = "window.T4DStudy.start(element, props, watch, () => trigger('keep'));"


def build(service: StudyService, events: RaterEvents) -> gr.Blocks:
    """The Gradio page of a study: the rater's view and the events of `events`, and nothing else.

    Answers that the server has not acknowledged live in a ``gr.BrowserState``, so that they outlive a reload of the
    page and a restart of the server. Its secret is not one: it only has to stay the same over restarts.
    """
    with gr.Blocks(title=service.study.title, analytics_enabled=False, fill_width=True) as page:
        stored = name(service)
        kept = gr.BrowserState({}, storage_key=stored, secret=stored)
        view = gr.HTML(
            "{}",
            html_template=SKELETON,
            js_on_load=START,
            apply_default_css=False,
            elem_id="study",
            settings={**settings(service.study), "name": stored},
        )
        # The stamp makes the value differ from the initial one even where nothing is kept, which starts the page.
        page.load(None, kept, view, js="(kept) => JSON.stringify({...kept, opened: Date.now()})")
        view.keep(None, view, kept, js="(text) => JSON.parse(text)")
        for event in ("join", "consent", "page", "answer", "finish"):
            gr.api(getattr(events, event), api_name=f"study_{event}", queue=False)
    return page


def name(service: StudyService) -> str:
    """A name of this study's browser store, the same after every restart, made of what every rater may see."""
    media = "".join(sorted(service.media_paths()))
    return "study-" + hashlib.sha256(media.encode()).hexdigest()[:16]


def settings(study: StudyFile) -> dict:
    """What the page needs to know of a study; every rater can read this."""
    return {
        "title": study.title,
        # Raw HTML in the Markdown stays text: a study file may come from somebody else.
        "consent": MarkdownIt("commonmark", {"html": False}).enable("table").render(study.consent),
        "agree": study.agree,
        "instructions": study.instructions,
        "contact": study.contact,
        "help": {criterion.id: criterion.help for criterion in study.criteria},
        "sideBySide": study.layout == "side_by_side",
        "back": study.back,
        "practice": len(study.practice),
        "params": list(study.completion.params),
        "maxComment": MAX_COMMENT,
    }


def head() -> str:
    """The page's scripts, inline: no further request, no file that a proxy may hold back."""
    scripts = "\n".join((WEB / script).read_text(encoding="utf-8") for script in SCRIPTS)
    return f"<meta name='viewport' content='width=device-width, initial-scale=1'><script>{scripts}</script>"
