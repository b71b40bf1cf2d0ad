"""From an object file and a sentence to a moving 4D Gaussian asset: the stages, in order.

``prepare`` (geometry, splat) -> ``clip`` (Stage One, or a clip from elsewhere) -> ``features`` and ``fit`` (Stage Two)
-> ``export``. Each but the last is run through `t4d.stages`, so that a repeated or interrupted run continues where its
inputs last changed. The command line, the studio, `train/stage2.py` and the evaluation programs all call `animate`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from t4d.errors import InputError
from t4d.job import AnimateRequest, Job, RunResult, cancelled
from t4d.job_clock import JobClock
from t4d.prompt import checked_prompt

__all__ = ["AnimateRequest", "Progress", "RunResult", "animate"]

# Share of the wall time of a whole run, for the estimate of what is left before a stage has been timed. Measured with
# the mini preset on one thread; any error is corrected as soon as a stage starts.
_SHARES = {"prepare": 0.02, "clip": 0.15, "features": 0.02, "fit": 0.75, "export": 0.06}
_IMPORT_SHARE = 0.02


@dataclass(frozen=True)
class Progress:
    """What a job is doing now.

    Attributes:
        stage: prepare, clip, features, fit, export or done.
        fraction: of the whole job, 0..1.
        message: one line for a person.
        eta_s: estimated seconds left, or None before anything was timed.
        preview: a finished file worth showing already, or None.
        result: set on the last progress only.
    """

    stage: str
    fraction: float
    message: str
    eta_s: float | None = None
    preview: Path | None = None
    result: RunResult | None = None


def animate(
    request: AnimateRequest,
    cancel: Callable[[], bool] = lambda: False,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Runs a job.

    Args:
        request: what to do.
        cancel: asked between steps; True ends the job with `Cancelled`. Finished stages stay in the cache, and an
            unfinished fit its checkpoint.
        stop: asked between steps; True ends the fit where it stands and writes the files of the asset so far, whose
            run.json says so; before the fit has made a step it is a cancel. The same job run again goes on from there.

    Yields:
        Progress; the last one carries the result.

    Raises:
        InputError: the object, the prompt, the clip or the weights cannot be used.
        Cancelled: ``cancel`` (or an early ``stop``) returned True.
    """
    silent = request.clip is not None and not request.prompt.strip()
    prompt = "" if silent else checked_prompt(request.prompt)
    if not request.path.is_file():
        raise InputError(f"{request.path.name} does not exist or is not a file; give the path of a 3D file.")
    try:
        request.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{request.out} cannot be made ({error.strerror}); give another output folder.") from error
    clock = JobClock(_shares(request))
    job = Job(request, prompt, stop).run()
    while True:
        if cancel():
            job.close()
            raise cancelled()
        try:
            stage, step = next(job)
        except StopIteration as ended:
            yield Progress("done", 1.0, ended.value.stopped or "Finished", 0.0, result=ended.value)
            return
        fraction, eta = clock.update(stage, step.fraction)
        preview = request.out / "clip.mp4" if stage in ("features", "fit", "export") else None
        yield Progress(stage, fraction, step.message, eta, preview if preview and preview.is_file() else None)


def _shares(request: AnimateRequest) -> dict[str, float]:
    shares = dict(_SHARES)
    if request.clip is not None:
        shares["clip"] = _IMPORT_SHARE
    if not request.config.stage2.features.enabled:
        del shares["features"]
    return shares
