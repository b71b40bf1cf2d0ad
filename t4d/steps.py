"""The bodies of the first stages: each reads files, works, and writes files into its folder.

Frames: world z up; clips are [V, T, ...] over mid-grey; see `t4d.pipeline` for how they are run and cached, and
`t4d.stage_two` and `t4d.delivery` for the later ones.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from t4d.clip_folder import check_silhouettes, read_clip
from t4d.config import Config, GeometryConfig, StageTwoConfig
from t4d.data.clip import Clip
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.diffusion.segmenter import BackgroundSegmenter
from t4d.errors import InputError
from t4d.export.video import write_grid
from t4d.geometry.camera import Camera, rig
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import LightRig, shade_vertices
from t4d.motion.fit import FitState
from t4d.splat.binding import bind_gaussians
from t4d.splat.gaussians import Gaussians
from t4d.splat.object_ply import is_gaussian_ply, load_gaussian_object
from t4d.splat.render import render_gaussians

CLIP = "clip.safetensors"
WEIGHTS = "weights.json"  # which weights made a stage's output
GAUSSIANS = "gaussians.safetensors"
BINDING = "binding.safetensors"  # absent where the object has no triangles, as is the next
SURFACE = "surface.safetensors"


@dataclass(frozen=True)
class Step:
    """Progress inside a stage.

    Attributes:
        fraction: 0..1 of the stage.
        message: one line for a person.
        facts: JSON values about where the stage stands, for run.json.
        state: of the fit, whose asset is viewable; None elsewhere.
        warnings: sentences for the user, kept in run.json.
    """

    fraction: float
    message: str
    facts: dict[str, Any] = field(default_factory=dict)
    state: FitState | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class Weights:
    """The video model of one job, loaded when a stage first needs it and shared by those after it.

    Attributes:
        name: "mini", "public" or a folder (``VideoModel.load``).
        device: where it works.
        fork: of these weights, put on when they are loaded; "": none.
    """

    name: str
    device: torch.device
    fork: str = ""

    @cached_property
    def model(self) -> VideoModel:
        """The networks; a job trains none, and autocast keeps copies of weights that could be."""
        found = VideoModel.load(self.name, self.fork).to(self.device)
        for part in found.parts.values():
            part.requires_grad_(False)
        return found

    def describe(self, folder: Path) -> None:
        """Writes weights.json: label, name and digest of the model."""
        facts = {"label": self.model.label, "name": self.name, "sha256": self.model.sha256, "fork": self.fork}
        (folder / WEIGHTS).write_text(json.dumps(facts, indent=1))


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text())


def device_of(config: Config) -> torch.device:
    """The torch device a configuration asks for; "auto" is CUDA where there is one.

    Raises:
        InputError: there is no such device here.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(config.device)
    except RuntimeError:
        device = torch.device("meta")  # refused below
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= count):
        raise InputError(
            f"The device {config.device!r} was asked for and this machine has the CPU and {count} CUDA devices; set "
            "device to auto, cpu, cuda or cuda:N."
        )
    return device


def cameras_of(geometry: GeometryConfig, width: int, height: int) -> list[Camera]:
    """The rig a clip is generated in, for pictures of ``width`` x ``height`` pixels."""
    return rig(geometry.azimuths, geometry.elevation, geometry.distance, geometry.vfov, width, height)


def prepare(folder: Path, path: Path, config: Config) -> Iterator[Step]:
    """Object file -> static Gaussians, bound to its triangles where it has any (paper 3.1, 3.3).

    Light is baked into the Gaussians of a mesh at rest, as the paper bakes it into vertex colours; a 3DGS file has its
    own.

    Writes: gaussians.safetensors; for a mesh binding.safetensors and surface.safetensors (``vertices`` [Nv, 3] world,
    ``faces`` [F, 3]); prepared.json (name, notes, triangles, and for a mesh ``matrix`` [4, 4], file space -> world).
    """
    yield Step(0.0, "Reading the object")
    geometry, count = config.geometry, config.splat.count
    up = None if geometry.up == "auto" else geometry.up
    if is_gaussian_ply(path):
        gaussians, notes = load_gaussian_object(path, count, geometry.radius, up, config.seed)
        facts = {"name": path.stem, "notes": notes, "triangles": 0}
    else:
        loaded = load_object(path, up=up)
        normaliser = Normaliser.fit_static(loaded, radius=geometry.radius)
        vertices = normaliser.apply(loaded.rest_vertices())
        light = shade_vertices(loaded.mesh, vertices, LightRig())
        yield Step(0.3, f"Placing {count} Gaussians on {len(loaded.mesh.faces)} triangles")
        gaussians, binding = bind_gaussians(loaded.mesh, vertices, count, light, config.seed)
        binding.save(folder / BINDING)
        save_arrays({"vertices": vertices, "faces": loaded.mesh.faces}, folder / SURFACE)
        facts = {"name": loaded.name, "notes": loaded.notes, "triangles": len(loaded.mesh.faces)}
        facts["matrix"] = normaliser.matrix.tolist()
    save_file(gaussians.state_dict(), folder / GAUSSIANS)
    (folder / "prepared.json").write_text(json.dumps(facts, indent=1))
    yield Step(1.0, "Object ready")


