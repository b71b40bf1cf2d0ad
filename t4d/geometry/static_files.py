"""Loading .obj and mesh .ply through trimesh."""

from pathlib import Path
from typing import Any

import numpy as np

from t4d.errors import InputError
from t4d.geometry.color import srgb_to_linear
from t4d.geometry.images import decode_image, to_array
from t4d.geometry.mesh import Material, Mesh
from t4d.geometry.object3d import MAX_TRIANGLES, Object3D, one_line
from t4d.geometry.ply_header import read_ply_header
from t4d.geometry.references import MAX_TEXT, lone_texture, obj_references


def load_static(path: Path) -> Object3D:
    """Reads a .obj (with .mtl and textures) or a .ply of triangles; see ``load_object``."""
    import trimesh

    notes = _missing_files(path) if path.suffix.lower() == ".obj" else []
    _check_header(path)
    header = read_ply_header(path) if path.suffix.lower() == ".ply" else None
    if header is not None and header.holds_gaussians:
        raise InputError(
            f"{path.name} holds 3D Gaussians, not triangles, and this step works on triangles; "
            "give a mesh, or animate the Gaussians directly."
        )
    _check_size(path)
    try:
        with path.open("rb") as stream:
            loaded: Any = trimesh.load(
                stream, file_type=path.suffix[1:].lower(), resolver=_inside_resolver(path.parent), process=False
            )
    except Exception as error:  # trimesh raises whatever its parsers stumble over
        raise InputError(
            f"{path.name} cannot be read as {path.suffix[1:].upper()} ({one_line(error)}); export it again."
        ) from error
    parts = [part for part in _meshes(loaded) if len(part.faces)]
    if not parts:
        raise InputError(f"{path.name} has no triangles; export it with at least one surface mesh.")
    mesh = _concatenate(parts)
    return Object3D(path.stem, mesh, notes=notes + _texture_beside(path, mesh))


def _check_size(path: Path) -> None:
    """Refuses an .obj with too many faces before the slow text parser meets it."""
    if path.suffix.lower() == ".obj":
        faces = path.read_bytes().count(b"\nf ")
        if faces > MAX_TRIANGLES:
            raise InputError(
                f"{path.name} has {faces} faces and at most {MAX_TRIANGLES} are accepted; decimate it first."
            )


def _inside_resolver(folder: Path) -> Any:
    """What trimesh opens other files with: only files in or below the folder."""
    from trimesh.resolvers import Resolver

    from t4d.geometry.gltf_file import read_inside

    class InsideResolver(Resolver):
        def __init__(self) -> None:
            pass

        def write(self, name: str, data: Any) -> None:
            raise PermissionError("an object file is only read")

        def get(self, name: str) -> bytes:
            # MTL allows options such as "-s 1 1 1" before a texture's name.
            return read_inside(folder, name.split()[-1] if name.startswith("-") else name, MAX_TEXT)

        def keys(self) -> list[str]:
            return []

        def namespaced(self, namespace: str) -> Any:
            return self

    return InsideResolver()


def _meshes(loaded: Any) -> list[Any]:
    import trimesh

    if isinstance(loaded, trimesh.Scene):
        return [part for part in loaded.dump() if isinstance(part, trimesh.Trimesh)]
    return [loaded] if isinstance(loaded, trimesh.Trimesh) else []


def _check_header(path: Path) -> None:
    with path.open("rb") as stream:
        head = stream.read(4096)
    if path.suffix.lower() == ".ply" and not head.startswith(b"ply"):
        raise InputError(
            f"{path.name} starts with {head[:8]!r} instead of 'ply'; it is not a PLY file, export it again."
        )
    if path.suffix.lower() == ".obj" and b"\0" in head:
        raise InputError(f"{path.name} holds binary data instead of OBJ text; export it again as .obj.")


