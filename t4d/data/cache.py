"""Rendered training samples on disk, for several epochs where rendering costs more than reading."""

import json
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch.utils.data import Dataset

from t4d.data.sample import TEXT, quantised
from t4d.errors import InputError

VERSION = 2  # of layout and of what rendering means: 2 since sloping surfaces do not hide their own tracked points
INDEX = "index.json"


def save_item(item: dict[str, Any], path: Path) -> None:
    """Writes an item of `ClipDataset`: pictures as uint8, flow as float16."""
    text = json.dumps({"version": VERSION, **{k: item[k] for k in TEXT}})
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez_compressed(
            stream,
            rgba=quantised(item["rgba"]).numpy(),
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
    """Reads what `save_item` wrote; the same keys, types and shapes as `ClipDataset` gives.

    Raises:
        InputError: The file is broken, or an earlier version cached it.
    """
    names = ("rgba", "flow", "flow_valid", "cameras", "tracks", "visible", "query_valid")
    try:
        with np.load(path, allow_pickle=False) as stored:
            text = json.loads(stored["text"].tobytes())
            if (version := text.get("version")) != VERSION:
                raise InputError(
                    f"{path} was cached in version {version}, this program renders version {VERSION}; cache it again"
                )
            item: dict[str, Any] = {name: torch.from_numpy(stored[name]) for name in names}
            item |= {name: str(text[name]) for name in TEXT}
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is not a cached clip ({error}); delete it and cache it again") from error
    item["rgba"] = item["rgba"].float() / 255
    return item | {name: item[name].float() for name in ("flow", "flow_valid")}


def claim_folder(folder: Path, made: dict[str, Any]) -> None:
    """Notes how a cache is made, so that clips of two kinds never share a folder.

    Args:
        folder: Made if it does not exist.
        made: JSON values.

    Raises:
        InputError: It holds clips made in another way or of unknown origin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, notes = folder / INDEX, json.loads(json.dumps({"version": VERSION, **made}))
    try:
        found = json.loads(path.read_text()) if path.is_file() else None
    except ValueError as error:
        raise InputError(f"{path} is not readable ({error}); give an empty folder") from error
    if found != notes and any(folder.glob("*.npz")):
        how = "of unknown origin" if found is None else f"made in another way ({found})"
        raise InputError(f"{folder} holds clips {how}, asked for is {notes}; give an empty folder")
    path.write_text(json.dumps(notes))


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
