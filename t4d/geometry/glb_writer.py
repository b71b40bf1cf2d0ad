"""Writing a static mesh with vertex colours as .glb."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from t4d.geometry.mesh import Mesh

FLOAT, UINT16, UINT32 = 5126, 5123, 5125
ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963


def write_colored_glb(path: Path, mesh: Mesh, positions: np.ndarray, extras: dict[str, Any] | None = None) -> None:
    """Writes positions, triangles and vertex colours; one primitive a material.

    COLOR_0 is linear RGBA in normalised 16-bit integers (8 would band in the dark), materials are double-sided, with
    KHR_materials_unlit where the material says so: a viewer shows the colours as they are.

    Args:
        path: the file to write.
        mesh: faces, ``vertex_color``, materials (their textures are not written).
        positions: [Nv, 3] in glTF's space: y up, front +z.
        extras: JSON facts stored in the file's ``asset.extras``.
    """
    if mesh.vertex_color is None:
        raise ValueError("the mesh has no vertex colours, expected [Nv, 4]")
    writer = _Writer()
    primitives = []
    for index in range(len(mesh.materials)):
        faces = mesh.faces[mesh.face_material == index]
        if len(faces) == 0:
            continue
        used, corners = np.unique(faces, return_inverse=True)
        points = np.asarray(positions)[used].astype("<f4")
        colors = np.round(np.clip(mesh.vertex_color[used], 0, 1) * 65535).astype("<u2")
        bounds = {"min": points.min(0).tolist(), "max": points.max(0).tolist()}
        primitives.append(
            {
                "attributes": {
                    "POSITION": writer.add(points, FLOAT, "VEC3", ARRAY_BUFFER, **bounds),
                    "COLOR_0": writer.add(colors, UINT16, "VEC4", ARRAY_BUFFER, normalized=True),
                },
                "indices": writer.add(corners.reshape(-1, 1).astype("<u4"), UINT32, "SCALAR", ELEMENT_BUFFER),
                "material": index,
            }
        )
    record: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "t4d", **({"extras": extras} if extras else {})},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": primitives}],
        "materials": [_material(material) for material in mesh.materials],
        "accessors": writer.accessors,
        "bufferViews": writer.views,
        "buffers": [{"byteLength": len(writer.blob)}],
    }
    if any(material.unlit for material in mesh.materials):
        record["extensionsUsed"] = ["KHR_materials_unlit"]
    text = json.dumps(record, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(writer.blob), 0x004E4942) + bytes(writer.blob)
    Path(path).write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def _material(material: Any) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": material.name,
        "doubleSided": True,
        "pbrMetallicRoughness": {
            "baseColorFactor": [float(x) for x in material.base_color_factor],
            "metallicFactor": 0.0,
            "roughnessFactor": 0.9,
        },
    }
    if material.alpha_mode != "OPAQUE":
        record["alphaMode"] = material.alpha_mode
    if material.alpha_mode == "MASK":
        record["alphaCutoff"] = float(material.alpha_cutoff)
    if material.unlit:
        record["extensions"] = {"KHR_materials_unlit": {}}
    return record


class _Writer:
    """The binary chunk, filled accessor by accessor; every block starts at a multiple of 4."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: np.ndarray, component: int, kind: str, target: int, **extra: Any) -> int:
        """Appends [n, width] values and returns their accessor's index."""
        data = np.ascontiguousarray(values).tobytes()
        self.views.append({"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data), "target": target})
        self.blob += data + b"\0" * (-len(data) % 4)
        self.accessors.append(
            {
                "bufferView": len(self.views) - 1,
                "componentType": component,
                "count": len(values),
                "type": kind,
                **extra,
            }
        )
        return len(self.accessors) - 1
