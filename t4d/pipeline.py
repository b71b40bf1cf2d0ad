"""From an object file and a sentence to a moving 4D Gaussian asset: the four stages, in order.

``prepare`` (geometry, splat) -> ``clip`` (Stage One) -> ``fit`` (Stage Two) -> ``export``. Each is run through
`t4d.stages`, so that a repeated or interrupted run continues where its inputs last changed. The command line, the
studio and the evaluation programs all call `animate`.
"""

import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from t4d import steps
from t4d.config import Config
from t4d.diffusion import model
from t4d.errors import Cancelled, InputError
from t4d.export.manifest import RunRecorder
from t4d.geometry.object3d import object_files
from t4d.prompt import checked_prompt
from t4d.stages import Stage, StageOutput, run_stage

# Share of the wall time of a whole run, for the estimate of what is left before a stage has been timed. Measured with
# the mini preset on two cores; any error is corrected as soon as a stage starts.
_SHARES = {"prepare": 0.03, "clip": 0.62, "fit": 0.27, "export": 0.08}

PREPARE = Stage("prepare", version=1, code=("geometry", "splat"))
CLIP = Stage("clip", version=1, code=("diffusion",))
FIT = Stage("fit", version=1, code=("motion", "splat"))


@dataclass(frozen=True)
class AnimateRequest:
    """One job.

    Attributes:
        path: object file (.glb, .gltf, .obj, .ply).
        prompt: one sentence.
        out: folder for the results; made if missing. Files of an earlier run in it are replaced.
        config: resolved configuration.
        cache: folder of stage outputs; None uses ``out/.stages``.
    """

    path: Path
    prompt: str
    out: Path
    config: Config
    cache: Path | None = None


@dataclass(frozen=True)
class RunResult:
    """Paths of everything a run wrote."""

    folder: Path
    clip: Path
    orbit: Path
    player: Path
    asset: Path
    plys: Path
    manifest: Path

    @classmethod
    def of(cls, folder: Path) -> "RunResult":
        """The result's paths in a run folder."""
        return cls(
            folder,
            folder / "clip.mp4",
            folder / "orbit.mp4",
            folder / "player.html",
            folder / "asset.safetensors",
            folder / "frames",
            folder / "run.json",
        )


@dataclass(frozen=True)
class Progress:
    """What a job is doing now.

    Attributes:
        stage: prepare, clip, fit, export or done.
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


def animate(request: AnimateRequest, cancel: Callable[[], bool] = lambda: False) -> Iterator[Progress]:
    """Runs a job.

    Args:
        request: what to do.
        cancel: asked between steps; True ends the job with `Cancelled`. Finished stages stay in the cache.

    Yields:
        Progress; the last one carries the result.

    Raises:
        InputError: the object, the prompt or the weights cannot be used.
        Cancelled: ``cancel`` returned True.
    """
    prompt = checked_prompt(request.prompt)
    if not request.path.is_file():
        raise InputError(f"{request.path.name} does not exist or is not a file; give the path of a 3D file.")
    request.out.mkdir(parents=True, exist_ok=True)
    clock = _Clock()
    job = _run(request, prompt)
    while True:
        if cancel():
            job.close()
            raise Cancelled("The job was cancelled; what was finished is kept and used when it is run again.")
        try:
            stage, step = next(job)
        except StopIteration as stop:
            yield Progress("done", 1.0, "Finished", 0.0, result=stop.value)
            return
        fraction, eta = clock.update(stage, step.fraction)
        preview = request.out / "clip.mp4" if stage in ("fit", "export") else None
        yield Progress(stage, fraction, step.message, eta, preview if preview and preview.is_file() else None)


def _run(request: AnimateRequest, prompt: str) -> Generator[tuple[str, steps.Step], None, RunResult]:
    config, out = request.config, request.out
    torch.set_num_threads(config.threads)
    cache = request.cache or out / ".stages"
    seeded = {"geometry": config.geometry, "seed": config.seed}
    recorder = RunRecorder(
        out / "run.json",
        inputs=[request.path],
        prompt=prompt,
        config=config.model_dump(mode="json"),
        seed=config.seed,
    )
    with recorder:
        with recorder.stage("prepare") as record:
            prepared = yield from _tagged(
                "prepare",
                run_stage(
                    PREPARE,
                    lambda folder: steps.prepare(folder, request.path, config),
                    cache=cache,
                    config={**seeded, "splat": config.splat, "size": config.stage1.size},
                    inputs={"object": object_files(request.path)},
                ),
            )
            record.cached = prepared.cached
        for note in steps.read_json(prepared / "prepared.json")["notes"]:
            recorder.warn(note)
        weights = model.weights_folder(config.stage1.weights)
        with recorder.stage("clip") as record:
            clip = yield from _tagged(
                "clip",
                run_stage(
                    CLIP,
                    lambda folder: steps.clip(folder, prepared.folder, prompt, weights, config),
                    cache=cache,
                    config={**seeded, "stage1": config.stage1, "device": config.device},
                    inputs={"prepared": prepared, "prompt": prompt},
                    weights=weights,
                ),
            )
            record.cached = clip.cached
        recorder.weights = steps.read_json(clip / "weights.json")
        shutil.copyfile(clip / "clip.mp4", out / "clip.mp4")
        with recorder.stage("fit") as record:
            fit = yield from _tagged(
                "fit",
                run_stage(
                    FIT,
                    lambda folder: steps.fit(folder, prepared.folder, clip.folder, config),
                    cache=cache,
                    config={**seeded, "stage2": config.stage2, "splat": config.splat, "device": config.device},
                    inputs={"prepared": prepared, "clip": clip},
                ),
            )
            record.cached = fit.cached
        shutil.copyfile(fit / "asset.safetensors", out / "asset.safetensors")
        with recorder.stage("export"):
            yield from (("export", step) for step in steps.export(out, prompt, config))
        result = RunResult.of(out)
        for name in ("clip", "orbit", "player", "asset", "plys"):
            recorder.add_output(name, getattr(result, name))
    return result


def _tagged(
    name: str, stage: Generator[steps.Step, None, StageOutput]
) -> Generator[tuple[str, steps.Step], None, StageOutput]:
    """Passes a stage's progress on with its name; returns its output."""
    while True:
        try:
            step = next(stage)
        except StopIteration as stop:
            return stop.value
        try:
            yield name, step
        except GeneratorExit:
            stage.close()
            raise


class _Clock:
    """Whole-job fraction and seconds left, from the shares and what has been timed so far."""

    def __init__(self) -> None:
        self.started = self.stage_started = time.perf_counter()
        self.stage = ""

    def update(self, stage: str, fraction: float) -> tuple[float, float | None]:
        """Fraction of the job and estimated seconds left at ``fraction`` of ``stage``."""
        now = time.perf_counter()
        if stage != self.stage:
            self.stage, self.stage_started = stage, now
        names = list(_SHARES)
        before = sum(_SHARES[name] for name in names[: names.index(stage)])
        after = sum(_SHARES[name] for name in names[names.index(stage) + 1 :])
        done = before + _SHARES[stage] * fraction
        if fraction <= 0.02:
            return done, None
        whole_stage = (now - self.stage_started) / fraction
        return done, whole_stage * (1 - fraction) + after * whole_stage / _SHARES[stage]
