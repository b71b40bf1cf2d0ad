"""The one configuration schema, shared by the UI, the command line, evaluation and Stage Two training.

Values come from a preset (``t4d/presets/*.yaml``), then from named sparse patches of ``t4d/variants.yaml``, then from
``key=value`` overrides; the whole is validated once. This module imports neither torch nor gradio, so that the web
process can build forms from it.
"""

import copy
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from t4d.errors import InputError

_PRESETS = Path(__file__).parent / "presets"
_VARIANTS = Path(__file__).parent / "variants.yaml"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class GeometryConfig(_Section):
    """Normalisation, light and cameras of the static object."""

    radius: float = Field(default=0.7, gt=0.1, le=1.0, description="Rest-pose radius after normalisation, world units.")
    up: Literal["auto", "y", "z", "-y"] = Field(
        default="auto", description="The object file's up axis; 'auto' follows its format ('-y': 3DGS captures only)."
    )
    azimuths: tuple[float, ...] = Field(default=(0, 90, 180, 270), min_length=1, description="Rig azimuths, degrees.")
    elevation: float = Field(default=15.0, ge=-80, le=80, description="Rig elevation, degrees.")
    distance: float = Field(default=3.0, gt=1.0, le=20, description="Camera distance, world units.")
    vfov: float = Field(default=40.0, gt=5, le=120, description="Vertical field of view, degrees.")


class SplatConfig(_Section):
    """Static Gaussians bound to the mesh."""

    count: int = Field(default=8000, ge=100, le=500_000, description="Number of Gaussians.")
    backend: Literal["auto", "reference", "cpu", "gsplat"] = Field(default="auto", description="Rasteriser back-end.")


class StageOneConfig(_Section):
    """Sampling of the multi-view video diffusion model."""

    weights: str = Field(default="mini", description="'mini', 'public' (Hub), or a folder written by train/stage1.py.")
    fork: str = Field(
        default="",
        description="A fork of the weights: its folder (train/stage1.py --fork), or a shipped one's name; empty: none.",
    )
    size: int = Field(default=128, ge=32, le=512, multiple_of=8, description="Clip side, pixels.")
    frames: int = Field(default=16, ge=2, le=64, description="Frames per clip, the static frame 0 included.")
    fps: float = Field(default=8.0, gt=0, le=60, description="Playback rate of the written videos, frames per second.")
    steps: int = Field(default=25, ge=1, le=200, description="Denoising steps (paper: 25).")
    guidance: float = Field(default=2.0, ge=0, le=30, description="Classifier-free guidance scale; 1 switches it off.")
    scheduler: str = Field(
        default="ddim", description="Any diffusers scheduler by name: ddim, unipc, dpm++, euler, ..."
    )
    first_frame: Literal["clean", "mean_beta"] = Field(
        default="clean", description="Frame 0 at inference: clean, or with the mean noise of Eq. 2."
    )
    truncation: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="How far a sample may be from the network's first guess: 1 as far as it is, 0 not at all; null: "
        "what the weights were chosen with.",
    )
    free_init: int = Field(default=0, ge=0, le=5, description="FreeInit iterations; 0 is off (Animate3D uses 3).")


class PlaneConfig(_Section):
    """One resolution of the Hex-planes."""

    space: int = Field(default=100, ge=4, le=512, description="Samples along x, y and z.")
    time: int = Field(default=8, ge=2, le=128, description="Samples along t.")


class FieldConfig(_Section):
    """Hex-planes and deformation heads (Eq. 6 and 7)."""

    planes: tuple[PlaneConfig, ...] = Field(
        default=(PlaneConfig(),), min_length=1, description="Resolutions whose features are concatenated (paper: one)."
    )
    features: int = Field(default=16, ge=1, le=128, description="Feature width of one resolution.")
    levels: int = Field(
        default=5, ge=1, le=8, description="Scales that parametrise a plane; 1 is the plane itself (paper)."
    )
    hidden: int = Field(default=64, ge=1, le=1024, description="Hidden width of the heads (Animate3D: 32).")
    bias: bool = Field(default=True, description="Whether the heads' layers have a bias (Animate3D: no).")
    global_transform: bool = Field(
        default=False, description="A rotation and translation of the whole object before the offsets (Animate3D)."
    )
    global_rate: float = Field(
        default=10.0, gt=0, le=1000, description="Learning rate of the global transform over that of the heads."
    )


