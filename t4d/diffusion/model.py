"""The networks that make clips, as one thing that is loaded, moved and saved."""

import hashlib
import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from t4d.diffusion.interfaces import ClipAutoencoder, ImageEncoder, TextEncoder
from t4d.diffusion.schedule import PAPER_SCHEDULE, PredictionType
from t4d.diffusion.weights import load_module, save_module
from t4d.errors import InputError
from t4d.paths import ASSETS

INDEX = "model_index.json"
FORK_INDEX = "fork.json"
PARTS = ("unet", "autoencoder", "text_encoder", "image_encoder")

# The only classes a model folder may name; a folder is data and never decides what is imported.
REGISTRY = {
    "MultiViewMotionUNet": "t4d.diffusion.unet",
    "ReferenceAutoencoder": "t4d.diffusion.autoencoders.reference",
    "SDAutoencoder": "t4d.diffusion.autoencoders.sd",
    "MiniTextEncoder": "t4d.diffusion.text.mini",
    "CLIPSentenceEncoder": "t4d.diffusion.text.clip",
    "MiniImageEncoder": "t4d.diffusion.image.mini",
    "CLIPPictureEncoder": "t4d.diffusion.image.clip",
}


def weights_folder(name: str | Path) -> Path | None:
    """Folder of a preset or path; None for "public", whose weights come from the Hub.

    Raises:
        InputError: If the folder holds no model.
    """
    if str(name) == "public":
        return None
    folder = ASSETS / "weights" / "mini" if str(name) == "mini" else Path(name)
    if not (folder / INDEX).is_file():
        raise InputError(
            f"No video model was found in {folder} ({INDEX} is missing); give 'mini', 'public' or a folder written by "
            "train/stage1.py."
        )
    return folder


def fork_folder(name: str | Path, fork: str | Path) -> Path | None:
    """Folder of a fork of a model; None where no fork is asked for.

    Args:
        name: The base, as :func:`weights_folder` takes it.
        fork: A folder written by ``train/stage1.py --fork``, or the name of one beside the base
            (``assets/weights/mini-forks/no_corr``); "" is no fork.

    Raises:
        InputError: There is no such fork.
    """
    if not str(fork):
        return None
    base = weights_folder(name)
    places = [Path(fork)] if base is None else [base.with_name(f"{base.name}-forks") / fork, Path(fork)]
    for place in places:
        if (place / FORK_INDEX).is_file():
            return place
    why = "those were trained without tracking losses" if base is None else f"not in {places[0].parent.name}"
    raise InputError(
        f"There is no fork {str(fork)!r} of the {str(name)!r} weights ({why}); train it with train/stage1.py --fork "
        f"{name} and give its folder as stage1.fork."
    )


def weights_files(name: str | Path, fork: str | Path = "") -> list[Path] | None:
    """The folders whose content makes a model; None for "public" without a fork.

    Raises:
        InputError: There are no such weights or no such fork.
    """
    found = [folder for folder in (weights_folder(name), fork_folder(name, fork)) if folder is not None]
    return found or None


