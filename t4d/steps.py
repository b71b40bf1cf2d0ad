"""The bodies of the pipeline's four stages: each reads files, works, and writes files into its folder.

Frames: world z up; clips are [V, T, ...] over mid-grey; see `t4d.pipeline` for how they are run and cached.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from t4d.config import Config, GeometryConfig, StageTwoConfig
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.diffusion.segmenter import BackgroundSegmenter
from t4d.export.player import write_player
from t4d.export.ply import write_ply_sequence
from t4d.export.video import write_grid, write_orbit
from t4d.geometry.camera import Camera, rig
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import LightRig, shade_vertices
from t4d.motion.asset import MotionAsset
from t4d.motion.fit import fit_motion
from t4d.splat.binding import bind_gaussians
from t4d.splat.gaussians import Gaussians
from t4d.splat.render import render_gaussians
from t4d.stages import write_atomically

CHECKPOINT_EVERY = 50


@dataclass(frozen=True)
class Step:
    """Progress inside a stage: fraction 0..1 and one line for a person."""

    fraction: float
    message: str


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def device_of(config: Config) -> torch.device:
    """The torch device a configuration asks for; "auto" is CUDA where there is one."""
    if config.device != "auto":
        return torch.device(config.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cameras_of(geometry: GeometryConfig, size: int) -> list[Camera]:
    """The rig the clip is generated and fitted in, square pictures of ``size`` pixels."""
    return rig(geometry.azimuths, geometry.elevation, geometry.distance, geometry.vfov, size, size)


def prepare(folder: Path, path: Path, config: Config) -> Iterator[Step]:
    """Object file -> static Gaussians bound to its triangles, and the condition views (paper 3.1, 3.3).

    Light is baked into the Gaussians at rest, as the paper bakes it into vertex colours.

    Writes: gaussians.safetensors; binding.safetensors; reference.safetensors (``rgba`` [V, 4, H, W]); prepared.json.
    """
    yield Step(0.0, "Reading the object")
    loaded = load_object(path)
    vertices = Normaliser.fit_static(loaded, radius=config.geometry.radius).apply(loaded.rest_vertices())
    light = shade_vertices(loaded.mesh, vertices, LightRig())
    yield Step(0.3, f"Placing {config.splat.count} Gaussians on {len(loaded.mesh.faces)} triangles")
    gaussians, binding = bind_gaussians(loaded.mesh, vertices, config.splat.count, light, config.seed)
    save_file(gaussians.state_dict(), folder / "gaussians.safetensors")
    save_arrays(vars(binding), folder / "binding.safetensors")
    yield Step(0.6, "Rendering the condition views")
    cameras = cameras_of(config.geometry, config.stage1.size)
    device = device_of(config)
    with torch.no_grad():
        rgba = render_gaussians(gaussians.to(device), cameras, backend=config.splat.backend)
    save_file({"rgba": rgba.cpu().contiguous()}, folder / "reference.safetensors")
    facts = {"name": loaded.name, "notes": loaded.notes, "triangles": len(loaded.mesh.faces)}
    (folder / "prepared.json").write_text(json.dumps(facts, indent=1))
    yield Step(1.0, "Object ready")


def clip(folder: Path, prepared: Path, prompt: str, weights: Path | None, config: Config) -> Iterator[Step]:
    """Condition views + sentence -> clip (Stage One).

    Writes: clip.safetensors (``rgb`` [V, T, 3, H, W] and ``mask`` [V, T, 1, H, W], float16), clip.mp4, weights.json.
    """
    settings = config.stage1
    yield Step(0.0, "Loading the video model")
    model = VideoModel.load(settings.weights if weights is None else weights).to(device_of(config))
    reference = load_file(prepared / "reference.safetensors")["rgba"]
    state = None
    for state in sample_clip(
        model,
        reference,
        cameras_of(config.geometry, settings.size),
        prompt,
        frames=settings.frames,
        steps=settings.steps,
        guidance=settings.guidance,
        seed=config.seed,
        scheduler=settings.scheduler,
        first_frame=settings.first_frame,
        free_init=settings.free_init,
    ):
        yield Step(0.05 + 0.9 * state.step / state.total, f"Denoising, step {state.step} of {state.total}")
    assert state is not None and state.clip_rgba is not None
    rgb, mask = split_clip(state.clip_rgba, reference, has_alpha=model.has_alpha)
    save_file({"rgb": rgb.half().contiguous(), "mask": mask.half().contiguous()}, folder / "clip.safetensors")
    write_grid(folder / "clip.mp4", rgb, settings.fps)
    facts = {"label": model.label, "name": settings.weights, "sha256": model.sha256}
    (folder / "weights.json").write_text(json.dumps(facts, indent=1))
    yield Step(1.0, "Clip ready")


def split_clip(rgba: Tensor, reference: Tensor, *, has_alpha: bool) -> tuple[Tensor, Tensor]:
    """Colour and object mask of a generated clip [V, T, 4, H, W].

    An RGBA autoencoder's alpha above one half is the mask; without one it comes from `BackgroundSegmenter`.
    """
    rgb = rgba[:, :, :3].clamp(0, 1).float().cpu()
    if has_alpha:
        return rgb, (rgba[:, :, 3:] > 0.5).float().cpu()
    return rgb, BackgroundSegmenter()(rgb, reference[:, 3:])


def fit(folder: Path, prepared: Path, clip: Path, config: Config) -> Iterator[Step]:
    """Clip -> motion field of the static Gaussians (Stage Two). Writes asset.safetensors."""
    settings, device = config.stage2, device_of(config)
    gaussians = Gaussians.from_state_dict(load_file(prepared / "gaussians.safetensors")).to(device)
    tensors = load_file(clip / "clip.safetensors")
    yield Step(0.0, "Starting the motion fit")
    state, checkpoint = None, folder / "checkpoint.safetensors"  # outlives a kill, see `t4d.stages`
    for state in fit_motion(
        gaussians,
        cameras_of(config.geometry, config.stage1.size),
        tensors["rgb"].float().to(device),
        tensors["mask"].float().to(device),
        seed=config.seed,
        backend=config.splat.backend,
        resume=load_file(checkpoint) if checkpoint.is_file() else None,
        **fit_options(settings),
    ):
        if state.iteration % CHECKPOINT_EVERY == 0 and state.iteration < state.total:
            write_atomically(checkpoint, partial(save_file, state.checkpoint()))
        yield Step(state.iteration / state.total, f"Fitting motion, step {state.iteration} of {state.total}")
    assert state is not None
    state.asset.save(folder / "asset.safetensors")


def fit_options(settings: StageTwoConfig) -> dict[str, Any]:
    """The arguments of `fit_motion` that a configuration holds (not table, reproject and guidance: they are built)."""
    nested = {"field", "features", "appearance", "guidance"}
    field = settings.field.model_dump()
    field["planes"] = [(plane.space, plane.time) for plane in settings.field.planes]
    return {
        **settings.model_dump(exclude=nested),
        "field": field,
        "appearance": settings.appearance.model_dump(exclude={"enabled"}) if settings.appearance.enabled else None,
        "lambda_sds": settings.guidance.lambda_sds,
        "reproject_every": settings.features.reproject_every,
    }


def export(out: Path, prompt: str, config: Config) -> Iterator[Step]:
    """``asset.safetensors`` in ``out`` -> orbit.mp4, player.html and frames/NNNN.ply beside it."""
    asset = MotionAsset.load(out / "asset.safetensors").to(device_of(config))
    frames, fps = asset.frames, config.stage1.fps
    yield Step(0.0, "Rendering the orbit")
    write_orbit(
        out / "orbit.mp4",
        asset.at,
        frames,
        fps,
        length=config.export.orbit_frames,
        size=config.export.orbit_size,
        elevation=config.geometry.elevation,
        distance=config.geometry.distance,
        vfov=config.geometry.vfov,
        backend=config.splat.backend,
    )
    yield Step(0.6, "Writing the player")
    write_player(out / "player.html", asset.at, frames, fps, title=prompt)
    yield Step(0.9, "Writing the PLY frames")
    write_ply_sequence(out / "frames", asset.at, frames, fps)
    yield Step(1.0, "Files written")
