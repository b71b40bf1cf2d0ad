"""Small pieces of HTML: job status, empty state, player frame. Everything that a visitor wrote is escaped."""

from html import escape
from pathlib import Path
from urllib.parse import quote

from studio.job import Snapshot

STAGES = (("prepare", "Object"), ("clip", "Generate"), ("fit", "Fit 4D"), ("export", "Export"))
EMPTY = """
<div class="t4d-empty">
  <svg viewBox="0 0 64 64" aria-hidden="true">
  <path d="M32 6 54 18v28L32 58 10 46V18z M10 18l22 12 22-12 M32 30v28"/></svg>
  <h3>Your moving asset appears here</h3>
  <ol><li>Pick an object, or upload one</li><li>Write in one sentence what it does</li>
  <li>Press <b>Animate</b></li></ol>
</div>"""
WAITING_PLAYER = "<div class='t4d-waiting'>The orbitable player appears when the 4D fit is finished.</div>"
HEADER = """
<header class="t4d-header"><h1>Track4DGen Studio</h1>
<p>Turn a static 3D model and one sentence into a moving 4D Gaussian asset.</p></header>"""


def stopping() -> str:
    """The status card right after the click on Stop."""
    return refusal("Stopping …", "neutral")


def status(job: Snapshot, stopping: bool = False) -> str:
    """The status card of a job; `stopping` after the click on Stop, until its end."""
    if job.state == "queued":
        ahead = f"{job.ahead} job{'s' * (job.ahead != 1)} ahead of yours" if job.ahead else "starting the worker"
        return _card("running", f"<div class='t4d-line'><b>Waiting</b><span>{ahead}</span></div>{_bar(0)}")
    if job.state == "running":
        left = "" if job.eta_s is None else f" · about {duration(job.eta_s)} left"
        doing = f"{'Stopping: ' * stopping}{escape(job.message) or 'Starting'}"
        line = f"<b>{doing}</b><span>{duration(job.elapsed_s)} so far{left}</span>"
        return _card("running", f"{_steps(job.stage)}<div class='t4d-line'>{line}</div>{_bar(job.fraction)}")
    if job.state == "done":
        return _card("done", f"<div class='t4d-line'><b>Done</b><span>in {duration(job.elapsed_s)}</span></div>")
    return refusal(job.message, "neutral" if job.state == "cancelled" else "error")


def refusal(sentence: str, kind: str = "error") -> str:
    """A sentence that says why something did not happen."""
    return _card(kind, f"<div class='t4d-sentence' role='alert'>{escape(sentence)}</div>")


def done(seconds: float, seed: int, notes: list[str], stopped: bool = False) -> str:
    """The status card of a finished (or stopped, with results) run, with the notes of its manifest."""
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    line = f"<b>{'Stopped after' if stopped else 'Done in'} {duration(seconds)}</b><span>seed {seed}</span>"
    return _card("done", f"<div class='t4d-line'>{line}</div>{f'<ul>{listed}</ul>' if notes else ''}")


def source(title: str, detail: str, notes: list[str]) -> str:
    """The card of the chosen object."""
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes)
    body = f"<b>{escape(title)}</b><span>{escape(detail)}</span>"
    return f"<div class='t4d-source'>{body}{f'<ul>{listed}</ul>' if notes else ''}</div>"


def player(file: Path) -> str:
    """The offline player in a frame without access to this page."""
    # A relative address keeps working behind a proxy with a path prefix, as on Spaces.
    address = f"gradio_api/file={quote(str(file))}"
    return (
        f"<iframe class='t4d-player' src='{address}' title='Orbitable 4D player' "
        "sandbox='allow-scripts allow-pointer-lock'></iframe>"
    )


def duration(seconds: float) -> str:
    """12 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _card(kind: str, body: str) -> str:
    return f"<div class='t4d-card t4d-{kind}'>{body}</div>"


def _bar(fraction: float) -> str:
    percent = round(100 * min(max(fraction, 0.0), 1.0))
    return (
        f"<div class='t4d-bar' role='progressbar' aria-valuemin='0' aria-valuemax='100' aria-valuenow='{percent}'>"
        f"<i style='width:{percent}%'></i></div>"
    )


def _steps(stage: str) -> str:
    names = [name for name, _ in STAGES]
    stage = "fit" if stage == "features" else stage  # a moment of its own, too short for a chip
    now = names.index(stage) if stage in names else -1
    chips = []
    for index, (_, label) in enumerate(STAGES):
        state = "past" if index < now else "now" if index == now else "next"
        chips.append(f"<li class='{state}'>{label}</li>")
    return f"<ol class='t4d-steps'>{''.join(chips)}</ol>"
