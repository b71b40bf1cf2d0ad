"""HTML of the study tab: how far a study is, and the frame in which its page is shown. Everything is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from studio.study.schema import StudyFile

NO_STUDY = """
<div class="t4d-empty">
  <svg viewBox="0 0 64 64" aria-hidden="true">
  <path d="M12 14h40v28H30l-12 9v-9h-6z M21 24h22 M21 32h14"/></svg>
  <h3>A blind user study of your results</h3>
  <ol><li>Tick runs, or give folders of videos</li><li>Draft the study file and read it</li>
  <li>Press <b>Prepare</b>, then preview, rate and invite</li></ol>
</div>"""


def progress(study: StudyFile, counts: Mapping[str, Any], flags: Sequence[Mapping[str, Any]], folder: str) -> str:
    """Numbers of a study, doubtful raters, and how to serve it."""
    shown = (
        ("began", counts["consented"]),
        ("finished", counts["finished"]),
        (f"pages rated, {counts['pages']} a rater", counts["answers"]),
        ("scores", counts["scores"]),
        ("excluded", counts["excluded"]),
        ("imbalance", counts["balance"]),
    )
    numbers = "".join(f"<div><b>{value}</b><span>{escape(label)}</span></div>" for label, value in shown)
    doubts = "".join(
        f"<li>{escape(row['rater'])}: {escape('; '.join(row['flags']))}</li>" for row in flags if row["flags"]
    )
    size = f"{len(study.items)} objects × {len(study.methods)} methods × {len(study.criteria)} questions"
    return (
        f"<div class='t4d-card t4d-study'><div class='t4d-line'><b>{escape(study.title)}</b><span>{size}</span></div>"
        f"<div class='t4d-numbers' role='status'>{numbers}</div>{f'<ul>{doubts}</ul>' if doubts else ''}"
        f"<div class='t4d-invite'>To invite raters: <code>python app.py --study {escape(folder)}</code></div></div>"
    )


def frame(address: str, counts: bool) -> str:
    """A study's page, and a link to it.

    Args:
        address: relative to the studio's page.
        counts: whether what is answered there is kept.
    """
    told = "What you answer here counts." if counts else "A copy of the study: what you answer here is thrown away."
    where = escape(address, quote=True)
    return (
        f"<div class='t4d-card t4d-{'done' if counts else 'neutral'}'><div class='t4d-line'><b>{told}</b>"
        f"<a href='{where}' target='_blank' rel='noopener'>Open in a window of its own</a></div></div>"
        f"<iframe class='t4d-rater' src='{where}' title='The study as a rater sees it'></iframe>"
    )
