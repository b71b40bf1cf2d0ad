"""glTF materials and the texture coordinates they use."""

import math
from typing import Any

import numpy as np

from t4d.geometry.gltf_file import GltfFile
from t4d.geometry.mesh import Material

WRAP = {10497: "repeat", 33071: "clamp", 33648: "mirror"}


def _get(record: Any, key: str, default: Any = None) -> Any:
    """A member of a pygltflib object or of an extension's plain dict."""
    value = record.get(key) if isinstance(record, dict) else getattr(record, key, None)
    return default if value is None else value


class UvUse:
    """Which TEXCOORD set a material reads, and its KHR_texture_transform."""

    def __init__(self, info: Any = None) -> None:
        transform = _get(info, "extensions", {}).get("KHR_texture_transform", {}) if info is not None else {}
        self.texcoord = int(transform.get("texCoord", _get(info, "texCoord", 0)))
        self.offset = np.asarray(transform.get("offset", (0.0, 0.0)), np.float64)
        self.scale = np.asarray(transform.get("scale", (1.0, 1.0)), np.float64)
        self.angle = float(transform.get("rotation", 0.0))

    def apply(self, uv: np.ndarray) -> np.ndarray:
        """[n, 2] transformed: scaled, then turned counter-clockwise as seen in the image (v is down), then moved.

        The extension says so in words; its GLSL snippet, read by columns, turns the other way. Renderers that pass
        the Khronos TextureTransformTest follow the words.
        """
        c, s = math.cos(self.angle), math.sin(self.angle)
        u, v = (uv * self.scale).T
        return np.stack([c * u + s * v, c * v - s * u], axis=1) + self.offset


def read_materials(file: GltfFile) -> tuple[list[Material], list[UvUse]]:
    """All materials of a file and, last, glTF's default one; with the texture coordinates each needs."""
    materials, uses = [], []
    for index, stored in enumerate(file.gltf.materials or []):
        material, use = _read_material(file, index, stored)
        materials.append(material)
        uses.append(use)
    return [*materials, Material("default")], [*uses, UvUse()]


def _read_material(file: GltfFile, index: int, stored: Any) -> tuple[Material, UvUse]:
    extensions = stored.extensions or {}
    pbr = stored.pbrMetallicRoughness
    factor, info = _get(pbr, "baseColorFactor"), _get(pbr, "baseColorTexture")
    old = extensions.get("KHR_materials_pbrSpecularGlossiness")
    if old is not None:
        factor, info = old.get("diffuseFactor", factor), old.get("diffuseTexture", info)
    strength = float(extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0))
    texture, wrap = _read_texture(file, info)
    emissive_info = stored.emissiveTexture
    emissive, emissive_wrap = _read_texture(file, emissive_info)
    material = Material(
        name=stored.name or f"material {index + 1}",
        base_color_factor=np.asarray(factor or [1, 1, 1, 1], np.float32),
        texture=texture,
        emissive_factor=strength * np.asarray(stored.emissiveFactor or [0, 0, 0], np.float32),
        emissive_texture=emissive,
        alpha_mode=stored.alphaMode or "OPAQUE",
        alpha_cutoff=0.5 if stored.alphaCutoff is None else float(stored.alphaCutoff),
        wrap=wrap if texture is not None else emissive_wrap,
        unlit="KHR_materials_unlit" in extensions,
    )
    if emissive_info is not None and emissive is None:
        material.emissive_factor = np.zeros(3, np.float32)  # a missing glow map must not light the whole part
    return material, UvUse(info if info is not None else emissive_info)


def _read_texture(file: GltfFile, info: Any) -> tuple[np.ndarray | None, tuple[str, str]]:
    """Picture and wrapping of a texture reference; (None, ...) with a note where there is no usable picture."""
    if info is None:
        return None, ("repeat", "repeat")
    texture = file.gltf.textures[_get(info, "index")]
    extensions = texture.extensions or {}
    source = texture.source
    if source is None:
        source = extensions.get("EXT_texture_webp", {}).get("source")
    if source is None:
        kind = ", ".join(extensions) or "no picture"
        file.notes.append(f"A texture of {file.name} is stored as {kind}, which is not supported; convert it to PNG.")
        return None, ("repeat", "repeat")
    sampler = file.gltf.samplers[texture.sampler] if texture.sampler is not None else None
    wrap = (WRAP.get(_get(sampler, "wrapS", 10497), "repeat"), WRAP.get(_get(sampler, "wrapT", 10497), "repeat"))
    return file.image(source), wrap
