"""The glTF container: JSON, buffers, accessors and images, read defensively because files come from strangers."""

import base64
import binascii
import json
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from pygltflib import GLTF2

from t4d.errors import InputError
from t4d.geometry.images import decode_image

COMPONENT = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
MAX_COUNT = 10_000_000

# Required extensions that change nothing we render, or that we implement.
HARMLESS = {
    "KHR_draco_mesh_compression",
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    "KHR_lights_punctual",
    "KHR_xmp_json_ld",
    "KHR_animation_pointer",
    "EXT_texture_webp",
}
REMEDY = {
    "EXT_meshopt_compression": "decompress it with `npx @gltf-transform/cli copy IN.glb OUT.glb` or export without it",
    "KHR_meshopt_compression": "decompress it with `npx @gltf-transform/cli copy IN.glb OUT.glb` or export without it",
    "KHR_texture_basisu": "convert its textures with `npx @gltf-transform/cli ktxdecompress IN.glb OUT.glb`",
    "EXT_mesh_gpu_instancing": "export it with real copies instead of instances",
}


def uri_path(uri: str) -> str:
    """The relative path a uri stands for; some Windows exporters write backslashes."""
    return unquote(uri).replace("\\", "/")


def read_inside(folder: Path, uri: str, max_bytes: int) -> bytes:
    """Bytes of a file that a 3D file refers to, never from outside its folder.

    Args:
        folder: folder of the referring file.
        uri: relative, percent-encoded.
        max_bytes: refuse larger files.

    Returns:
        The bytes.

    Raises:
        InputError: for an absolute, remote or escaping uri, or one too large.
        FileNotFoundError: if there is no such file.
    """
    relative = uri_path(uri)
    root = folder.resolve()
    target = (root / relative).resolve()
    if "\0" in relative or ":" in relative or relative.startswith("/") or not target.is_relative_to(root):
        raise InputError(
            f"the file refers to {uri[:80]!r}, which is outside its own folder; put that file beside it or embed it."
        )
    if not target.is_file():
        raise FileNotFoundError(relative)
    if target.stat().st_size > max_bytes:
        raise InputError(f"{relative} is larger than {max_bytes / 1e6:.0f} MB; shrink it.")
    return target.read_bytes()


def decode_data_uri(uri: str) -> bytes:
    """Bytes of a base64 ``data:`` uri; InputError if it is not one."""
    head, comma, body = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise InputError(f"an embedded file starts with {head[:40]!r}; expected base64 data, so export it again.")
    try:
        return base64.b64decode(unquote(body), validate=False)
    except binascii.Error as error:
        raise InputError(f"an embedded file is not valid base64 ({error}); export it again.") from error


def _chunks(name: str, data: bytes) -> tuple[bytes, bytes | None]:
    """JSON and binary chunk of a .glb."""
    broken = f"{name} is not a whole binary glTF 2.0 file"
    if len(data) < 20 or data[:4] != b"glTF":
        raise InputError(f"{broken}: it starts with {data[:4]!r} instead of b'glTF'; export it again as .glb.")
    version, length = struct.unpack("<II", data[4:12])
    if version != 2:
        raise InputError(f"{name} is binary glTF version {version}; expected version 2, so convert it.")
    if length > len(data):
        raise InputError(f"{broken}: {len(data)} of {length} bytes are there; copy or download it again.")
    found: dict[int, bytes] = {}
    position = 12
    while position + 8 <= length:
        size, kind = struct.unpack("<II", data[position : position + 8])
        if position + 8 + size > length:
            raise InputError(f"{broken}: a chunk reaches beyond its end; copy or download it again.")
        found.setdefault(kind, data[position + 8 : position + 8 + size])
        position += 8 + size
    if 0x4E4F534A not in found:
        raise InputError(f"{broken}: it has no JSON chunk; export it again.")
    return found[0x4E4F534A], found.get(0x004E4942)