class FeatureConfig(_Section):
    """Diffusion features of the clip at every Gaussian (second half of Eq. 6)."""

    enabled: bool = Field(default=True, description="Whether the field reads them.")
    layer: str = Field(
        default="up_blocks.1.motion_modules.-1", description="Module of the denoiser that is read; -1 is the last."
    )
    t: int = Field(default=51, ge=0, le=999, description="feature_t: noise level of the clip when it is read.")
    width: int = Field(default=16, ge=1, le=1280, description="Channels kept, by PCA.")
    neighbours: int = Field(
        default=4, ge=0, le=64, description="Seen Gaussians whose features an unseen one borrows; 0 gives it zeros."
    )
    rate: float = Field(
        default=0.3,
        gt=0,
        le=10,
        description="Learning rate of the heads' weights for these features over that of their others.",
    )
    reproject_every: int = Field(
        default=0, ge=0, le=10_000, description="Iterations between projections of the moved centres; 0 is never."
    )
    source: Literal["trained", "untrained", "random"] = Field(
        default="trained", description="Whose features: the model's, those of random weights, or random vectors."
    )


class AppearanceConfig(_Section):
    """4D spherical harmonics (Eq. 8)."""

    enabled: bool = Field(default=True, description="Whether colour changes over time.")
    degree: int = Field(default=0, ge=0, le=3, description="l_max.")
    terms: int = Field(default=5, ge=2, le=32, description="w, cosine terms kept.")
    lr: float = Field(default=2.5e-3, gt=0, le=1, description="Adam learning rate of the coefficients.")
    start: float = Field(
        default=0.75, ge=0, le=1, description="Share of the reconstruction before colour changes: motion comes first."
    )
    damping: float = Field(
        default=0.4,
        ge=0,
        le=1e3,
        description="Adam's epsilon times the number of Gaussians, so that those that hardly show keep their colour.",
    )


class GuidanceConfig(_Section):
    """4D-SDS (Eq. 11), in the refinement iterations."""

    lambda_sds: float = Field(default=0.01, ge=0, description="lambda_5; 0 switches 4D-SDS off.")
    size: int = Field(default=128, ge=32, le=512, multiple_of=8, description="Side of the rendered pictures, pixels.")
    frames: int = Field(default=16, ge=2, le=32, description="Most frames per step, frame 0 included.")
    views: int = Field(default=4, ge=1, le=16, description="Views of the random rig of a step.")
    t_min: int = Field(default=20, ge=0, le=999, description="Least noise level.")
    t_max: int = Field(default=200, ge=0, le=999, description="Largest noise level.")
    scale: float = Field(default=6.0, ge=0, le=30, description="Classifier-free guidance u + scale (c - u).")
    rescale: float = Field(default=0.25, ge=0, le=1, description="Share of z0 brought to the conditional z0's spread.")


class StageTwoConfig(_Section):
    """Fit of the motion field to the clip (paper 3.3)."""

    iterations: int = Field(default=300, ge=1, le=20_000, description="Reconstruction iterations.")
    refine_iterations: int = Field(default=8, ge=0, le=20_000, description="Further iterations with 4D-SDS (and ARAP).")
    images_per_step: int = Field(default=16, ge=1, le=1024, description="Images per step (views x random frames).")
    lr_planes: float = Field(
        default=0.01, gt=0, le=1, description="Adam learning rate of the Hex-planes (coarsest level)."
    )
    lr_heads: float = Field(default=3e-3, gt=0, le=1, description="Adam learning rate of the heads.")
    fine_rate: float = Field(
        default=0.5, gt=0, le=1, description="Learning rate of a finer level over the next coarser one."
    )
    lambda_rec: float = Field(default=100.0, ge=0, description="lambda_4, weight of L_rec (Eq. 10).")
    lambda_arap: float = Field(default=0.2, ge=0, description="lambda_6, weight of ARAP while reconstructing.")
    lambda_arap_refine: float = Field(default=0.2, ge=0, description="lambda_6, weight of ARAP while refining.")
    arap_samples: int = Field(
        default=512, ge=1, le=500_000, description="Gaussians drawn per iteration to judge ARAP (Animate3D: 512)."
    )
    final_rate: float = Field(
        default=0.1, gt=0, le=1, description="Share of the learning rates left at the end; 1 keeps them constant."
    )
    progressive: float = Field(
        default=0.75, ge=0, le=1, description="Share of the reconstruction in which frames enter in order."
    )
    coarse: float = Field(default=0.4, ge=0, le=1, description="Share of the reconstruction on pictures of half size.")
    gradient_share: float = Field(
        default=1.0, gt=0, le=1, description="Share of the Gaussians that get gradients while reconstructing."
    )
    scales_move: Literal["always", "refine"] = Field(
        default="always", description="When scale offsets are used (Animate3D: in the refinement only)."
    )
    field: FieldConfig = Field(default=FieldConfig(), description="Hex-planes and heads.")
    features: FeatureConfig = Field(default=FeatureConfig(), description="Diffusion features.")
    appearance: AppearanceConfig = Field(default=AppearanceConfig(), description="4D spherical harmonics.")
    guidance: GuidanceConfig = Field(default=GuidanceConfig(), description="4D-SDS.")


