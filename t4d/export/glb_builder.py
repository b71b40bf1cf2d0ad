"""Puts a glTF 2.0 document together: accessors, buffer views, pictures, and the .glb around them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pygltflib import GLTF2

from t4d.export.files import atomic_path

COMPONENT = {"<f4": 5126, "<u4": 5125, "<u2": 5123}
KIND = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
VERTICES, INDICES = 34962, 34963


class GlbBuilder:
    """Collects the records and bytes of one file.

    Attributes:
        document: the glTF JSON without buffers, buffer views and accessors, for the caller to fill.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []
        self._blobs: list[bytes] = []
        self._size = 0

    def view(self, data: bytes, target: int | None = None) -> int:
        """Index of a new buffer view of some bytes; it starts at a multiple of 4."""
        record = {"buffer": 0, "byteOffset": self._size, "byteLength": len(data)}
        self._views.append(record if target is None else {**record, "target": target})
        padded = data + b"\0" * (-len(data) % 4)
        self._blobs.append(padded)
        self._size += len(padded)
        return len(self._views) - 1

    def accessor(
        self, values: np.ndarray, dtype: str, *, target: int | None = None, bounds: bool = False, **extra: Any
    ) -> int:
        """Index of a new accessor.

        Args:
            values: [count] or [count, width].
            dtype: "<f4", "<u4" or "<u2".
            target: `VERTICES`, `INDICES` or None.
            bounds: store min and max, exactly those of the stored values.
            **extra: more members, for example ``normalized=True``.
        """
        flat = np.ascontiguousarray(values, dtype).reshape(len(values), -1)
        record: dict[str, Any] = {
            "bufferView": self.view(flat.tobytes(), target),
            "componentType": COMPONENT[dtype],
            "count": len(flat),
            "type": KIND[flat.shape[1]],
            **extra,
        }
        if bounds:
            record |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self._accessors.append(record)
        return len(self._accessors) - 1

    def finish(self) -> GLTF2:
        """The whole document as pygltflib holds it, its bytes included."""
        document = {key: value for key, value in self.document.items() if value not in ([], {}, None)}
        used = sorted(extension_names(document))
        required = sorted({name for name in document.pop("extensionsRequired", []) if name in used})  # each once
        document |= {
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": self._size}],
            **({"extensionsUsed": used} if used else {}),
            **({"extensionsRequired": required} if required else {}),
        }
        gltf = GLTF2.gltf_from_json(json.dumps(document))
        gltf.set_binary_blob(b"".join(self._blobs))
        return gltf

    def save(self, path: Path) -> int:
        """Writes the .glb and returns its size in bytes."""
        gltf = self.finish()
        with atomic_path(path) as temporary:
            gltf.save_binary(str(temporary))
        return Path(path).stat().st_size


def extension_names(record: Any) -> set[str]:
    """Names of all extensions that appear anywhere in a piece of glTF JSON (what someone wrote in extras is not)."""
    names: set[str] = set()
    if isinstance(record, dict):
        names |= set(record.get("extensions") or {})
        for key, value in record.items():
            names |= extension_names(value) if key != "extras" else set()
    elif isinstance(record, list):
        for value in record:
            names |= extension_names(value)
    return names
