"""Stage Two as stages: diffusion features of a finished clip, and the fit of the moving asset."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from t4d.config import Config, FeatureConfig, StageTwoConfig
from t4d.data.clip import Clip
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_maps import features_of
from t4d.motion.feature_table import FeatureTable
from t4d.motion.fit import FitState, fit_motion
from t4d.motion.projection import Projector
from t4d.motion.sds import VideoGuidance
from t4d.motion.visibility import visible_from_depth, visible_from_mesh
from t4d.splat.gaussians import Gaussians
from t4d.stages import write_atomically
from t4d.steps import CLIP, GAUSSIANS, SURFACE, Step, Weights, device_of, fit_options, reference_views

CHECKPOINT_EVERY, CHECKPOINT_SECONDS = 50, 10.0  # what comes first of these and the change of phase: no result depends
FEATURES = "features.safetensors"


def features(folder: Path, prepared: Path, clip: Path, prompt: str, weights: Weights, config: Config) -> Iterator[Step]:
    """Finished clip -> what the video model makes of it, projected to the Gaussians (second half of Eq. 6).

    Writes features.safetensors: ``maps`` [V, T, C, h, w] float16, ``visible`` [V, N], ``table.*``.
    """
    settings = config.stage2.features
    yield Step(0.0, "Loading the video model")
    model, shown = weights.model, Clip.load(clip / CLIP)
    yield Step(0.2, "Reading the clip's features")
    maps = features_of(
        settings.source,
        model,
        shown.rgb,
        shown.mask,
        reference_views(prepared, shown.cameras, config),
        shown.cameras,
        prompt,
        layer=settings.layer,
        t=settings.t,
        seed=config.seed,
    )
    yield Step(0.8, "Projecting the features")
    gaussians = Gaussians.from_state_dict(load_file(prepared / GAUSSIANS))
    if (prepared / SURFACE).is_file():
        surface = load_file(prepared / SURFACE)
        vertices, faces = surface["vertices"].numpy(), surface["faces"].numpy()
        visible = visible_from_mesh(vertices, faces, gaussians.means, shown.cameras)
    else:
        visible = visible_from_depth(gaussians.to(device_of(config)), shown.cameras, backend=config.splat.backend)
    table = Projector(maps, shown.cameras, settings.width, settings.neighbours).table(gaussians.means, visible)
    tensors = {"maps": maps, "visible": visible.cpu(), **{f"table.{k}": v for k, v in table.state_dict().items()}}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / FEATURES)
    weights.describe(folder)
    yield Step(1.0, "Features ready")


def fit(
    folder: Path, prepared: Path, clip: Path, features: Path | None, prompt: str, weights: Weights, config: Config
) -> Iterator[Step]:
    """Clip (and features) -> motion field and colour of the static Gaussians (Stage Two). Writes asset.safetensors.

    Closed at any step, it leaves a checkpoint of that iteration, so that the next run goes on from there.
    """
    settings, device = config.stage2, device_of(config)
    gaussians = Gaussians.from_state_dict(load_file(prepared / GAUSSIANS)).to(device)
    shown = Clip.load(clip / CLIP)
    yield Step(0.0, "Starting the motion fit")
    table, projector = (None, None) if features is None else _features_of(features, gaussians, shown, settings.features)
    checkpoint = folder / "checkpoint.safetensors"  # outlives a kill, see `t4d.stages`
    resume = load_file(checkpoint) if checkpoint.is_file() else None
    before = 0 if resume is None else int(resume["iteration"])
    # The bits depend on it, and the run before may have had another.
    earlier: list[int] = [] if resume is None else resume["threads"].tolist()
    threads = sorted({torch.get_num_threads(), *earlier})
    state, saved = None, (before, time.monotonic())
    try:
        for state in fit_motion(
            gaussians,
            shown.cameras,
            shown.rgb.to(device),
            shown.mask.to(device),
            table=None if table is None else table.to(device),
            reproject=None if projector is None else partial(_reproject, projector, config),
            guidance=_guidance(prompt, weights, config) if guided(settings) else None,
            seed=config.seed,
            backend=config.splat.backend,
            resume=resume,
            **fit_options(settings),
        ):
            due = state.iteration % CHECKPOINT_EVERY == 0 or state.iteration == settings.iterations
            due = due or time.monotonic() - saved[1] > CHECKPOINT_SECONDS
            if due and state.iteration < state.total:
                write_atomically(checkpoint, partial(save_file, _checkpoint(state, threads)))
                saved = (state.iteration, time.monotonic())
            yield _fit_step(state, before, saved[0], threads)
    except GeneratorExit:
        if state is not None and saved[0] < state.iteration < state.total:
            write_atomically(checkpoint, partial(save_file, _checkpoint(state, threads)))
        raise
    assert state is not None
    state.asset.save(folder / "asset.safetensors")
    if guided(settings):
        weights.describe(folder)


def guided(settings: StageTwoConfig) -> bool:
    """Whether a fit needs the video model for 4D-SDS."""
    return settings.refine_iterations > 0 and settings.guidance.lambda_sds > 0


def _guidance(prompt: str, weights: Weights, config: Config) -> VideoGuidance:
    options = config.stage2.guidance.model_dump(exclude={"lambda_sds"})
    return VideoGuidance(weights.model, prompt, backend=config.splat.backend, **options)


def _features_of(
    folder: Path, gaussians: Gaussians, shown: Clip, settings: FeatureConfig
) -> tuple[FeatureTable, Projector | None]:
    """The stored table and, where it is to be renewed, the projector that made it (its basis is found again)."""
    stored = load_file(folder / FEATURES)
    table = FeatureTable.from_state_dict(
        {name.removeprefix("table."): value for name, value in stored.items() if name.startswith("table.")}
    )
    if not settings.reproject_every:
        return table, None
    projector = Projector(stored["maps"], shown.cameras, settings.width, settings.neighbours)
    projector.table(gaussians.means, stored["visible"])
    return table, projector


@torch.no_grad()
def _reproject(projector: Projector, config: Config, asset: MotionAsset) -> FeatureTable:
    """The clip's features at the Gaussians as they have moved so far, each frame's at that frame's places."""
    later = asset.batch(torch.arange(1, asset.frames, dtype=torch.float32)).state_dict()
    moved = {name: torch.cat([value[None], later[name]]) for name, value in asset.at(0).state_dict().items()}
    return projector.reproject(Gaussians.from_state_dict(moved), config.splat.backend)


def _checkpoint(state: FitState, threads: list[int]) -> dict[str, torch.Tensor]:
    return {**state.checkpoint(), "threads": torch.tensor(threads)}


def _fit_step(state: FitState, before: int, saved: int, threads: list[int]) -> Step:
    doing = "Fitting motion" if state.phase == "reconstruct" else "Refining"
    facts = {
        "phase": state.phase,
        "iteration": state.iteration,
        "iterations": state.total,
        "resumed_from": before,
        "checkpoint": saved,
        "threads": torch.get_num_threads(),
        "threads_so_far": threads,
        "loss": state.loss,
        "terms": state.terms,
    }
    # Of what this run has to do: the time left is judged by it.
    done = (state.iteration - before) / (state.total - before)
    return Step(done, f"{doing}, step {state.iteration} of {state.total}", facts, state)