class ExportConfig(_Section):
    """Written files."""

    orbit_frames: int = Field(default=64, ge=2, le=1000, description="Frames of orbit.mp4.")
    orbit_size: int = Field(default=256, ge=32, le=2048, multiple_of=2, description="Side of orbit.mp4, pixels.")
    glb: bool = Field(default=True, description="Write animated.glb, the user's own mesh moving.")
    spz: bool = Field(default=False, description="Write spz/NNNN.spz beside the PLY frames.")
    tracks: int = Field(default=512, ge=0, le=500_000, description="Points of tracks/ (NPZ and CSV); 0 writes none.")


class Config(_Section):
    """Everything one run needs; saved resolved in run.json."""

    preset: str = Field(default="mini", description="Name of the preset this configuration started from.")
    variant: str = Field(default="full", description="Name of the variant patch applied on top of the preset.")
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="Seed of Gaussian sampling, diffusion noise and the fit."
    )
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads; small tensors gain little from more.")
    device: str = Field(default="auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'.")
    geometry: GeometryConfig = GeometryConfig()
    splat: SplatConfig = SplatConfig()
    stage1: StageOneConfig = StageOneConfig()
    stage2: StageTwoConfig = StageTwoConfig()
    export: ExportConfig = ExportConfig()

    @classmethod
    def load(cls, preset: str = "mini", overrides: list[str] | None = None, variant: str = "full") -> "Config":
        """Resolve preset + variant + overrides.

        Args:
            preset: Name of a file in ``t4d/presets`` or the path of a YAML file.
            overrides: ``section.key=value`` strings; values are parsed as YAML scalars.
            variant: Name of a patch in ``t4d/variants.yaml``.

        Raises:
            InputError: Unknown preset, variant or key, or a value outside its bounds.
        """
        data = _read_preset(preset)
        _merge(data, _read_variant(variant))
        data["variant"] = variant
        for item in overrides or []:
            key, separator, value = item.partition("=")
            if not separator:
                raise InputError(f"Override '{item}' has no '='; write it as section.key=value, e.g. stage1.steps=10.")
            _merge(data, _nest(key.strip().split("."), _yaml(value, f"Override '{item}'")))
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(
                f"Setting '{where}' = {first.get('input')!r} cannot be used: {first['msg']}; "
                "see `python -m t4d config` for every setting with its bounds."
            ) from error


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in _PRESETS.glob("*.yaml"))


def variant_names() -> list[str]:
    """Names of the variants in ``variants.yaml``."""
    return list(yaml.safe_load(_VARIANTS.read_text()))


def variant_descriptions() -> dict[str, str]:
    """What each variant changes, by name."""
    return {name: entry["description"] for name, entry in yaml.safe_load(_VARIANTS.read_text()).items()}


def _read_preset(preset: str) -> dict[str, Any]:
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else _PRESETS / f"{preset}.yaml"
    if not path.is_file():
        raise InputError(f"Preset '{preset}' does not exist; use one of {', '.join(preset_names())} or a YAML file.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Preset file {path.name} cannot be read ({error}); give a YAML file in UTF-8.") from error
    data = _yaml(text, f"Preset file {path.name}") or {}
    if not isinstance(data, dict):
        raise InputError(f"Preset file {path.name} holds a {type(data).__name__}; a mapping of settings is expected.")
    data.setdefault("preset", path.stem)
    return data


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(f"{name} is not valid YAML ({said}); check its brackets, quotes and colons.") from error


def _read_variant(variant: str) -> dict[str, Any]:
    variants = yaml.safe_load(_VARIANTS.read_text())
    if variant not in variants:
        raise InputError(f"Variant '{variant}' does not exist; use one of {', '.join(variants)}.")
    return copy.deepcopy(variants[variant]["patch"])


def _nest(keys: list[str], value: Any) -> dict[str, Any]:
    for key in reversed(keys):
        value = {key: value}
    return value


def _merge(base: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value
