"""One job: its stages in order, run through `t4d.stages`, and its run.json."""

import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from t4d import delivery, stage_two, steps
from t4d.clip_folder import check_exists
from t4d.config import Config
from t4d.data.clip import Clip
from t4d.diffusion import model
from t4d.errors import Cancelled, InputError
from t4d.export.manifest import RunRecorder
from t4d.geometry.object3d import object_files
from t4d.motion.fit import FitState
from t4d.prompt import checked_prompt
from t4d.stages import Stage, StageOutput, run_stage

_FEATURE_CODE = ("feature_maps.py", "feature_table.py", "projection.py", "visibility.py")

PREPARE = Stage("prepare", version=2, code=("geometry", "splat", "steps.py"))
CLIP = Stage("clip", version=2, code=("diffusion", "steps.py"))
IMPORT = Stage("import", version=1, code=("clip_folder.py", "clip_cameras.py", "data/clip.py", "steps.py"))
FEATURES = Stage("features", 1, ("diffusion", "stage_two.py", *(f"motion/{name}" for name in _FEATURE_CODE)))
FIT = Stage("fit", version=2, code=("motion", "splat", "diffusion", "stage_two.py"))


@dataclass(frozen=True)
class AnimateRequest:
    """What to do.

    Attributes:
        path: object file (.glb, .gltf, .obj, .ply).
        prompt: one sentence; where a clip is given it may be empty and is then the clip's, if that has one.
        out: folder for the results; made if missing. Files of an earlier run in it are replaced.
        config: resolved configuration.
        cache: folder of stage outputs; None uses ``out/.stages``.
        clip: a clip of the object from elsewhere (see `t4d.clip_folder`), fitted instead of a generated one.
        views: number of views of that clip where its folder does not tell.
    """

    path: Path
    prompt: str
    out: Path
    config: Config
    cache: Path | None = None
    clip: Path | None = None
    views: int | None = None


@dataclass(frozen=True)
class RunResult:
    """Paths of everything a run wrote.

    Attributes:
        glb: None where the object has no triangles or it was not asked for.
        tracks, spz: folders, None where not asked for.
        stopped: why the fit is not finished, in one sentence; None where it is.
    """

    folder: Path
    clip: Path
    orbit: Path
    player: Path
    asset: Path
    plys: Path
    manifest: Path
    glb: Path | None = None
    tracks: Path | None = None
    spz: Path | None = None
    stopped: str | None = None

    @classmethod
    def of(cls, folder: Path, stopped: str | None = None) -> "RunResult":
        """The result's paths in a run folder."""
        glb, tracks, spz = folder / delivery.GLB, folder / delivery.TRACKS, folder / delivery.SPZ
        return cls(
            folder,
            folder / "clip.mp4",
            folder / "orbit.mp4",
            folder / "player.html",
            folder / "asset.safetensors",
            folder / "frames",
            folder / "run.json",
            glb if glb.is_file() else None,
            tracks if any(tracks.glob("*")) else None,
            spz if any(spz.glob("*")) else None,
            stopped,
        )

    def outputs(self) -> dict[str, Path]:
        """Files and folders for the user, by name."""
        names = ("clip", "orbit", "player", "asset", "plys", "glb", "tracks", "spz")
        return {name: path for name in names if (path := getattr(self, name)) is not None}


# Yields stage name and step.
Running = Generator[tuple[str, steps.Step], None, StageOutput]