def read_json(path: Path) -> tuple[dict[str, Any], bytes | None]:
    """JSON and binary chunk (or None) of a .glb or .gltf; InputError where it is not glTF 2."""
    name, data = path.name, path.read_bytes()
    text, blob = _chunks(name, data) if path.suffix.lower() == ".glb" else (data, None)
    try:
        raw = json.loads(text.rstrip(b"\0 ").decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{name} is not glTF: its JSON cannot be read ({error}); export it again.") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("asset"), dict):
        raise InputError(f"{name} is not glTF: it has no asset record; export it again.")
    version = str(raw["asset"].get("version", ""))
    if not version.startswith("2"):
        raise InputError(f"{name} is glTF version {version!r}; expected version 2, so convert it.")
    return raw, blob


class GltfFile:
    """Typed access to one glTF file.

    Attributes:
        gltf: the parsed JSON.
        raw: the same as plain dicts; pygltflib drops a node's morph weights.
        name: file name for messages.
        notes: what was repaired or left out.
        broken_weights: vertices whose skin weights had to be repaired.
        loose_vertices: skinned vertices without any weight.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.name, self.folder, self.max_bytes = path.name, path.parent, max_bytes
        self.notes: list[str] = []
        self.broken_weights = self.loose_vertices = 0
        raw, self._blob = read_json(path)
        for extension in raw.get("extensionsRequired") or []:
            if extension not in HARMLESS and not extension.startswith("KHR_materials_"):
                remedy = REMEDY.get(extension, "export it without that extension")
                raise InputError(f"{self.name} needs {extension}, which is not supported; {remedy}.")
        self.raw: dict[str, Any] = raw
        self.gltf: GLTF2 = GLTF2.gltf_from_json(json.dumps(raw))
        self._buffers: dict[int, bytes] = {}
        self._images: dict[int, np.ndarray | None] = {}

    def buffer(self, index: int) -> bytes:
        """Bytes of a buffer: the .glb's own, embedded, or a file beside it."""
        if index not in self._buffers:
            uri = self.gltf.buffers[index].uri
            if uri is None:
                if self._blob is None:
                    raise InputError(f"{self.name} refers to binary data it does not hold; export it again.")
                self._buffers[index] = self._blob
            elif uri.startswith("data:"):
                self._buffers[index] = decode_data_uri(uri)
            else:
                try:
                    self._buffers[index] = read_inside(self.folder, uri, self.max_bytes)
                except FileNotFoundError as error:
                    raise InputError(
                        f"{self.name} keeps its geometry in {uri}, which is missing; put it there or use .glb."
                    ) from error
        return self._buffers[index]

    def view(self, index: int) -> tuple[memoryview, int | None]:
        """Bytes of a buffer view and its stride (None: tightly packed)."""
        view = self.gltf.bufferViews[index]
        data = self.buffer(view.buffer)
        start, length = view.byteOffset or 0, view.byteLength
        if start < 0 or length < 0 or start + length > len(data):
            raise InputError(f"{self.name} refers to data beyond its end; copy or download it again.")
        return memoryview(data)[start : start + length], view.byteStride

    def _read(self, view_index: int, offset: int, count: int, width: int, dtype: np.dtype) -> np.ndarray:
        data, stride = self.view(view_index)
        return np.ndarray(
            (count, width), dtype, data, offset, (stride or width * dtype.itemsize, dtype.itemsize)
        )  # raises where the view is too small

    def accessor(self, index: int, raw_integers: bool = False) -> np.ndarray:
        """Values of an accessor.

        Args:
            index: which.
            raw_integers: keep integers (indices, joints) instead of converting to float64.

        Returns:
            [count, width]; normalised integers as 0..1 or -1..1, sparse values put in place.
        """
        accessor = self.gltf.accessors[index]
        count, width, dtype = accessor.count, WIDTH[accessor.type], np.dtype(COMPONENT[accessor.componentType])
        if not 0 <= count <= MAX_COUNT:
            raise InputError(f"{self.name} has an array of {count} entries; at most {MAX_COUNT} are accepted.")
        if accessor.bufferView is None:
            values = np.zeros((count, width), dtype)
        else:
            values = self._read(accessor.bufferView, accessor.byteOffset or 0, count, width, dtype)
        if accessor.sparse is not None and accessor.sparse.count:
            sparse = accessor.sparse
            rows = self._read(
                sparse.indices.bufferView,
                sparse.indices.byteOffset or 0,
                sparse.count,
                1,
                np.dtype(COMPONENT[sparse.indices.componentType]),
            )[:, 0]
            values = values.copy()
            values[rows] = self._read(
                sparse.values.bufferView, sparse.values.byteOffset or 0, sparse.count, width, dtype
            )
        if raw_integers:
            return values
        out = values.astype(np.float64)
        if accessor.normalized and dtype.kind in "iu":
            out = np.maximum(out / np.iinfo(dtype).max, -1.0)
        return out

    def image(self, index: int) -> np.ndarray | None:
        """uint8 [H, W, 3 or 4] of an image, or None with a note where it is missing or cannot be decoded."""
        if index not in self._images:
            self._images[index] = self._load_image(index)
        return self._images[index]

    def _load_image(self, index: int) -> np.ndarray | None:
        image: Any = self.gltf.images[index]
        label = image.name or image.uri or f"image {index}"
        try:
            if image.bufferView is not None:
                data = bytes(self.view(image.bufferView)[0])
            elif image.uri.startswith("data:"):
                label = image.name or f"image {index}"
                data = decode_data_uri(image.uri)
            else:
                data = read_inside(self.folder, image.uri, self.max_bytes)
            return decode_image(data)
        except FileNotFoundError:
            self.notes.append(
                f"The texture file {unquote(image.uri)} is missing beside {self.name}, so its parts show a plain "
                "colour; put it there or use a file with embedded textures."
            )
        except OSError as error:
            self.notes.append(
                f"The texture {label} cannot be decoded ({error}), so its parts show a plain colour; use PNG or JPEG."
            )
        return None
