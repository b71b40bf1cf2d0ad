"""Forks: what training the MV2V adapter and the motion modules made of a base, as a small difference to that base.

A fork's folder holds ``fork.json`` (which base, what it was trained as) and safetensors with one entry per trained
tensor. It goes with one base only, recognised by a digest of the base's networks.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from t4d.diffusion.checkpoints import is_delta
from t4d.diffusion.model import FORK_INDEX, VideoModel, folder_digest
from t4d.diffusion.weights import SHARD_BYTES, read_folder, write_folder
from t4d.errors import InputError

FORMAT = 1
FORKED = ("i2v", "motion_modules")  # parts of the names of trained parameters, as train/'s `trainable` takes them
LEVELS = 127  # largest int8 step: symmetric, so that -128 is not used
SCALE = ".scale"

ForkType = Literal["int8", "fp16"]


@dataclass(frozen=True)
class ForkBase:
    """What a fork must remember of its base while the networks are trained.

    Attributes:
        label: What the base is, for people.
        scheduler: Its noise schedule, with the prediction type.
        digests: SHA-256 of every tensor by "part.name".
        forked: The base's own values of the tensors that a fork changes, float32 on the CPU.
    """

    label: str
    scheduler: dict[str, Any]
    digests: dict[str, str]
    forked: dict[str, Tensor]

    @classmethod
    def of(cls, model: VideoModel) -> "ForkBase":
        """Take it from a model as it was loaded, before any training."""
        forked = {name: value.detach().float().cpu().clone() for name, value in _forked(model).items()}
        return cls(model.label, dict(model.scheduler_config), tensor_digests(model), forked)

    @property
    def digest(self) -> str:
        """One digest of the whole base."""
        return _joined(self.digests)


def tensor_digests(model: VideoModel) -> dict[str, str]:
    """SHA-256 of every tensor of the denoiser and its encoders, as float32, by "part.name".

    The autoencoder is left out: a fork does not see it, and a later one may take its place.
    """
    found = {}
    for part, network in model.parts.items():
        if part == "autoencoder":
            continue
        for name, value in network.state_dict().items():
            value = value.detach().cpu()
            value = (value.float() if value.is_floating_point() else value).contiguous()
            header = f"{value.dtype} {tuple(value.shape)} ".encode()
            found[f"{part}.{name}"] = hashlib.sha256(header + value.numpy().tobytes()).hexdigest()
    return found


def save_fork(base: ForkBase | VideoModel, tuned: VideoModel, folder: str | Path, dtype: ForkType = "int8") -> Path:
    """Write what was trained.

    "fp16" holds the trained values themselves: base + fork is then, to the bit, the tuned model saved whole and loaded.
    "int8" holds their difference to the base in steps of one scale per row (the largest difference of the row / 127):
    an element is off by at most half a step, plus float32 rounding. Vectors and scalars are kept in float32, which
    costs little: they are exact.

    Args:
        base: What the fork started from.
        tuned: The trained networks.
        folder: Where to write; made if absent.
        dtype: "int8" or "fp16".

    Returns:
        The folder.

    Raises:
        InputError: Anything but the adapter and the motion modules differs from the base, or the trained values are
            not finite or, for fp16, too large.
    """
    if dtype not in get_args(ForkType):
        raise InputError(f"A fork is saved as {' or '.join(get_args(ForkType))}, not as {dtype!r}; choose one of them.")
    base = ForkBase.of(base) if isinstance(base, VideoModel) else base
    _check_frozen(base, tuned)
    state: dict[str, Tensor] = {}
    for name, value in _forked(tuned).items():
        value = value.detach().float().cpu()
        stored = value.half() if dtype == "fp16" else value
        if not bool(torch.isfinite(stored).all()):
            raise InputError(
                f"The trained tensor {name} has values that {dtype} cannot hold (largest {float(value.abs().max()):g})"
                "; train with a lower rate."
            )
        if dtype == "fp16":
            state[name] = stored
        elif value.ndim < 2:
            state[name] = value - base.forked[name]
        else:
            state[name], state[name + SCALE] = _to_int8(value - base.forked[name])
    folder = Path(folder)
    write_folder(state, folder, SHARD_BYTES)
    index = {
        "format": FORMAT,
        "dtype": dtype,
        "base": {"digest": base.digest, "label": base.label},
        "label": tuned.label,
        "prediction_type": tuned.prediction_type,
        "meta": tuned.meta,
    }
    (folder / FORK_INDEX).write_text(json.dumps(index, indent=1))
    return folder


def fork_bytes(model: VideoModel, dtype: ForkType) -> int:
    """Bytes of the numbers in a fork of a model."""
    if dtype == "fp16":
        return sum(2 * value.numel() for value in _forked(model).values())
    return sum(
        value.numel() + 4 * len(value) if value.ndim > 1 else 4 * value.numel() for value in _forked(model).values()
    )


def load_fork(model: VideoModel, folder: str | Path) -> VideoModel:
    """Put a fork onto its base.

    Args:
        model: The base as loaded. Its denoiser is changed; use the model that is returned.
        folder: Written by :func:`save_fork`.

    Returns:
        The model with the fork's label, meta and a digest of both.

    Raises:
        InputError: The folder is no fork, is incomplete, or belongs to another base.
    """
    folder = Path(folder)
    index = _read_index(folder)
    digest = _joined(tensor_digests(model))
    if index["base"]["digest"] != digest:
        raise InputError(
            f"The fork in {folder} was made from {index['base']['label']!r} (digest {index['base']['digest'][:12]}), "
            f"not from {model.label!r} ({digest[:12]}); load that base, or train the fork again from this one."
        )
    own, state = _forked(model), read_folder(folder)
    wanted = set(own)
    if index["dtype"] == "int8":
        wanted |= {name + SCALE for name, value in own.items() if value.ndim > 1}
    if wanted != set(state):
        raise InputError(
            f"The fork in {folder} lacks {len(wanted - set(state))} tensors and has {len(set(state) - wanted)} others; "
            "copy it again."
        )
    for name, value in own.items():
        stored, scale = state[name], state.get(name + SCALE)
        if stored.shape != value.shape or (scale is not None and scale.shape != stored.shape[:1]):
            raise InputError(f"The fork in {folder} has {name} of shape {tuple(stored.shape)}; copy it again.")
        if scale is not None:
            stored = stored.float() * scale.float().reshape(-1, *[1] * (stored.ndim - 1))
        with torch.no_grad():
            new = stored.float() if index["dtype"] == "fp16" else value.float().cpu() + stored
            value.copy_(new.to(value))
    both = hashlib.sha256(f"{digest} {folder_digest(folder)}".encode()).hexdigest()
    return replace(model, label=index["label"], meta={**model.meta, **index["meta"]}, sha256=both)


def _to_int8(delta: Tensor) -> tuple[Tensor, Tensor]:
    """Steps [out, ...] int8 and float32 scales [out] with |delta - steps * scale| <= scale / 2."""
    rows = delta.flatten(1).abs().amax(1)
    scale = (rows / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    steps = (delta / scale.reshape(-1, *[1] * (delta.ndim - 1))).round().clamp(-LEVELS, LEVELS)
    return steps.to(torch.int8), scale


def _forked(model: VideoModel) -> dict[str, Tensor]:
    """The parameters that a fork trains, by name."""
    return {name: value for name, value in model.unet.named_parameters() if is_delta(name)}


def _joined(digests: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{name} {digests[name]}" for name in sorted(digests)).encode()).hexdigest()


def _check_frozen(base: ForkBase, tuned: VideoModel) -> None:
    now, free = tensor_digests(tuned), {f"unet.{name}" for name in base.forked}
    changed = sorted(name for name in now.keys() | base.digests.keys() if now.get(name) != base.digests.get(name))
    if outside := [name for name in changed if name not in free]:
        raise InputError(
            f"{len(outside)} tensors outside the adapter and the motion modules differ from the base "
            f"({', '.join(outside[:3])}); a fork trains {' and '.join(FORKED)} only: set trainable to these."
        )
    if tuned.prediction_type != base.scheduler["prediction_type"]:
        raise InputError(
            f"The fork predicts {tuned.prediction_type} and its base {base.scheduler['prediction_type']}; "
            "train it with the base's prediction."
        )


def _read_index(folder: Path) -> dict[str, Any]:
    if not (folder / FORK_INDEX).is_file():
        raise InputError(
            f"No fork was found in {folder} ({FORK_INDEX} is missing); give a folder that training --fork wrote."
        )
    try:
        index = cast(dict[str, Any], json.loads((folder / FORK_INDEX).read_text()))
        fine = index["format"] == FORMAT and index["dtype"] in get_args(ForkType) and isinstance(index["meta"], dict)
        fine = fine and isinstance(index["base"]["digest"], str) and isinstance(index["base"]["label"], str)
        fine = fine and isinstance(index["label"], str)
    except (ValueError, KeyError, TypeError):
        fine, index = False, {}
    if not fine:
        raise InputError(f"{folder / FORK_INDEX} is not the index of a fork of this version; copy it again.")
    return index
