"""Where training clips come from, as the configuration says."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from t4d.data.cache import CachedClips
from t4d.data.dataset import ClipDataset
from t4d.data.device_render import DeviceClips
from t4d.data.latents import WithLatents, autoencoder_digest, check_packed
from t4d.data.shards import ShardClips
from t4d.errors import InputError
from train.config import DataConfig, StageOneTrainConfig
from train.corrupted import CorruptedTracks


def rendered_or_stored(config: DataConfig, seed: int, device: torch.device | str = "cpu") -> tuple[Dataset, int | None]:
    """The training clips and how many there are (None: without end); item i is a pure function of config, seed and i.

    Args:
        config: See `DataConfig`.
        seed: Of the clips.
        device: Where `data.renderer=device` renders.

    Raises:
        InputError: The data cannot be found or used.
    """
    if config.cache is not None and config.shards is not None:
        raise InputError("data.cache and data.shards are both set; clips come from one of them.")
    stored = None
    if config.cache is not None:
        stored = CachedClips(config.cache)
    elif config.shards is not None:
        stored = ShardClips(config.shards)
    if stored is not None:
        if config.renderer == "device":
            raise InputError("data.renderer=device renders clips, and data.cache or data.shards has them; set one.")
        views, frames = stored[0]["rgba"].shape[:2]
        if views < config.views or frames < config.frames:
            raise InputError(
                f"The clips in {config.cache or config.shards} have {views} views of {frames} frames; data.views="
                f"{config.views} and data.frames={config.frames} need more: make others or set these to what there is."
            )
        return stored, min(config.clips or len(stored), len(stored))
    source = rendered(config, seed)
    return DeviceClips(source, device) if config.renderer == "device" else source, config.clips or None


def rendered(config: DataConfig, seed: int, **changes: Any) -> ClipDataset:
    """Clips rendered on the fly, without end.

    Args:
        config: See `DataConfig`.
        seed: Of the clips.
        changes: Arguments of `ClipDataset` that are to differ (a held-out split).

    Raises:
        InputError: The rigs cannot be used.
    """
    settings: dict[str, Any] = {
        "side": config.side,
        "views": config.views,
        "frames": config.frames,
        "procedural_fraction": config.procedural_fraction if config.rigs is not None else 1.0,
        "rest_fraction": config.rest_fraction,
        "grid": config.grid,
        "proportions": config.proportions,
        "mirror": config.mirror,
        "speed": config.speed,
        "verbs": config.verbs,
        "seed": seed,
    }
    return ClipDataset(config.rigs, **{**settings, **changes})


def clips(config: StageOneTrainConfig, autoencoder: nn.Module) -> tuple[Dataset, int | None]:
    """Stage One's clips, with precomputed latents and corrupted tracks where the configuration asks for them.

    Args:
        config: See `StageOneTrainConfig`.
        autoencoder: Whose latents they are.

    Returns:
        The data set and its number of clips (None: without end).

    Raises:
        InputError: The data cannot be found or used, or the latents are another autoencoder's.
    """
    device = next((p.device for p in autoencoder.parameters()), torch.device("cpu"))
    data, count = rendered_or_stored(config.data, config.seed, device)
    if config.data.renderer == "device" and (config.latents is not None or config.tracking.corruption.share > 0):
        raise InputError("Stored latents and corrupted tracks go with data.renderer=cpu; set that.")
    if config.latents is not None:
        data = WithLatents(data, config.latents, autoencoder_digest(autoencoder))
    elif isinstance(data, ShardClips):
        check_packed(data, autoencoder)
    if config.tracking.corruption.share > 0:
        data = CorruptedTracks(data, config.tracking.corruption, config.seed)
    return data, count
