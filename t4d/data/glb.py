"""Writes a static mesh with vertex colours as .glb, the same bytes for the same mesh."""

import json
import struct
from pathlib import Path

import numpy as np

FLOAT, UINT16, UINT32 = 5126, 5123, 5125
TO_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def write_glb(
    path: Path, name: str, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray, normals: np.ndarray
) -> None:
    """Writes one mesh.

    Args:
        path: The .glb.
        name: Of the node and mesh.
        vertices, normals: [Nv, 3], z up with the front on -y; stored y up with the front on +z, as glTF wants.
        faces: [F, 3].
        colors: [Nv, 3] linear 0..1, stored as COLOR_0.
    """
    position = (vertices @ TO_Y_UP.T).astype("<f4")
    normal = (normals @ TO_Y_UP.T).astype("<f4")
    rgba = np.concatenate([np.clip(colors, 0, 1), np.ones((len(colors), 1))], 1)
    blobs = [
        (position.tobytes(), 34962, FLOAT, "VEC3", len(position)),
        (normal.tobytes(), 34962, FLOAT, "VEC3", len(normal)),
        (np.round(rgba * 65535).astype("<u2").tobytes(), 34962, UINT16, "VEC4", len(rgba)),
        (faces.astype("<u4").tobytes(), 34963, UINT32, "SCALAR", faces.size),
    ]
    views, accessors, body = [], [], b""
    for i, (data, target, component, kind, count) in enumerate(blobs):
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": len(data), "target": target})
        accessors.append({"bufferView": i, "componentType": component, "count": count, "type": kind})
        body += data + b"\0" * (-len(data) % 4)
    accessors[0] |= {"min": position.min(0).tolist(), "max": position.max(0).tolist()}
    accessors[2]["normalized"] = True
    document = {
        "asset": {"version": "2.0", "generator": "Track4DGen Studio gallery", "copyright": "CC0 1.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [
            {
                "name": name,
                "primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}, "indices": 3, "material": 0}],
            }
        ],
        "materials": [
            {
                "name": "paint",
                "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0, "roughnessFactor": 0.8},
            }
        ],
        "buffers": [{"byteLength": len(body)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(body))
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(body), 0x004E4942) + body
    path.write_bytes(header + chunks)
