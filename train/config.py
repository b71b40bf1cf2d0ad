"""Typed configuration of the training programs: YAML file, then ``key.sub=value`` overrides, then bounds."""

import argparse
import math
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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
    shards: Path | None = Field(
        default=None, description="Folder of WebDataset shards (train/dataset.py shards) instead of rendering."
    )
    shuffle: bool = Field(
        default=True, description="New order of a finite set (cache, shards, clips) in every epoch, from the seed."
    )
    grid: int = Field(default=15, ge=2, le=64, description="Query points per side over frame 0 (paper: 15 x 15).")
    proportions: float = Field(default=0.15, ge=0, le=0.5, description="Largest relative change of a rig's axes.")
    mirror: float = Field(default=0.5, ge=0, le=1, description="Share of objects mirrored left to right.")
    speed: float = Field(default=0.2, ge=0, le=0.5, description="Largest relative change of a motion's speed.")
    renderer: Literal["cpu", "device"] = Field(
        default="cpu",
        description="Who renders clips: the worker processes, or the device that trains, in batches "
        "(t4d.data.device_render; workers then only draw what is to be seen).",
    )
    verbs: tuple[str, ...] = Field(
        default=(), description="Canonical verbs that are drawn (t4d.data.captions.VERBS); empty: all but violent ones."
    )


class OptimConfig(_Section):
    """AdamW, warm-up, schedule and EMA."""

    steps: int | None = Field(default=None, ge=1, description="Optimiser steps of the whole schedule; or set epochs.")
    epochs: float | None = Field(default=None, gt=0, description="Passes over a finite data set instead of steps.")
    batch: int = Field(ge=1, description="Clips per process and micro-step.")
    accumulate: int = Field(default=1, ge=1, le=1024, description="Micro-steps per optimiser step.")
    gradient_checkpointing: bool = Field(
        default=False, description="Recompute blocks, attentions and motion modules in the backward pass."
    )
    lr: float = Field(gt=0, le=1, description="Peak learning rate.")
    schedule: Literal["cosine", "constant_with_warmup"] = Field(default="cosine", description="After warm-up.")
    warmup: int = Field(default=500, ge=0, description="Linear warm-up steps.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="AdamW weight decay.")
    clip_norm: float = Field(default=1.0, gt=0, description="Largest gradient norm.")
    ema: float = Field(default=0.999, ge=0, lt=1, description="EMA decay.")

    @model_validator(mode="after")
    def _one_length(self) -> "OptimConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set exactly one of steps and epochs (and the other to null)")
        return self

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (0-based): warm-up, then cosine to 2 % of the peak, or constant."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant_with_warmup":
            return self.lr
        assert self.steps is not None  # epochs have become steps before training
        done = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


class CorruptionConfig(_Section):
    """Wrong tracks on purpose, for the dose-response experiment; chosen per clip from the seed."""

    share: float = Field(default=0.0, ge=0, le=1, description="Share of the tracks that are corrupted.")
    kinds: tuple[Literal["swap", "drift", "jump"], ...] = Field(
        default=("swap", "drift", "jump"), min_length=1, description="Kinds, drawn with equal chance."
    )


class TrackingConfig(_Section):
    """L_corr (Eq. 4) and L_pos (Eq. 5) on features of the denoiser at tracked points."""

    layer: str = Field(
        default="up_blocks.1.motion_modules.-1", description="Module whose maps are supervised; -1 is the last."
    )
    lambda_diff: float = Field(default=1.0, ge=0, description="lambda_1, weight of L_diff (Eq. 3).")
    lambda_corr: float = Field(default=0.1, ge=0, description="lambda_2, weight of L_corr (Eq. 4); 0: no_corr.")
    lambda_pos: float = Field(default=10.0, ge=0, description="lambda_3, weight of L_pos (Eq. 5); 0: no_pos.")
    points: int = Field(default=8, ge=1, le=4096, description="Points per view and step, drawn from the grid.")
    temperature: float = Field(default=20.0, gt=0, description="Factor on cosine similarities before the softmax.")
    radius: float = Field(default=2.0, gt=0, description="Cells about the best match that the soft-argmax averages.")
    huber_delta: float = Field(default=1.0, gt=0, description="Where L_pos turns from square to linear, cells.")
    masked: bool = Field(default=True, description="Leave out terms whose point is hidden in one of its frames.")
    t_max: int = Field(
        default=1000, ge=1, le=1000, description="Tracking losses only for clips noised below this time (paper: all)."
    )
    corruption: CorruptionConfig = CorruptionConfig()

    @property
    def enabled(self) -> bool:
        """Whether any tracking loss has weight."""
        return self.lambda_corr > 0 or self.lambda_pos > 0


