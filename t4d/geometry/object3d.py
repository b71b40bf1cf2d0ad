"""An object file in memory: a mesh, its clips, and how to pose it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from t4d.errors import InputError
from t4d.geometry.mesh import Mesh
from t4d.geometry.references import object_files as object_files

MAX_BYTES = 200_000_000
MAX_VERTICES = 2_000_000
MAX_TRIANGLES = 1_000_000
SUFFIXES = (".glb", ".gltf", ".obj", ".ply")


class Poser(Protocol):
    """Evaluates vertex positions of an animated file."""

    def vertices(self, clip: int | None, seconds: float) -> np.ndarray:
        """[Nv, 3] float32 file-space positions of a clip at a time, or of the rest pose where clip is None."""
        ...


@dataclass(frozen=True)
class ClipInfo:
    """One animation of a file.

    Attributes:
        name: as stored, or "clip 1", "clip 2", ... where the file gives none.
        duration: seconds, from 0 to the last key; may be 0.
        display_name: the name without an armature prefix ("AnimalArmature|Gallop" -> "Gallop").
        channels: number of animated properties.
    """

    name: str
    duration: float
    display_name: str = ""
    channels: int = 0


@dataclass
class Object3D:
    """A loaded file; everything is in the file's own space and units.

    Attributes:
        name: the file's stem.
        mesh: topology, materials and rest positions.
        clips: the animations, in file order.
        notes: sentences about repairs and omissions, for the user.
        up: the file's up axis, "y", "z" or "-y" (``Normaliser`` turns it to z).
        poser: evaluates clips; None for a static file.
    """

    name: str
    mesh: Mesh
    clips: list[ClipInfo] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    up: str = "y"
    poser: Poser | None = None

    def rest_vertices(self) -> np.ndarray:
        """[Nv, 3] float32 positions with every node at its stored transform, file space."""
        return self.mesh.vertices

    def clip_index(self, clip: int | str) -> int:
        """Index of a clip given by index, stored name or display name (first match).

        Raises:
            InputError: if there is none, naming those there are.
        """
        if isinstance(clip, int) and 0 <= clip < len(self.clips):
            return clip
        for key in ("name", "display_name"):
            for index, info in enumerate(self.clips):
                if getattr(info, key) == clip:
                    return index
        there = ", ".join(repr(info.display_name or info.name) for info in self.clips)
        raise InputError(
            f"{self.name} has no clip {clip!r}; "
            + (f"choose one of {there}." if there else "it is static, so use it without a clip.")
        )

    def pose(self, clip: int | str, seconds: float) -> np.ndarray:
        """Vertices of a clip at a time.

        Args:
            clip: index, name or display name.
            seconds: time; before the first and after the last key the pose holds.

        Returns:
            [Nv, 3] float32, file space.

        Raises:
            InputError: if there is no such clip.
        """
        index = self.clip_index(clip)
        assert self.poser is not None  # a file with clips has a poser
        return self.poser.vertices(index, float(seconds))


def load_object(path: str | Path, *, up: str | None = None, max_bytes: int = MAX_BYTES) -> Object3D:
    """Reads a .glb, .gltf, .obj or mesh .ply file.

    Args:
        path: the file; what it refers to (textures, .bin, .mtl) must lie in its folder or below.
        up: the file's up axis, "y", "z" or "-y" (upside down). Default: y for glTF (its standard) and OBJ (its
            custom), z for PLY (Blender's and most CAD exporters' default). glTF's front is +z.
        max_bytes: refuse larger files.

    Returns:
        The object, in file space.

    Raises:
        InputError: with one sentence naming what was found, what is expected and what to do.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"{path.name} is not a known 3D format; use a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file."
        )
    if not path.is_file():
        raise InputError(f"{path.name} does not exist or is not a file; give the path of a 3D file.")
    size = path.stat().st_size
    if size > max_bytes:
        raise InputError(
            f"{path.name} has {size / 1e6:.0f} MB and at most {max_bytes / 1e6:.0f} MB are accepted; "
            "simplify the mesh or shrink its textures."
        )
    # Loaders are imported here so that using meshes needs neither pygltflib nor trimesh.
    if suffix in (".glb", ".gltf"):
        from t4d.geometry.gltf import load_gltf

        obj = load_gltf(path, max_bytes)
    else:
        from t4d.geometry.static_files import load_static

        obj = load_static(path)
    obj.up = up or ("z" if suffix == ".ply" else "y")
    if obj.up not in ("y", "z", "-y"):
        raise InputError(f"up={up!r} is not an up axis; use 'y', 'z' or '-y'.")
    check_mesh(path.name, obj.mesh)
    return obj


def one_line(error: Exception) -> str:
    """A parser's complaint as part of a sentence."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200].rstrip(".")


def check_mesh(name: str, mesh: Mesh) -> None:
    """Raises InputError for a mesh nothing can be made of: no triangles, too many, out of range, or not finite."""
    count = len(mesh.vertices)
    if len(mesh.faces) == 0:
        raise InputError(f"{name} has no triangles; export it with at least one surface mesh.")
    if len(mesh.faces) > MAX_TRIANGLES or count > MAX_VERTICES:
        raise InputError(
            f"{name} has {len(mesh.faces)} triangles and {count} vertices and at most {MAX_TRIANGLES} and "
            f"{MAX_VERTICES} are accepted; decimate it first."
        )
    if mesh.faces.min() < 0 or mesh.faces.max() >= count:
        raise InputError(f"{name} has triangles that name vertices which do not exist; export it again.")
    broken = int((~np.isfinite(mesh.vertices)).any(1).sum())
    if broken:
        raise InputError(
            f"{name} has {broken} vertices at positions that are not finite numbers; repair and export it again."
        )
    if not float(np.ptp(mesh.vertices.astype(np.float64), axis=0).max()) > 0:
        raise InputError(f"{name} has no size: all its {count} vertices coincide; export it again.")