@dataclass
class VideoModel:
    """Denoiser, autoencoder, encoders and noise schedule.

    Attributes:
        unet: ``MultiViewMotionUNet`` or a network called like it.
        autoencoder: See ``ClipAutoencoder``.
        text_encoder: See ``TextEncoder``.
        image_encoder: See ``ImageEncoder``; None where the network has no image prompt.
        scheduler_config: Fields of ``t4d.diffusion.schedule.PAPER_SCHEDULE``.
        label: What the weights are, for people.
        meta: guidance (default scale), views, frames, size, drop_image (zero the picture in the unconditional pass),
            shared_noise, truncation, first_frame_noise (fields of ``FirstFrameNoise``) and whatever training records.
        sha256: Digest of the files it was loaded from; "" for a model not loaded from files.
    """

    unet: nn.Module
    autoencoder: ClipAutoencoder
    text_encoder: TextEncoder
    image_encoder: ImageEncoder | None
    scheduler_config: dict[str, Any] = field(default_factory=lambda: dict(PAPER_SCHEDULE))
    label: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Networks by the name of their subfolder."""
        found = {name: getattr(self, name) for name in PARTS}
        return {name: cast(nn.Module, part) for name, part in found.items() if part is not None}

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next((p.device for p in self.unet.parameters()), torch.device("cpu"))

    @property
    def prediction_type(self) -> PredictionType:
        """What the denoiser predicts."""
        return self.scheduler_config["prediction_type"]

    @property
    def longest_clip(self) -> int:
        """Most frames of a clip that the denoiser takes; 10^9 where it does not say."""
        network, mean = cast(Any, self.unet), getattr(self.unet, "expected_motion", None)
        most = int(network.config["motion_max_seq_length"]) if hasattr(network, "config") else 10**9
        return most if mean is None else min(most, int(mean.frames))

    @property
    def guidance(self) -> float:
        """Default guidance scale."""
        return float(self.meta.get("guidance", 1.0))

    @property
    def truncation(self) -> float:
        """Default psi of sampling, see `t4d.diffusion.sampler.sample_clip`."""
        return float(self.meta.get("truncation", 1.0))

    @property
    def has_alpha(self) -> bool:
        """Whether decoded coverage is real (an RGBA autoencoder) or constant."""
        return bool(getattr(self.autoencoder, "has_alpha", True))

    @property
    def alphas_cumprod(self) -> Tensor:
        """Cumulative signal power of the schedule, [steps], on the model's device."""
        from t4d.diffusion.schedulers import build_scheduler

        return build_scheduler("ddim", self.scheduler_config).alphas_cumprod.to(self.device)

    def to(self, device: torch.device | str) -> "VideoModel":
        """Move every network; returns itself."""
        for part in self.parts.values():
            part.to(device)
        return self

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write subfolders of every part (float16, shards below 9 MB) and ``model_index.json``.

        Raises:
            InputError: If a part's class is not in the registry.
        """
        folder = Path(folder)
        classes = {name: type(part).__name__ for name, part in self.parts.items()}
        for name in classes.values():
            _class_of(name)
        folder.mkdir(parents=True, exist_ok=True)
        for name, part in self.parts.items():
            save_module(part, folder / name, dtype)
        index = {
            "classes": classes,
            "scheduler": self.scheduler_config,
            "prediction_type": self.prediction_type,
            "label": self.label,
            **self.meta,
        }
        (folder / INDEX).write_text(json.dumps(index, indent=1))

    @classmethod
    def load(cls, folder_or_preset: str | Path, fork: str | Path = "") -> "VideoModel":
        """Load "mini", "public" (the paper's size, weights from the Hub) or a folder written by :meth:`save`.

        Args:
            folder_or_preset: The model, or the base of the fork.
            fork: A fork of it to put on, see :func:`fork_folder`; "": none.

        Raises:
            InputError: If weights are missing, incomplete or of another network, or the fork is of another base.
        """
        folder, forked = weights_folder(folder_or_preset), fork_folder(folder_or_preset, fork)
        if forked is not None:
            from t4d.diffusion.fork import load_fork

            return load_fork(cls.load(folder_or_preset), forked)
        if folder is None:
            return cls.from_public()
        try:
            index = json.loads((folder / INDEX).read_text())
            classes, scheduler = dict(index.pop("classes")), dict(index.pop("scheduler"))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / INDEX} is not a model index of this app ({error}); copy it again.") from error
        if set(classes) - set(PARTS) or set(PARTS[:3]) - set(classes):
            raise InputError(f"{folder / INDEX} names the parts {sorted(classes)}; expected {', '.join(PARTS)}.")
        parts = {name: load_module(_class_of(classes[name]), folder / name) for name in classes}
        scheduler["prediction_type"] = index.pop("prediction_type", scheduler.get("prediction_type", "epsilon"))
        return cls(
            unet=parts["unet"],
            autoencoder=cast(ClipAutoencoder, parts["autoencoder"]),
            text_encoder=cast(TextEncoder, parts["text_encoder"]),
            image_encoder=cast(ImageEncoder | None, parts.get("image_encoder")),
            scheduler_config=scheduler,
            label=index.pop("label", ""),
            meta=index,
            sha256=folder_digest(folder),
        )

    @classmethod
    def from_public(cls, **sources: str | Path) -> "VideoModel":
        """The paper's size with the four public checkpoints, see ``t4d.diffusion.public.load_public``."""
        from t4d.diffusion.public import load_public

        return load_public(**sources)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the paths and bytes of a folder's weights and configs."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json", ".txt")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _class_of(name: str) -> type[nn.Module]:
    if name not in REGISTRY:
        raise InputError(f"The model names the class {name!r}; expected one of {', '.join(REGISTRY)}.")
    return getattr(importlib.import_module(REGISTRY[name]), name)
