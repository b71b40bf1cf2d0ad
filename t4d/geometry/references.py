"""Which files an object file needs, found without loading it."""

import json
import re
from pathlib import Path

from t4d.errors import InputError

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_TEXT = 200_000_000


def object_files(path: str | Path) -> list[Path]:
    """The file itself and every existing file it takes data from (buffers, textures, materials), for hashing.

    Args:
        path: a .glb, .gltf, .obj or .ply file; it need not be valid (``load_object`` says what is wrong with it).

    Returns:
        Paths, the object first, the others sorted; only files inside the object's folder.
    """
    path = Path(path)
    if path.suffix.lower() == ".obj":
        names = [*obj_references(path), *([lone.name] if (lone := lone_texture(path)) else [])]
    elif path.suffix.lower() in (".glb", ".gltf"):
        names = _gltf_uris(path)
    else:
        names = []
    root = path.parent.resolve()
    found = {target for name in names if (target := (root / name).resolve()).is_relative_to(root) and target.is_file()}
    return [path, *sorted(path.parent / target.relative_to(root) for target in found)]


def _gltf_uris(path: Path) -> list[str]:
    from t4d.geometry.gltf_file import read_json, uri_path

    try:
        raw, _ = read_json(path)
        uris = [entry.get("uri") or "" for kind in ("buffers", "images") for entry in raw.get(kind) or []]
        return [uri_path(uri) for uri in uris if uri and not uri.startswith("data:") and "\0" not in uri]
    except (InputError, OSError, json.JSONDecodeError, AttributeError):
        return []


def obj_references(path: Path) -> list[str]:
    """Names of the .mtl libraries of an .obj and of the colour textures those name, as written."""
    if not path.is_file() or path.stat().st_size > MAX_TEXT:
        return []
    names: list[str] = []
    for line in re.findall(rb"(?m)^mtllib (.+)$", path.read_bytes()):
        library = line.decode("utf-8", "replace").strip()
        names.append(library)
        target = (path.parent / library).resolve()
        if target.is_relative_to(path.parent.resolve()) and target.is_file():
            for entry in target.read_bytes().splitlines():
                words = entry.decode("utf-8", "replace").split(maxsplit=1)
                if len(words) == 2 and words[0].lower() == "map_kd":
                    # Options such as "-s 1 1 1" come first; a name may hold spaces.
                    names.append(words[1].split()[-1] if words[1].startswith("-") else words[1].strip())
    return [name.replace("\\", "/") for name in names]


def lone_texture(path: Path) -> Path | None:
    """The picture to use for an .obj with texture coordinates that names no material library.

    Such files come with their texture beside them (Crane's meshes, many scans). It is taken where there is exactly one
    candidate: the only picture beside the object, or the only one whose name starts like the object's.
    """
    if obj_references(path) or not path.parent.is_dir():
        return None
    pictures = [file for file in sorted(path.parent.iterdir()) if file.suffix.lower() in PICTURES and file.is_file()]
    objects = [file for file in path.parent.iterdir() if file.suffix.lower() in (".obj", ".ply", ".glb", ".gltf")]
    same = [file for file in pictures if file.stem.lower().startswith(path.stem.lower())]
    if len(same) == 1:
        return same[0]
    return pictures[0] if len(pictures) == 1 and len(objects) == 1 else None
