"""Look of the studio: a neutral theme on the system's own fonts (no request to a font host) and one style sheet."""

from pathlib import Path

import gradio as gr

from studio.uploads import MAX_BYTES

STYLE = Path(__file__).with_name("studio.css")
BLANK = Path(__file__).with_name("blank.svg")
HEAD = f"<script>{Path(__file__).with_name('upload_limit.js').read_text()}</script>".replace(
    "MAX_MEGABYTES", str(MAX_BYTES // 2**20)
)
_SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """The Gradio theme."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=_SANS,
        font_mono=_MONO,
    ).set(
        body_background_fill="*neutral_50",
        block_background_fill="white",
        block_border_width="1px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_text_color="white",
    )
