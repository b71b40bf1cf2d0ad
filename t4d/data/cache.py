"""Rendered training samples on disk, for several epochs where rendering costs more than reading."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from t4d.errors import InputError

_TEXT = ("caption", "verb", "noun", "name", "clip")


def save_item(item: dict[str, Any], path: Path) -> None:
    """Writes an item of `ClipDataset`: pictures as uint8, flow as float16."""
    text = json.dumps({k: item[k] for k in _TEXT})
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez_compressed(
            stream,
            rgba=np.round(item["rgba"].numpy() * 255).astype(np.uint8),
            flow=item["flow"].numpy().astype(np.float16),
            flow_valid=item["flow_valid"].numpy().astype(np.uint8),
            cameras=item["cameras"].numpy(),
            tracks=item["tracks"].numpy(),
            visible=item["visible"].numpy(),
            query_valid=item["query_valid"].numpy(),
            text=np.frombuffer(text.encode(), np.uint8),
        )
    part.replace(path)


def load_item(path: Path) -> dict[str, Any]:
    """Reads what `save_item` wrote; the same keys, types and shapes as `ClipDataset` gives."""
    with np.load(path, allow_pickle=False) as stored:
        item: dict[str, Any] = {
            "rgba": torch.from_numpy(stored["rgba"]).float() / 255,
            "flow": torch.from_numpy(stored["flow"]).float(),
            "flow_valid": torch.from_numpy(stored["flow_valid"]).float(),
            "cameras": torch.from_numpy(stored["cameras"]),
        }
        for name in ("tracks", "visible", "query_valid"):
            if name not in stored:
                raise InputError(f"{path} holds no {name}; it was cached before tracks were: cache it again")
            item[name] = torch.from_numpy(stored[name])
        item.update(json.loads(stored["text"].tobytes()))
    return item


class CachedClips(Dataset[dict[str, Any]]):
    """The samples of a folder written by `python train/dataset.py cache`, in order; those present at construction."""

    def __init__(self, folder: Path | str) -> None:
        self.paths = sorted(Path(folder).glob("*.npz"))
        if not self.paths:
            raise InputError(f"{folder} holds no cached clips; make them with: python train/dataset.py cache")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return load_item(self.paths[index])
