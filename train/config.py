"""Typed configuration of the training programs: YAML file, then ``key.sub=value`` overrides, then bounds."""

import argparse
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from t4d.errors import InputError

T = TypeVar("T", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DataConfig(_Section):
    """Training clips, rendered on the fly by `t4d.data.dataset.ClipDataset`."""

    rigs: Path | None = Field(
        default=None, description="Folder of rig packs (train/dataset.py pack); none: procedural only."
    )
    cache: Path | None = Field(
        default=None, description="Folder of rendered clips (train/dataset.py cache) to cycle through."
    )
    side: int = Field(default=64, ge=16, le=512, multiple_of=8, description="Picture side, pixels.")
    views: int = Field(default=4, ge=1, le=16, description="V.")
    frames: int = Field(default=16, ge=2, le=64, description="T, frame 0 included.")
    procedural_fraction: float = Field(default=0.3, ge=0, le=1, description="Share of procedural objects.")
    rest_fraction: float = Field(default=0.5, ge=0, le=1, description="Share of clips that start from the rest pose.")
    clips: int = Field(default=0, ge=0, description="Cycle through this many clips (memorisation test); 0: endless.")
    workers: int = Field(default=1, ge=0, le=64, description="Rendering processes per training process.")


class OptimConfig(_Section):
    """AdamW, warm-up, schedule and EMA."""

    steps: int = Field(ge=1, description="Optimiser steps of the whole schedule.")
    batch: int = Field(ge=1, description="Clips per step and process.")
    lr: float = Field(gt=0, le=1, description="Peak learning rate.")
    schedule: Literal["cosine", "constant_with_warmup"] = Field(default="cosine", description="After warm-up.")
    warmup: int = Field(default=500, ge=0, description="Linear warm-up steps.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW weight decay.")
    clip_norm: float = Field(default=1.0, gt=0, description="Largest gradient norm.")
    ema: float = Field(default=0.999, ge=0, lt=1, description="EMA decay.")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (0-based): warm-up, then cosine to 2 % of the peak, or constant."""
        from math import cos, pi

        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant_with_warmup":
            return self.lr
        done = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.lr * (0.02 + 0.98 * 0.5 * (1 + cos(pi * done)))


class RunConfig(_Section):
    """What both programs share."""

    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of data order, noise and initial weights.")
    save_minutes: float = Field(default=3.0, gt=0, description="Minutes between checkpoints.")
    sheet_minutes: float = Field(default=5.0, gt=0, description="Minutes between contact sheets.")
    log_steps: int = Field(default=20, ge=1, description="Steps between lines of log.jsonl.")
    data: DataConfig = DataConfig()
    optim: OptimConfig


class AutoencoderConfig(RunConfig):
    """`train/autoencoder.py`."""

    model: dict[str, Any] = Field(default_factory=dict, description="Arguments of ReferenceAutoencoder.")
    views_per_clip: int = Field(default=3, ge=1, description="Views drawn of every clip.")
    frames_per_view: int = Field(default=6, ge=1, description="Frames, besides frame 0, drawn of every view.")
    latent_noise: float = Field(default=0.15, ge=0, le=2, description="Noise on the decoder's latents.")
    flow_weight: float = Field(default=4.0, ge=0, description="Weight of the flow error, picture widths / 2.")
    alpha_weight: float = Field(default=1.0, ge=0, description="Weight of the coverage error.")
    color_weight: float = Field(default=1.0, ge=0, description="Weight of the colour error.")
    residual_weight: float = Field(
        default=0.2, ge=0, description="Weight of colour added where warping can explain the pixel."
    )
    latent_weight: float = Field(default=1.0, ge=0, description="Weight of the encoder's error against exact latents.")
    color_ramp: float = Field(
        default=0.2, ge=0, le=1, description="Share of the steps over which the colour term comes in."
    )


class Curriculum(_Section):
    """One stage of training."""

    until: float = Field(gt=0, le=1, description="Share of the steps at which the stage ends.")
    views: int = Field(ge=1, description="Views per clip.")
    frames: int = Field(ge=2, description="Frames per clip, frame 0 included.")
    batch: int = Field(ge=1, description="Clips per step and process.")


class StageOneTrainConfig(RunConfig):
    """`train/stage1.py`."""

    weights: str = Field(
        default="", description="Start from these (a VideoModel folder or 'public'); empty: from `model`."
    )
    autoencoder: Path | None = Field(default=None, description="Trained autoencoder (train/autoencoder.py); mini only.")
    model: dict[str, Any] = Field(default_factory=dict, description="Arguments of MultiViewMotionUNet.")
    text: dict[str, Any] = Field(default_factory=dict, description="Arguments of MiniTextEncoder.")
    image: dict[str, Any] = Field(default_factory=dict, description="Arguments of MiniImageEncoder.")
    scheduler: dict[str, Any] = Field(default_factory=dict, description="Diffusion schedule, DDIMScheduler's fields.")
    prediction: Literal["epsilon", "sample", "v_prediction"] = Field(
        default="sample", description="What the network predicts."
    )
    trainable: tuple[str, ...] = Field(default=(), description="Parameter name parts that train; empty: everything.")
    text_dropout: float = Field(
        default=0.1, ge=0, le=1, description="Share of captions replaced by the empty sentence."
    )
    first_frame_noise: bool = Field(
        default=False, description="Eq. 2: noise frame 0 too (no effect on a zero mini latent)."
    )
    shared_noise: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the noise's power that all frames have in common, also in sampling.",
    )
    guidance: float = Field(default=2.0, ge=0, description="Guidance written into the shipped model.")
    high_noise: float = Field(
        default=0.0, ge=0, le=1, description="Share of times drawn from the noisiest sixth, where words decide most."
    )
    turn_views: float = Field(
        default=0.3, ge=0, le=1, description="Share of clips turned by a quarter circle: views rotate."
    )
    curriculum: tuple[Curriculum, ...] = Field(
        default=(), description="Stages of growing clips; empty: whole clips throughout."
    )
    sheet_clips: int = Field(default=4, ge=0, description="Clips on a contact sheet.")
    label: str = Field(default="mini", description="Label of the shipped model.")


def load_config(cls: type[T], path: Path, overrides: list[str]) -> T:
    """Read a YAML file and apply overrides.

    Args:
        cls: Configuration class.
        path: YAML file.
        overrides: "optim.lr=1e-3" strings; values are YAML.

    Raises:
        InputError: The file does not exist, an override has no "=", or a value is out of bounds.
    """
    if not path.is_file():
        raise InputError(f"Configuration {path} does not exist; give one of train/configs/*.yaml.")
    data: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    for override in overrides:
        key, found, value = override.partition("=")
        if not found:
            raise InputError(f"Override '{override}' has no '='; write key=value.")
        place = data
        *parents, last = key.split(".")
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = yaml.safe_load(value)
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(x) for x in first["loc"])
        raise InputError(f"{path.name}: {where}: {first['msg']} (found {first['input']!r}).") from error


def arguments(doc: str | None) -> argparse.Namespace:
    """Command line of both programs: --config --out --max-minutes and key=value overrides."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="run folder; an unfinished run there is continued")
    parser.add_argument("--max-minutes", type=float, default=float("inf"), help="stop and save after this long")
    parser.add_argument("overrides", nargs="*", help="key=value, for example optim.lr=1e-3")
    return parser.parse_intermixed_args()