class Job:
    """The stages of one request.

    Args:
        request: what to do.
        prompt: its checked sentence.
        stop: asked between steps; True ends the fit where it stands, and an earlier stage with `Cancelled`.
    """

    def __init__(self, request: AnimateRequest, prompt: str, stop: Callable[[], bool]) -> None:
        config = request.config
        self.request, self.prompt, self.config, self.stop = request, prompt, config, stop
        self.cache = request.cache or request.out / ".stages"
        weights, fork = config.stage1.weights, config.stage1.fork
        self.weights = steps.Weights(weights, steps.device_of(config), fork)
        needed = request.clip is None or config.stage2.features.enabled or stage_two.guided(config.stage2)
        self.weights_files = model.weights_files(weights, fork) if needed else None
        # What every stage depends on besides its own section of the configuration.
        # Of the device its kind: "auto" is one of the others, and two cards of a machine share what either has made.
        kind = steps.device_of(config).type
        if (config.splat.backend, kind) in (("cpu", "cuda"), ("gsplat", "cpu")):
            raise InputError(
                f"splat.backend is {config.splat.backend} and the job runs on the device {kind}; set "
                "splat.backend=auto, or device."
            )
        self.common = {"geometry": config.geometry, "splat": config.splat, "seed": config.seed, "device": kind}
        self.halted: FitState | None = None
        self.recorder = RunRecorder(
            request.out / "run.json",
            inputs=[request.path, *([request.clip] if request.clip and request.clip.is_file() else [])],
            prompt=prompt,
            config=config.model_dump(mode="json"),
            seed=config.seed,
        )

    def run(self) -> Generator[tuple[str, steps.Step], None, RunResult]:
        """All stages, yielding name and step of each; returns the result."""
        out, recorder = self.request.out, self.recorder
        torch.set_num_threads(self.config.threads)
        with recorder:
            prepared = yield from self._prepare()
            facts = steps.read_json(prepared / "prepared.json")
            for note in facts["notes"]:
                recorder.warn(note)
            clip = yield from (self._generate(prepared) if self.request.clip is None else self._import(prepared))
            for name in ("clip.mp4", steps.CLIP):
                shutil.copyfile(clip / name, out / name)
            shown = Clip.load(clip / steps.CLIP)
            if not self.prompt and shown.prompt.strip():
                self.prompt = checked_prompt(shown.prompt)
                recorder.set_prompt(self.prompt)
            features = None
            if self.config.stage2.features.enabled:
                features = yield from self._features(prepared, clip)
            stopped = yield from self._fit(prepared, clip, features)
            with recorder.stage("export") as record:
                title = self.prompt or facts["name"]
                for step in delivery.export(
                    out, self.request.path, prepared.folder, shown.cameras, shown.fps, title, self.config
                ):
                    for sentence in step.warnings:
                        recorder.warn(sentence)
                    record.details.update(step.facts)
                    yield "export", step
            result = RunResult.of(out, stopped)
            for name, path in result.outputs().items():
                recorder.add_output(name, path)
        return result

    def _prepare(self) -> Running:
        path = self.request.path
        return self._stage(
            "prepare",
            PREPARE,
            lambda folder: steps.prepare(folder, path, self.config),
            inputs={"object": object_files(path)},
        )

    def _generate(self, prepared: StageOutput) -> Running:
        return self._stage(
            "clip",
            CLIP,
            lambda folder: steps.clip(folder, prepared.folder, self.prompt, self.weights, self.config),
            config={"stage1": self.config.stage1},
            inputs={"prepared": prepared, "prompt": self.prompt},
            weights=self.weights_files,
        )

    def _import(self, prepared: StageOutput) -> Running:
        path, views = self.request.clip, self.request.views
        assert path is not None
        check_exists(path)  # before it is hashed
        return self._stage(
            "clip",
            IMPORT,
            lambda folder: steps.import_clip(folder, prepared.folder, path, views, self.config),
            config={"fps": self.config.stage1.fps},
            inputs={"prepared": prepared, "clip": path, "views": views},
        )

    def _features(self, prepared: StageOutput, clip: StageOutput) -> Running:
        return self._stage(
            "features",
            FEATURES,
            lambda folder: stage_two.features(
                folder, prepared.folder, clip.folder, self.prompt, self.weights, self.config
            ),
            # When they are projected again is the fit's business.
            config=self.config.stage2.features.model_dump(exclude={"reproject_every"}),
            inputs={"prepared": prepared, "clip": clip, "prompt": self.prompt},
            weights=self.weights_files,
        )

    def _fit(
        self, prepared: StageOutput, clip: StageOutput, features: StageOutput | None
    ) -> Generator[tuple[str, steps.Step], None, str | None]:
        """Writes the asset into the run folder; returns why it is not finished, if it is not."""
        guided, asset = stage_two.guided(self.config.stage2), self.request.out / "asset.safetensors"
        fitted = yield from self._stage(
            "fit",
            FIT,
            lambda folder: stage_two.fit(
                folder,
                prepared.folder,
                clip.folder,
                None if features is None else features.folder,
                self.prompt,
                self.weights,
                self.config,
            ),
            config={"stage2": self.config.stage2},
            inputs={
                "prepared": prepared,
                "clip": clip,
                "features": features,
                "prompt": self.prompt if guided else None,
            },
            weights=self.weights_files if guided else None,
        )
        if fitted is not None:
            shutil.copyfile(fitted / "asset.safetensors", asset)
            return None
        assert self.halted is not None
        self.halted.asset.save(asset)
        sentence = (
            f"Stopped at iteration {self.halted.iteration} of {self.halted.total}; "
            "the same job run again goes on from there."
        )
        self.recorder.stopped = True
        self.recorder.warn(sentence)
        return sentence

    def _stage(
        self,
        name: str,
        stage: Stage,
        work: Callable[[Path], Iterator[steps.Step]],
        *,
        config: Any = None,
        inputs: dict[str, Any],
        weights: list[Path] | None = None,
    ) -> Generator[tuple[str, steps.Step], None, Any]:
        """Runs one stage under the recorder; returns its output, or None where it was stopped with something to keep.

        The recorder's file is written again whenever the stage has written a checkpoint, so that a run that is killed
        says how far it came.
        """
        with self.recorder.stage(name) as record:
            run = run_stage(
                stage, work, cache=self.cache, config={**self.common, name: config}, inputs=inputs, weights=weights
            )
            while True:
                try:
                    step = next(run)
                except StopIteration as ended:
                    record.cached = ended.value.cached
                    if (ended.value / steps.WEIGHTS).is_file():
                        self.recorder.weights = steps.read_json(ended.value / steps.WEIGHTS)
                    return ended.value
                try:
                    new = step.facts.get("checkpoint") != record.details.get("checkpoint")
                    record.details.update(step.facts)
                    if new:
                        self.recorder.write()
                    finished = step.state is not None and step.state.iteration == step.state.total
                    if self.stop() and not finished:
                        if step.state is None:
                            raise cancelled()
                        self.halted = step.state
                        run.close()
                        return None
                    yield name, step
                except BaseException:
                    run.close()
                    raise


def cancelled() -> Cancelled:
    """What ends a cancelled job."""
    return Cancelled("The job was cancelled; what was finished is kept and used when it is run again.")