def clip(folder: Path, prepared: Path, prompt: str, weights: Weights, config: Config) -> Iterator[Step]:
    """Static object + sentence -> clip (Stage One). Writes clip.safetensors (a `Clip`), clip.mp4, weights.json."""
    settings = config.stage1
    yield Step(0.0, "Loading the video model")
    model = weights.model
    cameras = cameras_of(config.geometry, settings.size, settings.size)
    reference = reference_views(prepared, cameras, config)
    state = None
    for state in sample_clip(
        model,
        reference,
        cameras,
        prompt,
        frames=settings.frames,
        steps=settings.steps,
        guidance=settings.guidance,
        seed=config.seed,
        scheduler=settings.scheduler,
        first_frame=settings.first_frame,
        truncation=settings.truncation,
        free_init=settings.free_init,
    ):
        yield Step(0.05 + 0.9 * state.step / state.total, f"Denoising, step {state.step} of {state.total}")
    assert state is not None and state.clip_rgba is not None
    rgb, mask = split_clip(state.clip_rgba, reference, has_alpha=model.has_alpha)
    _write_clip(folder, Clip(rgb, mask, cameras, settings.fps, prompt))
    weights.describe(folder)
    yield Step(1.0, "Clip ready")


def import_clip(folder: Path, prepared: Path, path: Path, views: int | None, config: Config) -> Iterator[Step]:
    """A clip from elsewhere, checked against the object. Writes what `clip` does, without weights.json."""
    yield Step(0.0, "Reading the clip")
    found = read_clip(path, partial(cameras_of, config.geometry), views=views, fps=config.stage1.fps)
    yield Step(0.5, "Comparing the clip with the object")
    check_silhouettes(found, reference_views(prepared, found.clip.cameras, config)[:, 3:])
    _write_clip(folder, found.clip)
    yield Step(1.0, "Clip ready")


def _write_clip(folder: Path, made: Clip) -> None:
    made.save(folder / CLIP)
    write_grid(folder / "clip.mp4", made.rgb, made.fps)


def reference_views(prepared: Path, cameras: list[Camera], config: Config) -> Tensor:
    """The static object in some cameras, over mid-grey: [V, 4, H, W] on the CPU."""
    gaussians = Gaussians.from_state_dict(load_file(prepared / GAUSSIANS)).to(device_of(config))
    with torch.no_grad():
        return render_gaussians(gaussians, cameras, backend=config.splat.backend).cpu().contiguous()


def split_clip(rgba: Tensor, reference: Tensor, *, has_alpha: bool) -> tuple[Tensor, Tensor]:
    """Colour and object mask of a generated clip [V, T, 4, H, W].

    An RGBA autoencoder's alpha above one half is the mask; without one it comes from `BackgroundSegmenter`.
    """
    rgb = rgba[:, :, :3].clamp(0, 1).float().cpu()
    if has_alpha:
        return rgb, (rgba[:, :, 3:] > 0.5).float().cpu()
    return rgb, BackgroundSegmenter()(rgb, reference[:, 3:])


def fit_options(settings: StageTwoConfig) -> dict[str, Any]:
    """The arguments of `fit_motion` that a configuration holds (not table, reproject and guidance: they are built)."""
    nested = {"field", "features", "appearance", "guidance"}
    field = settings.field.model_dump(exclude={"global_rate"})
    field["planes"] = [(plane.space, plane.time) for plane in settings.field.planes]
    return {
        **settings.model_dump(exclude=nested),
        "field": field,
        "appearance": settings.appearance.model_dump(exclude={"enabled"}) if settings.appearance.enabled else None,
        "lambda_sds": settings.guidance.lambda_sds,
        "reproject_every": settings.features.reproject_every,
        "feature_rate": settings.features.rate,
        "global_rate": settings.field.global_rate,
    }
