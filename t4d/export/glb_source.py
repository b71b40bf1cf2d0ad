"""The parts of the user's file as an animated copy needs them: rest pose, own attributes, own materials."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from t4d.export.glb_builder import GlbBuilder
from t4d.export.glb_looks import Looks, write_materials
from t4d.geometry.gltf_file import GltfFile
from t4d.geometry.gltf_primitive import primitive_arrays
from t4d.geometry.gltf_scene import SceneGraph
from t4d.geometry.mesh import Mesh
from t4d.geometry.object3d import MAX_BYTES, Object3D

GLTF = (".glb", ".gltf")


@dataclass
class SourcePart:
    """One primitive of the new file.

    Attributes:
        rows: [n] int64 its vertices in the loaded mesh.
        faces: [f, 3] int64 into ``rows``.
        normals: [n, 3] float64 unit, file space at rest; None where the source has none (then viewers shade flat).
        attributes: texture coordinates [n, 2] and colours [n, 4] by glTF name, float64 as stored.
        material: index in the new file, or None.
    """

    rows: np.ndarray
    faces: np.ndarray
    normals: np.ndarray | None
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    material: int | None = None


@dataclass
class SourceNode:
    """One drawn object of the source: its names and parts."""

    name: str
    mesh_name: str
    parts: list[SourcePart] = field(default_factory=list)


def read_parts(path: Path, loaded: Object3D, builder: GlbBuilder, notes: list[str]) -> list[SourceNode]:
    """Reads what `load_object` leaves out, and puts materials and pictures into the new file.

    Args:
        path: the file ``loaded`` was read from.
        loaded: gives vertex order, rest positions and winding.
        builder: of the new file.
        notes: gets a sentence for each thing that is lost.

    Returns:
        Nodes in file order; together their rows are all vertices of the loaded mesh that have triangles.
    """
    if path.suffix.lower() in GLTF:
        return _gltf_nodes(path, loaded, builder, notes)
    return [_static_node(loaded, builder)]


def _static_node(loaded: Object3D, builder: GlbBuilder) -> SourceNode:
    """An .obj or .ply: a part per material; normals are those it is shaded with here."""
    mesh, node = loaded.mesh, SourceNode(loaded.name, loaded.name)
    materials = write_materials(mesh.materials, builder)
    normals = mesh.normals().astype(np.float64)
    for index in np.unique(mesh.face_material):
        corners = mesh.faces[mesh.face_material == index]
        rows, local = np.unique(corners, return_inverse=True)
        attributes = {}
        if mesh.uv is not None:
            attributes["TEXCOORD_0"] = mesh.uv[rows]
        if mesh.vertex_color is not None:
            attributes["COLOR_0"] = mesh.vertex_color[rows]
        node.parts.append(SourcePart(rows, local.reshape(-1, 3), normals[rows], attributes, materials[int(index)]))
    return node


def _gltf_nodes(path: Path, loaded: Object3D, builder: GlbBuilder, notes: list[str]) -> list[SourceNode]:
    file, scene, mesh = GltfFile(path, MAX_BYTES), loaded.poser, loaded.mesh
    assert isinstance(scene, SceneGraph)
    looks = Looks(file, builder, notes)
    _carry_facts(file, builder)
    linear = scene.rest_linear()
    nodes: list[SourceNode] = []
    start = part = 0
    owner = _part_of_faces(mesh, [len(item.positions) for item in scene.parts])
    last = -1
    while part < len(scene.parts):
        index = scene.parts[part].node
        stored = file.gltf.nodes[index]
        assert index > last and stored.mesh is not None
        last, record = index, file.gltf.meshes[stored.mesh]
        nodes.append(SourceNode(stored.name or f"node {index}", record.name or stored.name or f"mesh {stored.mesh}"))
        for primitive in record.primitives:
            if primitive.mode not in (None, 4, 5, 6) or primitive.attributes.POSITION is None:
                continue
            arrays, _ = primitive_arrays(file, primitive)
            count = len(arrays["POSITION"])
            faces = mesh.faces[owner == part] - start
            rows = np.arange(start, start + count)
            normals = None
            if "NORMAL" in arrays:
                normals = _placed_normals(arrays["NORMAL"], linear[part], mesh, rows)
            material = None if primitive.material is None else looks.material(primitive.material)
            nodes[-1].parts.append(SourcePart(rows, faces, normals, _carried(arrays, count), material))
            start, part = start + count, part + 1
    return nodes


def _part_of_faces(mesh: Mesh, counts: list[int]) -> np.ndarray:
    """[F] part of each triangle."""
    return np.searchsorted(np.cumsum(counts), mesh.faces[:, 0], side="right")


def _placed_normals(normals: np.ndarray, linear: np.ndarray, mesh: Mesh, rows: np.ndarray) -> np.ndarray:
    """Stored normals [n, 3] in file space at rest; those that are broken come from the triangles."""
    # Normals go with the inverse transpose; the cofactors are that times the determinant and exist always.
    a, b, c = linear[..., :, 0], linear[..., :, 1], linear[..., :, 2]
    cofactors = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=-1)
    sign = np.sign(np.linalg.det(linear))
    placed = np.einsum("...ij,...j->...i", cofactors, np.nan_to_num(normals)) * np.asarray(sign)[..., None]
    length = np.linalg.norm(placed, axis=1, keepdims=True)
    broken = ~(length[:, 0] > 1e-12 * max(float(length.max(initial=0.0)), 1e-30))
    placed = placed / np.where(broken[:, None], 1.0, length)
    if broken.any():
        placed[broken] = mesh.normals()[rows[broken]]
    return placed


def _carried(arrays: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Texture coordinates and colour of a primitive; sets between are filled up, as glTF wants them without gaps."""
    sets = [int(name.removeprefix("TEXCOORD_")) for name in arrays if name.startswith("TEXCOORD_")]
    out = {f"TEXCOORD_{i}": arrays.get(f"TEXCOORD_{i}", np.zeros((count, 2))) for i in range(max(sets, default=-1) + 1)}
    out = {name: np.clip(np.nan_to_num(values), -1e9, 1e9) for name, values in out.items()}
    if "COLOR_0" in arrays:
        color = np.clip(np.nan_to_num(arrays["COLOR_0"], nan=1.0), 0.0, 1.0)
        out["COLOR_0"] = color if color.shape[1] == 4 else np.concatenate([color, np.ones((count, 1))], axis=1)
    return out


def _carry_facts(file: GltfFile, builder: GlbBuilder) -> None:
    """Author, licence and copyright of the source, and which extensions it cannot do without."""
    asset: dict[str, Any] = builder.document["asset"]
    for key in ("copyright", "extras"):
        if key in file.raw["asset"]:
            asset[key] = file.raw["asset"][key]
    builder.document.setdefault("extensionsRequired", []).extend(file.raw.get("extensionsRequired") or [])
