"""Writes small glTF files by hand, so that each test says exactly which bytes it is about."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

COMPONENT = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
TYPE = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}

TRIANGLE = np.array([[0, 0, 0], [2, 0, 0], [0, 1, 0]], np.float32)
TETRAHEDRON = np.array([[0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 3]], np.float32)
TETRAHEDRON_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.uint16)


class GlbBuilder:
    """Collects accessors and records, then writes a .glb."""

    def __init__(self) -> None:
        self.blob = b""
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": []}],
            "accessors": [],
            "bufferViews": [],
            "buffers": [{"byteLength": 0}],
        }

    def view(self, data: bytes, stride: int | None = None) -> int:
        self.blob += b"\0" * (-len(self.blob) % 4)
        view = {"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data)}
        self.json["bufferViews"].append(view if stride is None else {**view, "byteStride": stride})
        self.blob += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, values: np.ndarray, **extra: Any) -> int:
        values = np.asarray(values)
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        flat = values.reshape(len(values), -1)
        record = {
            "bufferView": self.view(flat.tobytes()),
            "componentType": COMPONENT[flat.dtype.str[1:]],
            "count": len(flat),
            "type": TYPE[flat.shape[1]],
        }
        return self.add_accessor({**record, **extra})

    def add_accessor(self, record: dict[str, Any]) -> int:
        self.json["accessors"].append(record)
        return len(self.json["accessors"]) - 1

    def primitive(self, positions: np.ndarray, faces: np.ndarray | None = None, mesh: int = 0, **extra: Any) -> dict:
        record: dict[str, Any] = {"attributes": {"POSITION": self.accessor(positions)}, **extra}
        if faces is not None:
            record["indices"] = self.accessor(faces.reshape(-1))
        self.json["meshes"][mesh]["primitives"].append(record)
        return record

    def animation(self, node: int, path: str, times: list, values: Any, interpolation: str = "LINEAR") -> None:
        sampler = {
            "input": self.accessor(np.asarray(times, np.float32)),
            "output": self.accessor(np.asarray(values, np.float32)),
            "interpolation": interpolation,
        }
        channel = {"sampler": 0, "target": {"node": node, "path": path}}
        self.json.setdefault("animations", []).append({"samplers": [sampler], "channels": [channel]})

    def bytes(self) -> bytes:
        self.json["buffers"][0]["byteLength"] = len(self.blob)
        text = json.dumps(self.json).encode()
        text += b" " * (-len(text) % 4)
        blob = self.blob + b"\0" * (-len(self.blob) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks

    def write(self, path: Path) -> Path:
        path.write_bytes(self.bytes())
        return path


def tetrahedron() -> GlbBuilder:
    """One tetrahedron on node 0."""
    builder = GlbBuilder()
    builder.primitive(TETRAHEDRON, TETRAHEDRON_FACES)
    return builder
