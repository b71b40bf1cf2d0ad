"""The objects that come with the studio, read from ``assets/objects/gallery.json``."""

import json
from dataclasses import dataclass
from pathlib import Path

from t4d.paths import ASSETS


@dataclass(frozen=True)
class GalleryObject:
    """One object.

    Attributes:
        name: shown under the picture.
        file: absolute path of the object file.
        thumbnail: absolute path of a picture, or None.
        prompts: sentences that suit it.
    """

    name: str
    file: Path
    thumbnail: Path | None
    prompts: tuple[str, ...]


def read_gallery(folder: Path = ASSETS / "objects") -> list[GalleryObject]:
    """The objects of ``folder/gallery.json``; empty where there is none.

    The file is a list (or ``{"objects": [...]}``) of ``{"name", "file", "thumbnail"?, "prompts"?}`` with paths relative
    to the folder. An entry whose object file is absent is left out, one whose thumbnail is absent has none.
    """
    index = folder / "gallery.json"
    if not index.is_file():
        return []
    data = json.loads(index.read_text())
    entries = data["objects"] if isinstance(data, dict) else data
    found = []
    for entry in entries:
        file = folder / entry["file"]
        thumbnail = folder / entry["thumbnail"] if entry.get("thumbnail") else file.with_suffix(".png")
        if file.is_file():
            picture = thumbnail if thumbnail.is_file() else None
            found.append(GalleryObject(entry["name"], file, picture, tuple(entry.get("prompts", ()))))
    return found
