"""Geometry of one glTF primitive: positions, triangles, attributes, morph targets and skin binding."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from t4d.errors import InputError
from t4d.geometry.gltf_file import GltfFile
from t4d.geometry.gltf_materials import UvUse

TRIANGLES, STRIP, FAN = 4, 5, 6


@dataclass
class PrimitiveData:
    """Arrays of one primitive, float64, its own space.

    Attributes:
        positions: [n, 3].
        faces: [f, 3] int64.
        material: index into the materials, the last being the default one.
        normals: [n, 3] or None.
        uv: [n, 2] with the material's transform applied, or None.
        color: [n, 4] linear or None.
        morphs: [K, n, 3] or None.
        joints: [n, k] int64 or None.
        weights: [n, k] with rows summing to 1, or None.
    """

    positions: np.ndarray
    faces: np.ndarray
    material: int
    normals: np.ndarray | None = None
    uv: np.ndarray | None = None
    color: np.ndarray | None = None
    morphs: np.ndarray | None = None
    joints: np.ndarray | None = None
    weights: np.ndarray | None = None


def read_primitive(file: GltfFile, primitive: Any, uses: list[UvUse], skin: int | None) -> PrimitiveData | None:
    """Reads a primitive, or returns None if it has no triangles.

    Args:
        file: the file.
        primitive: pygltflib primitive.
        uses: texture coordinates wanted by each material, the default one last.
        skin: skin of the drawing node, or None.
    """
    mode = TRIANGLES if primitive.mode is None else primitive.mode
    if mode not in (TRIANGLES, STRIP, FAN):
        return None
    arrays, indices = primitive_arrays(file, primitive)
    if "POSITION" not in arrays:
        return None
    positions = arrays["POSITION"]
    count = len(positions)
    order = np.arange(count) if indices is None else indices.astype(np.int64)
    faces = _triangles(order, mode)
    if faces.size and (faces.min() < 0 or faces.max() >= count):
        raise InputError(f"{file.name} has triangles that name vertices which do not exist; export it again.")
    material = len(uses) - 1 if primitive.material is None else primitive.material
    uv = arrays.get(f"TEXCOORD_{uses[material].texcoord}")
    if uv is not None:
        uv = np.clip(np.nan_to_num(uses[material].apply(uv), posinf=0.0, neginf=0.0), -1e6, 1e6)
    color = arrays.get("COLOR_0")
    if color is not None:
        color = np.clip(np.nan_to_num(color, nan=1.0), 0.0, 1.0)
        color = color if color.shape[1] == 4 else np.concatenate([color, np.ones((count, 1))], axis=1)
    data = PrimitiveData(positions, faces, material, arrays.get("NORMAL"), uv, color)
    data.morphs = _morphs(file, primitive, count)
    if skin is not None:
        data.joints, data.weights = _binding(file, arrays, positions)
    return data


def primitive_arrays(file: GltfFile, primitive: Any) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """All attributes of a primitive by name, as stored ([n, width] float64; joints as integers), and its indices.

    Draco-compressed ones are decoded. Without POSITION nothing is read.
    """
    draco = (primitive.extensions or {}).get("KHR_draco_mesh_compression")
    attributes: dict[str, Any] = {k: v for k, v in vars(primitive.attributes).items() if v is not None}
    if "POSITION" not in attributes:
        return {}, None
    if draco is not None:
        return _decode_draco(file, draco, attributes)
    arrays = {k: file.accessor(v, raw_integers=k.startswith("JOINTS_")) for k, v in attributes.items()}
    indices = None if primitive.indices is None else file.accessor(primitive.indices, raw_integers=True)[:, 0]
    return arrays, indices


def _triangles(order: np.ndarray, mode: int) -> np.ndarray:
    """[f, 3] corner indices of a triangle list, strip or fan."""
    if mode == TRIANGLES:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    if len(order) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == FAN:
        return np.stack([np.full(len(order) - 2, order[0]), order[1:-1], order[2:]], axis=1)
    faces = np.stack([order[:-2], order[1:-1], order[2:]], axis=1)
    faces[1::2] = faces[1::2][:, [1, 0, 2]]  # every second triangle of a strip winds the other way
    return faces


def _morphs(file: GltfFile, primitive: Any, count: int) -> np.ndarray | None:
    """[K, n, 3] position displacements; targets without positions displace nothing."""
    targets = primitive.targets or []
    if not targets:
        return None
    out = np.zeros((len(targets), count, 3))
    for index, target in enumerate(targets):
        accessor = target.get("POSITION") if isinstance(target, dict) else target.POSITION
        if accessor is not None:
            out[index] = file.accessor(accessor)
    if not np.isfinite(out).all():
        raise InputError(f"{file.name} has morph targets that are not finite numbers; repair and export it again.")
    return out


def _binding(
    file: GltfFile, arrays: dict[str, np.ndarray], positions: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Joints and repaired weights [n, k], or (None, None) where the primitive is not bound."""
    sets = [i for i in range(8) if f"JOINTS_{i}" in arrays and f"WEIGHTS_{i}" in arrays]
    if not sets:
        return None, None
    joints = np.concatenate([arrays[f"JOINTS_{i}"].astype(np.int64) for i in sets], axis=1)
    weights = np.concatenate([arrays[f"WEIGHTS_{i}"] for i in sets], axis=1)
    return joints, repair_weights(file, joints, weights, positions)


