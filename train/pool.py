"""Clips as `MotionMean` learns from them, in memory: latents, frame 0, cameras, words; rendered once, kept on disk.

A latent is a hundredth of its pictures, so tens of thousands of clips fit into memory, and a network that is quicker
than the renderer is not kept waiting.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from t4d.data.latents import autoencoder_digest
from t4d.diffusion.interfaces import ClipAutoencoder
from t4d.errors import InputError
from train.draws import Drawn, clean_latents


class LatentPool:
    """The first clips of a data set, as far as this process has to do with them.

    Args:
        folder: Of the shards, `clips_000003.safetensors`; those that it lacks are made.
        source: Items of `t4d.data.dataset.ClipDataset`, without end.
        made_of: What decides what the items are, as JSON values; other clips in the folder are refused.
        autoencoder: Whose latents they are.
        shards: Numbers of the shards to hold.
        size: Clips a shard.
        quiet: No progress bar.

    Attributes:
        latents: [N, V, T, C, h, w] float16.
        references: Frame 0 of every view, [N, V, 4, s, s] uint8.
        cameras: [N, V, 16].
        captions: N sentences.

    Raises:
        InputError: The folder holds clips of other settings, or a file that is no shard.
    """

    def __init__(
        self,
        folder: Path,
        source: Dataset[Any],
        made_of: dict[str, Any],
        autoencoder: nn.Module,
        shards: Sequence[int],
        size: int,
        quiet: bool = True,
    ):
        made_of = {**made_of, "autoencoder": autoencoder_digest(autoencoder), "clips a file": size}
        folder.mkdir(parents=True, exist_ok=True)
        joined: dict[str, Tensor] = {}  # filled in place: a second copy of the pool would be gigabytes
        self.captions: list[str] = []
        for number in tqdm(shards, f"clips, {size} at a time", disable=quiet):
            path = folder / f"clips_{number:06d}.safetensors"
            if not path.is_file():
                items = [source[i] for i in range(number * size, (number + 1) * size)]
                tensors = _tensors(items, cast(ClipAutoencoder, autoencoder))
                words = json.dumps([item["caption"] for item in items])
                part = path.with_suffix(".part")
                save_file(tensors, part, {"captions": words, "made_of": json.dumps(made_of, sort_keys=True)})
                part.replace(path)
            tensors, captions = _read(path, made_of)
            at = len(self.captions)
            for name, value in tensors.items():
                if name not in joined:
                    joined[name] = value.new_empty(len(shards) * size, *value.shape[1:])
                joined[name][at : at + size] = value
            self.captions += captions
        if not joined:
            raise InputError(f"A process has no clips to learn from; give pool_clips of {size} per process or more.")
        self.latents, self.references, self.cameras = joined["latents"], joined["references"], joined["cameras"]

    def __len__(self) -> int:
        return len(self.captions)


@torch.no_grad()
def _tensors(items: list[dict[str, Any]], autoencoder: ClipAutoencoder) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {"latents": [], "references": [], "cameras": []}
    for item in items:
        rgba = item["rgba"][None]
        nothing = torch.zeros(1)
        drawn = Drawn(rgba, item["flow"][None], None, item["cameras"][None], [""], nothing, None, [(0, 0, 0)])
        found["latents"].append(clean_latents(autoencoder, drawn, rgba)[0].half())
        found["references"].append((item["rgba"][:, 0] * 255).round().byte())
        found["cameras"].append(item["cameras"])
    return {name: torch.stack(values) for name, values in found.items()}


def _read(path: Path, made_of: dict[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    try:
        with safe_open(path, "pt") as file:
            words = file.metadata() or {}
            theirs, captions = json.loads(words["made_of"]), json.loads(words["captions"])
            tensors = {name: file.get_tensor(name) for name in ("latents", "references", "cameras")}
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no file of pooled clips ({error}); delete it, it will be made again.") from error
    for name, ours in made_of.items():
        if theirs.get(name) != ours:
            raise InputError(
                f"{path} was made with {name} {theirs.get(name)}, this run has {ours}; give another pool folder."
            )
    return tensors, captions
