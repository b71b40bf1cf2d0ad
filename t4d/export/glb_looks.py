"""Materials, textures and pictures of the user's file, carried over as they are."""

import copy
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from t4d.errors import InputError
from t4d.export.glb_builder import GlbBuilder
from t4d.geometry.gltf_file import GltfFile, decode_data_uri, read_inside
from t4d.geometry.mesh import Material

PICTURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/webp": b"RIFF",
    "image/ktx2": b"\xabKTX 20\xbb",
}
# Extensions that give a texture another picture than core glTF can.
CODECS = ("EXT_texture_webp", "KHR_texture_basisu")
WRAP = {"repeat": 10497, "clamp": 33071, "mirror": 33648}
LINEAR, MIPMAPPED = 9729, 9987


class Looks:
    """Copies materials of a glTF file into another, with only the textures, samplers and pictures they use.

    Args:
        file: the source.
        builder: of the new file.
        notes: gets a sentence for each picture that cannot be carried over.
    """

    def __init__(self, file: GltfFile, builder: GlbBuilder, notes: list[str]) -> None:
        self.file, self.builder, self.notes = file, builder, notes
        self._done: dict[str, dict[int, int | None]] = {kind: {} for kind in ("materials", "textures", "images")}
        self._samplers: dict[int, int] = {}

    def material(self, index: int) -> int:
        """Index in the new file of a material of the source."""
        done = self._done["materials"]
        if index not in done:
            record = copy.deepcopy(self.file.raw["materials"][index])
            self._redirect(record)
            done[index] = self._append("materials", record)
        new = done[index]
        assert new is not None
        return new

    def _redirect(self, record: dict[str, Any]) -> None:
        """Points every texture reference in a material at the new file, or removes it where its picture is lost."""
        for key, value in list(record.items()):
            if key == "extras" or not isinstance(value, dict):
                continue
            if key.lower().endswith("texture") and isinstance(value.get("index"), int):
                texture = self._known_texture(value["index"], key)
                if texture is None:
                    del record[key]
                    if key == "emissiveTexture":
                        record.pop("emissiveFactor", None)  # a missing glow map must not light the whole part
                else:
                    value["index"] = texture
            else:
                self._redirect(value)

    def _known_texture(self, index: int, key: str) -> int | None:
        """As `_texture`; None with a note where the file names what it does not hold.

        Loading looks at the textures that give colour only, so others may be broken in a file that was accepted.
        """
        try:
            if index < 0:
                raise IndexError(index)
            return self._texture(index)
        except (IndexError, KeyError, TypeError, AttributeError):
            self.notes.append(
                f"The {key} of a material of {self.file.name} was left out of the animated GLB: texture {index} or "
                "what it refers to is not in the file."
            )
            return None

    def _texture(self, index: int) -> int | None:
        done = self._done["textures"]
        if index not in done:
            done[index] = None
            stored = self.file.raw["textures"][index]
            source, codec = stored.get("source"), None
            for name in CODECS:
                other = (stored.get("extensions") or {}).get(name)
                if source is None and other is not None:
                    source, codec = other.get("source"), name
            image = None if source is None else self._image(source)
            if image is not None:
                record: dict[str, Any] = {"source": image}
                if codec is not None:
                    record = {"extensions": {codec: record}}
                    self.builder.document.setdefault("extensionsRequired", []).append(codec)
                if stored.get("sampler") is not None:
                    record["sampler"] = self._sampler(stored["sampler"])
                done[index] = self._append("textures", record | _named(stored))
        return done[index]

    def _sampler(self, index: int) -> int:
        if index not in self._samplers:
            self._samplers[index] = self._append("samplers", copy.deepcopy(self.file.raw["samplers"][index]))
        return self._samplers[index]

    def _image(self, index: int) -> int | None:
        done = self._done["images"]
        if index not in done:
            stored = self.file.raw["images"][index]
            done[index] = None
            try:
                data = self._picture(stored)
            except (InputError, OSError) as error:
                self.notes.append(f"A picture of {self.file.name} was left out of the animated GLB: {error}")
                return None
            mime = next((mime for mime, magic in PICTURES.items() if data.startswith(magic)), None)
            if mime is None:
                self.notes.append(
                    f"A picture of {self.file.name} was left out of the animated GLB: it is neither PNG, JPEG, WebP "
                    "nor KTX2."
                )
                return None
            record = {"bufferView": self.builder.view(data), "mimeType": mime, **_named(stored)}
            done[index] = self._append("images", record)
        return done[index]

    def _picture(self, stored: dict[str, Any]) -> bytes:
        if stored.get("bufferView") is not None:
            return bytes(self.file.view(stored["bufferView"])[0])
        uri = stored["uri"]
        if uri.startswith("data:"):
            return decode_data_uri(uri)
        try:
            return read_inside(self.file.folder, uri, self.file.max_bytes)
        except FileNotFoundError as error:
            raise InputError(f"{uri} is missing beside it.") from error

    def _append(self, kind: str, record: dict[str, Any]) -> int:
        records = self.builder.document.setdefault(kind, [])
        records.append(record)
        return len(records) - 1


def _named(stored: dict[str, Any]) -> dict[str, Any]:
    return {key: stored[key] for key in ("name", "extras") if key in stored}


def write_materials(materials: Sequence[Material], builder: GlbBuilder) -> list[int]:
    """Materials of an .obj or .ply as glTF ones: matt, seen from both sides; textures as PNG.

    Returns:
        Index in the new file of each.
    """
    document = builder.document
    out = []
    for material in materials:
        pbr: dict[str, Any] = {
            "baseColorFactor": np.clip(material.base_color_factor, 0, 1).astype(float).tolist(),
            "metallicFactor": 0.0,
            "roughnessFactor": 1.0,
        }
        if material.texture is not None:
            stream = BytesIO()
            Image.fromarray(material.texture).save(stream, format="PNG", optimize=True)
            images, textures = document.setdefault("images", []), document.setdefault("textures", [])
            samplers = document.setdefault("samplers", [])
            images.append({"bufferView": builder.view(stream.getvalue()), "mimeType": "image/png"})
            wrap = {"wrapS": WRAP[material.wrap[0]], "wrapT": WRAP[material.wrap[1]]}
            samplers.append({"magFilter": LINEAR, "minFilter": MIPMAPPED, **wrap})
            textures.append({"source": len(images) - 1, "sampler": len(samplers) - 1})
            pbr["baseColorTexture"] = {"index": len(textures) - 1}
        record: dict[str, Any] = {"pbrMetallicRoughness": pbr, "doubleSided": True}
        if material.name:
            record["name"] = material.name
        if material.alpha_mode != "OPAQUE":
            record["alphaMode"] = material.alpha_mode
        if material.alpha_mode == "MASK":
            record["alphaCutoff"] = material.alpha_cutoff
        document.setdefault("materials", []).append(record)
        out.append(len(document["materials"]) - 1)
    return out