class RunConfig(_Section):
    """What both programs share."""

    out: Path | None = Field(default=None, description="Run folder where --out is not given.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of data order, noise and initial weights.")
    save_minutes: float = Field(default=3.0, gt=0, description="Minutes between checkpoints.")
    sheet_minutes: float = Field(default=5.0, gt=0, description="Minutes between contact sheets.")
    save_steps: int = Field(default=0, ge=0, description="Steps between checkpoints; 0: by save_minutes only.")
    checkpoints_kept: int = Field(default=1, ge=1, le=100, description="Older checkpoints are deleted.")
    log_steps: int = Field(default=20, ge=1, description="Steps between lines of log.jsonl.")
    trackers: tuple[Literal["tensorboard", "trackio"], ...] = Field(
        default=(), description="Where curves go besides log.jsonl (requirements-train.txt)."
    )
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


class MotionMeanConfig(RunConfig):
    """`train/motion_mean.py`."""

    weights: str = Field(description="Model that gets the motion mean, a VideoModel folder or 'mini'.")
    label: str = Field(default="mini", description="Label of the model.")
    model: dict[str, int] = Field(
        default_factory=dict,
        description="width, layers, heads, frames of MotionMean; must be the weights' own where they have one.",
    )
    motion_mean: Path | None = Field(
        default=None, description="Trained motion mean to go on from, where weights have none; none: a new one."
    )
    pool: Path = Field(description="Folder of the clips to learn from; those that it lacks are rendered.")
    pool_clips: int = Field(default=20_000, ge=1, description="How many, over all processes.")
    pool_shard: int = Field(default=500, ge=1, le=10_000, description="Clips a file; a process holds whole files.")
    balance: float = Field(default=0.3, ge=0, description="As of Stage One.")
    text_dropout: float = Field(
        default=0.1, ge=0, le=1, description="Share of captions replaced by the empty sentence."
    )
    turn_views: float = Field(default=0.15, ge=0, le=1, description="Share of clips turned by a quarter circle.")
    recolor: float = Field(default=0.5, ge=0, le=1, description="Share of clips with other colours in frame 0.")
    fewer_views: float = Field(
        default=0.1, ge=0, le=1, description="Share of steps with one view or two of every clip."
    )
    held_out: int = Field(default=64, ge=0, le=500, description="Clips of each held-out set that are judged.")
    adam_lr: float = Field(
        default=0.5,
        gt=0,
        le=10,
        description="AdamW's learning rate (convolutions, embeddings, norms, head) over optim.lr, which is Muon's.",
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
    fork: str = Field(
        default="",
        description="Train a fork of this base ('mini', 'public' or a VideoModel folder): its adapter and motion "
        "modules only, shipped as their difference; empty: no fork.",
    )
    fork_type: Literal["int8", "fp16"] = Field(default="int8", description="How a fork's difference is stored.")
    fork_megabytes: float = Field(default=4.0, gt=0, description="A larger fork is refused before it is trained.")
    autoencoder: Path | None = Field(default=None, description="Trained autoencoder (train/autoencoder.py); mini only.")
    text_encoder: Path | None = Field(
        default=None,
        description="Taught text encoder (train/text_encoder.py) that takes the place of the start's; mini only.",
    )
    motion_mean: Path | None = Field(
        default=None, description="Trained motion mean (train/motion_mean.py) that the start's network gets; mini only."
    )
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
    balance: float = Field(
        default=0.0,
        ge=0,
        description="Mean square of a clip's latents at which its L_diff counts half (mini, whose latents are motion); "
        "0: all clips alike, as in the paper.",
    )
    mean_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of the motion mean's own error, where the network has one and it trains with it; 0: it "
        "learns from L_diff alone.",
    )
    tracking: TrackingConfig = TrackingConfig()
    latents: Path | None = Field(
        default=None, description="Folder of precomputed latents (train/dataset.py latents); none: encode every step."
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
        InputError: The file does not exist, it or an override cannot be read, or a value is out of bounds.
    """
    if not path.is_file():
        raise InputError(f"Configuration {path} does not exist; give one of train/configs/*.yaml.")
    data = _read_yaml(path.read_text(), str(path)) or {}
    if not isinstance(data, dict):
        raise InputError(f"Configuration {path} holds a {type(data).__name__}; expected lines of key: value.")
    for override in overrides:
        key, found, value = override.partition("=")
        if not found:
            raise InputError(f"Override '{override}' has no '='; write key=value.")
        place = data
        *parents, last = key.split(".")
        for name in parents:
            place = place.setdefault(name, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise InputError(f"Override '{override}' goes into a value that has no parts; write key=value.")
        place[last] = _read_yaml(value, f"Override '{override}'")
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(x) for x in first["loc"])
        raise InputError(f"{path.name}: {where}: {first['msg']} (found {first['input']!r}).") from error


def _read_yaml(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not YAML ({' '.join(str(error).split())}); correct it there.") from error


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Command line of both programs: --config --out --max-minutes and key=value overrides."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="run folder; an unfinished run there is continued (default: out)")
    parser.add_argument("--resume", default="latest", help="latest (default), never, or a checkpoint's folder")
    parser.add_argument("--max-minutes", type=float, default=float("inf"), help="stop and save after this long")
    parser.add_argument("overrides", nargs="*", help="key=value, for example optim.lr=1e-3")
    return parser