def _missing_files(path: Path) -> list[str]:
    """Notes on .mtl and texture files an .obj names but that are absent; InputError for names outside its folder."""
    from t4d.geometry.gltf_file import read_inside

    notes = []
    for name in obj_references(path):
        try:
            read_inside(path.parent, name, MAX_TEXT)
        except FileNotFoundError:
            notes.append(
                f"{path.name} refers to {name}, which is missing, so its parts show a plain colour; "
                "put it in the same folder."
            )
    return notes


def _texture_beside(path: Path, mesh: Mesh) -> list[str]:
    """Gives an .obj without material library the texture lying beside it; returns notes."""
    if path.suffix.lower() != ".obj" or mesh.uv is None or any(m.texture is not None for m in mesh.materials):
        return []
    picture = lone_texture(path)
    if picture is None:
        return []
    try:
        texture = decode_image(picture.read_bytes())
    except OSError as error:
        return [f"{picture.name} beside {path.name} cannot be decoded ({error}); use PNG or JPEG."]
    mesh.materials = [Material(picture.stem, texture=texture)]
    mesh.face_material = np.zeros(len(mesh.faces), np.int64)
    return [f"{path.name} names no material, so the picture {picture.name} beside it is used as its texture."]


def _concatenate(parts: list[Any]) -> Mesh:
    """One mesh of trimesh meshes."""
    counts = [len(part.vertices) for part in parts]
    starts = np.cumsum([0, *counts])
    pairs = [_appearance(part) for part in parts]
    uvs = [_uv(part) for part in parts]
    colors = [_vertex_color(part) for part in parts]
    uv = color = None
    if any(item is not None for item in uvs):
        uv = np.concatenate([np.zeros((n, 2), np.float32) if u is None else u for u, n in zip(uvs, counts)])
    if any(item is not None for item in colors):
        color = np.concatenate([np.ones((n, 4), np.float32) if c is None else c for c, n in zip(colors, counts)])
    vertices = np.concatenate([np.asarray(part.vertices, np.float32) for part in parts])
    # trimesh splits vertices at UV seams; equal positions share a normal again.
    return Mesh(
        vertices,
        np.concatenate([np.asarray(part.faces, np.int64) + start for part, start in zip(parts, starts)]),
        uv,
        color,
        np.concatenate([np.full(len(part.faces), index, np.int64) for index, part in enumerate(parts)]),
        pairs,
        np.unique(vertices, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64),
    )


def _uv(part: Any) -> np.ndarray | None:
    uv = getattr(part.visual, "uv", None)
    if uv is None or len(uv) != len(part.vertices):
        return None
    uv = np.nan_to_num(np.asarray(uv, np.float32))
    return np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1)  # OBJ and PLY count v from the bottom


def _vertex_color(part: Any) -> np.ndarray | None:
    if part.visual.kind not in ("vertex", "face"):
        return None
    colors = np.asarray(part.visual.vertex_colors, np.float64) / 255.0
    colors[:, :3] = srgb_to_linear(colors[:, :3])  # 8-bit vertex colours of scans and sculpting tools are sRGB
    return colors.astype(np.float32)


def _appearance(part: Any) -> Material:
    """The material of a trimesh mesh; plain white where the file names none (trimesh then invents a grey picture)."""
    material = getattr(part.visual, "material", None)
    if material is None or "_name" not in vars(material):
        return Material("default")
    name, image = str(material.name), getattr(material, "image", None)
    # With a texture exporters leave MTL's Kd at 0.8, 0.64 or 1, and viewers differ; the texture alone counts.
    if image is not None:
        return Material(name, texture=to_array(image))
    stored = getattr(material, "kwargs", {})
    diffuse = np.asarray(stored.get("kd", (1.0, 1.0, 1.0)), np.float64)[:3]  # what authors pick on screen, so sRGB
    opacity = float(np.clip(float(stored["d"][-1]) if "d" in stored else 1.0, 0.0, 1.0))
    factor = np.append(srgb_to_linear(diffuse), opacity).astype(np.float32)
    return Material(name, factor, alpha_mode="BLEND" if opacity < 1 else "OPAQUE")
