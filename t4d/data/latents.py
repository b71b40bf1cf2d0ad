"""Latents of training clips on disk, for autoencoders that cost more than the disk.

A folder of latents belongs to one autoencoder, named by a digest of its weights, and holds a file for each clip, named
by a digest of the clip's pictures. So neither another autoencoder nor other pictures can be mistaken for them, and one
folder serves a cache and the shards made from it alike.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from t4d.data.sample import quantised
from t4d.data.shards import ShardClips
from t4d.errors import InputError

INDEX = "index.json"
VERSION = 1


def autoencoder_digest(autoencoder: nn.Module) -> str:
    """SHA-256 of an autoencoder's class, configuration and weights (as float32, wherever and however they are held)."""
    digest = hashlib.sha256(type(autoencoder).__name__.encode())
    # _name_or_path, _diffusers_version, ... say where a copy comes from, not what it computes
    config = {k: v for k, v in dict(getattr(autoencoder, "config", {})).items() if not k.startswith("_")}
    digest.update(json.dumps(config, sort_keys=True, default=list).encode())
    for name, value in sorted(autoencoder.state_dict().items()):
        exact = value.detach().cpu().float() if value.is_floating_point() else value.detach().cpu()
        digest.update(f"\0{name}{list(value.shape)}".encode())
        digest.update(exact.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def pictures_digest(rgba: Tensor) -> str:
    """Digest of a clip's pictures [V, T, 4, H, W], rounded to 8 bits as caches and shards hold them."""
    digest = hashlib.blake2b(str(list(rgba.shape)).encode(), digest_size=16)
    digest.update(quantised(rgba).contiguous().flatten().numpy().data)
    return digest.hexdigest()


class LatentStore:
    """A folder of latents of one autoencoder.

    Args:
        folder: Written by `python train/dataset.py latents`; made if it does not exist and `create` is set.
        digest: `autoencoder_digest` of the autoencoder that the latents are for.
        create: Start the folder.

    Raises:
        InputError: No such folder, or it holds another autoencoder's latents.
    """

    def __init__(self, folder: Path | str, digest: str, *, create: bool = False) -> None:
        self.folder = Path(folder)
        path = self.folder / INDEX
        if not path.is_file():
            if not create:
                raise InputError(f"{folder} holds no latents; make them with: python train/dataset.py latents")
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"version": VERSION, "autoencoder": digest}))
        try:
            index = json.loads(path.read_text())
            version, found = index["version"], index["autoencoder"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is not an index of latents ({error}); make them again") from error
        if version != VERSION:
            raise InputError(f"{folder} holds latents of version {version}, expected {VERSION}; make them again")
        require_digest(found, digest, str(folder))

    def path(self, key: str) -> Path:
        """File of a clip's latents, by `pictures_digest`."""
        return self.folder / key[:2] / f"{key}.safetensors"

    def save(self, key: str, latents: Tensor) -> None:
        """Writes [V, T, C, h, w] as float16.

        Raises:
            InputError: A value is not finite in float16.
        """
        half = latents.detach().cpu().half().contiguous()
        if not half.isfinite().all():
            raise InputError(f"latents reach {float(latents.abs().max()):.3g}, which float16 cannot hold")
        path = self.path(key)
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        save_file({"latents": half}, part)
        part.replace(path)

    def load(self, key: str, name: str) -> Tensor:
        """Reads float16 [V, T, C, h, w].

        Raises:
            InputError: There are none for these pictures, or the file is broken; `name` names the clip.
        """
        path = self.path(key)
        try:
            return load_file(path)["latents"]
        except FileNotFoundError as error:
            raise InputError(
                f"{self.folder} holds no latents of clip {name} as it looks now; make them with: python "
                "train/dataset.py latents, or leave `latents` empty to encode every step"
            ) from error
        except (SafetensorError, KeyError) as error:
            raise InputError(f"{path} cannot be read ({error}); delete it and make the latents again") from error


class WithLatents(Dataset[dict[str, Any]]):
    """A data set whose items also hold `latents` from a store.

    Args:
        data: Map-style data set of training clips.
        folder: See `LatentStore`.
        digest: See `LatentStore`.
    """

    def __init__(self, data: Any, folder: Path | str, digest: str) -> None:
        self.data, self.store = data, LatentStore(folder, digest)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.data[index]
        return {**item, "latents": self.store.load(pictures_digest(item["rgba"]), item["name"])}


def encode_clips(
    data: Any, store: LatentStore, encode: Callable[[dict[str, Any]], Tensor], count: int | None = None
) -> tuple[int, int]:
    """Fills a store.

    Args:
        data: Map-style data set of training clips.
        store: Where to write; clips that it has stay as they are.
        encode: Latents [V, T, C, h, w] of an item.
        count: How many clips from the first; all where None.

    Returns:
        Clips encoded now, and clips that were there.
    """
    made = there = 0
    for i in range(len(data) if count is None else min(count, len(data))):
        item = data[i]
        key = pictures_digest(item["rgba"])
        if store.path(key).is_file():
            there += 1
            continue
        store.save(key, encode(item))
        made += 1
    return made, there


def check_packed(data: ShardClips, autoencoder: nn.Module) -> None:
    """Refuses shards whose clips hold latents of another autoencoder, or of one that their index does not name.

    Raises:
        InputError: They do.
    """
    if "latents" in data[0]:
        require_digest(data.made.get("latents", "unknown"), autoencoder_digest(autoencoder), str(data.folder))


def require_digest(found: object, wanted: str, source: str) -> None:
    """Refuses latents of another autoencoder.

    Args:
        found: Digest noted with the latents (`ShardClips.made["latents"]`).
        wanted: `autoencoder_digest` of the one in use.
        source: What to call the latents.

    Raises:
        InputError: They differ.
    """
    if found != wanted:
        raise InputError(
            f"the latents in {source} are of autoencoder {str(found)[:12]}, the model's is {wanted[:12]}; make them "
            "again with: python train/dataset.py latents"
        )