def repair_weights(file: GltfFile, joints: np.ndarray, weights: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Finite skin weights [n, k] whose rows sum to 1.

    Broken entries (not finite, or negative) count as 0 and the rest of the row is scaled up; a row with nothing left
    takes the binding of the nearest sound vertex, by position, in ``joints`` too. Both are counted in ``file``.
    """
    broken = ~np.isfinite(weights) | (weights < 0)
    weights = np.where(broken, 0.0, weights)
    total = weights.sum(1, keepdims=True)
    empty = total[:, 0] <= 0
    file.broken_weights += int(broken.any(1).sum())
    file.loose_vertices += int((empty & ~broken.any(1)).sum())
    if empty.all():
        raise InputError(f"{file.name} has a skin without a single usable weight; bind and export it again.")
    if empty.any():
        sound = np.flatnonzero(~empty)
        for row in np.flatnonzero(empty):
            nearest = sound[np.square(positions[sound] - positions[row]).sum(1).argmin()]
            joints[row], weights[row] = joints[nearest], weights[nearest]
        total = weights.sum(1, keepdims=True)
    return weights / total


def smoothing_groups(nodes: list[int], data: list[PrimitiveData]) -> np.ndarray:
    """[Nv] group of each vertex: one per (node, position, stored normal); without normals faces stay flat (glTF)."""
    keys = []
    for node, read in zip(nodes, data):
        count = len(read.positions)
        base = sum(len(key) for key in keys)
        if read.normals is None:
            unique = np.stack([np.arange(base, base + count), np.zeros(count)], axis=1)
            keys.append(np.concatenate([np.full((count, 1), -1.0), unique, np.zeros((count, 4))], axis=1))
        else:
            normals = np.round(np.nan_to_num(read.normals) * 100)  # equal within about half a degree
            keys.append(np.concatenate([np.full((count, 1), float(node)), read.positions, normals], axis=1))
    return np.unique(np.concatenate(keys), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _decode_draco(file: GltfFile, draco: dict, attributes: dict[str, Any]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Arrays and triangle corners of a Draco-compressed primitive (KHR_draco_mesh_compression)."""
    import DracoPy

    try:
        decoded = DracoPy.decode(bytes(file.view(draco["bufferView"])[0]))
    except (DracoPy.FileTypeException, ValueError) as error:
        raise InputError(f"{file.name} has Draco data that cannot be decoded ({error}); export it again.") from error
    arrays: dict[str, np.ndarray] = {}
    for name, unique_id in draco["attributes"].items():
        values = np.asarray(decoded.get_attribute_by_unique_id(unique_id)["data"])
        values = values.reshape(len(values), -1)
        accessor = file.gltf.accessors[attributes[name]]
        if name.startswith("JOINTS_"):
            arrays[name] = values
        elif accessor.normalized and values.dtype.kind in "iu":
            arrays[name] = np.maximum(values / np.iinfo(values.dtype).max, -1.0)
        else:
            arrays[name] = values.astype(np.float64)
    for name, index in attributes.items():  # attributes may also lie outside the compressed block
        if name not in arrays:
            arrays[name] = file.accessor(index, raw_integers=name.startswith("JOINTS_"))
    return arrays, np.asarray(decoded.faces).reshape(-1)
