"""Light per vertex and colour per surface point.

The paper's supplement bakes "a standard four-point lighting setup ... key light, fill light, back light, and background
light" into vertex colours. Here it is three distant lights with Lambert's law and a constant ambient term, in linear
light. The lights stand still in the world: a turning surface changes its brightness when it is shaded every frame.
"""

from dataclasses import dataclass

import numpy as np

from t4d.geometry.color import SRGB8_TO_LINEAR, linear_to_srgb
from t4d.geometry.mesh import Material, Mesh


def _towards(azimuth_deg: float, elevation_deg: float) -> tuple[float, float, float]:
    a, e = np.radians(azimuth_deg), np.radians(elevation_deg)
    return (float(np.cos(e) * np.cos(a)), float(np.cos(e) * np.sin(a)), float(np.sin(e)))


@dataclass(frozen=True)
class LightRig:
    """Three distant lights and ambient light, fixed in the z-up world.

    A glTF object's front faces -y (azimuth 270); the key stands to its upper left, the fill opposite, the back light
    behind. The most light any
    surface gets is 1.13, so only nearly white surfaces clip, and the least is the ambient 0.33.

    Attributes:
        key, fill, back: unit vectors from the object to the light, world.
        key_intensity, fill_intensity, back_intensity, ambient: linear irradiance over pi.
    """

    key: tuple[float, float, float] = _towards(225.0, 45.0)
    fill: tuple[float, float, float] = _towards(330.0, 20.0)
    back: tuple[float, float, float] = _towards(80.0, 40.0)
    key_intensity: float = 0.60
    fill_intensity: float = 0.30
    back_intensity: float = 0.40
    ambient: float = 0.33

    def irradiance(self, normals: np.ndarray, occlusion: np.ndarray | None = None) -> np.ndarray:
        """Linear light [..., 3] falling on surfaces with unit ``normals`` [..., 3] (world).

        ``occlusion`` [...] in 0..1 is the share of the ambient light that arrives; all of it if None.
        """
        total = np.full(normals.shape[:-1], self.ambient, np.float64)
        if occlusion is not None:
            total *= occlusion
        for direction, intensity in (
            (self.key, self.key_intensity),
            (self.fill, self.fill_intensity),
            (self.back, self.back_intensity),
        ):
            total += intensity * np.maximum(normals @ np.asarray(direction), 0.0)
        return np.repeat(total[..., None], 3, axis=-1).astype(np.float32)


def shade_vertices(
    mesh: Mesh, vertices_world: np.ndarray, lights: LightRig | None = None, occlusion: np.ndarray | None = None
) -> np.ndarray:
    """Light arriving at every vertex in one pose.

    Args:
        mesh: topology and smoothing.
        vertices_world: [Nv, 3] posed positions, z-up world.
        lights: the default rig of lights if None.
        occlusion: [Nv] share of the ambient light that arrives (``occlusion.ambient_occlusion``); all of it if None.

    Returns:
        [Nv, 3] float32 linear light, to be multiplied with linear surface colour.
    """
    return (lights or LightRig()).irradiance(mesh.normals(vertices_world), occlusion)


def _wrapped(index: np.ndarray, size: int, mode: str) -> np.ndarray:
    if mode == "clamp":
        return np.clip(index, 0, size - 1)
    if mode == "mirror":
        index = np.mod(index, 2 * size)
        return np.where(index < size, index, 2 * size - 1 - index)
    return np.mod(index, size)


def sample_texture(texture: np.ndarray, uv: np.ndarray, wrap: tuple[str, str]) -> np.ndarray:
    """Bilinear look-up in linear light.

    Args:
        texture: uint8 [H, W, 3 or 4], sRGB colour, straight alpha.
        uv: [M, 2], (0, 0) at the top-left corner of the image, texel centres at half-integers over the size.
        wrap: (u, v) wrapping: "repeat", "clamp" or "mirror".

    Returns:
        [M, 4] float32 linear RGBA.
    """
    height, width = texture.shape[:2]
    x, y = uv[:, 0].astype(np.float64) * width - 0.5, uv[:, 1].astype(np.float64) * height - 0.5
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = x - x0, y - y0
    out = np.zeros((len(uv), 4), np.float32)
    for dx, wx in ((0, 1 - fx), (1, fx)):
        column = _wrapped(x0.astype(np.int64) + dx, width, wrap[0])
        for dy, wy in ((0, 1 - fy), (1, fy)):
            texel = texture[_wrapped(y0.astype(np.int64) + dy, height, wrap[1]), column]
            weight = (wx * wy).astype(np.float32)
            out[:, :3] += weight[:, None] * SRGB8_TO_LINEAR[texel[:, :3]]
            out[:, 3] += weight * (texel[:, 3].astype(np.float32) / 255 if texel.shape[1] == 4 else 1.0)
    return out


def surface_rgba_linear(
    mesh: Mesh, face_ids: np.ndarray, barycentrics: np.ndarray, light: np.ndarray | None = None
) -> np.ndarray:
    """Linear RGBA [M, 4] of surface points; arguments as ``surface_color``. Alpha follows the glTF alpha modes."""
    face_ids, barycentrics = np.asarray(face_ids), np.asarray(barycentrics)
    corners = mesh.faces[face_ids]  # [M, 3]
    weights = barycentrics.astype(np.float32)[..., None]  # [M, 3, 1]
    out = np.ones((len(face_ids), 4), np.float32)
    if mesh.vertex_color is not None:
        out *= (mesh.vertex_color[corners] * weights).sum(1)
    arriving = None if light is None else (np.asarray(light, np.float32)[corners] * weights).sum(1)
    uv = None if mesh.uv is None else (mesh.uv[corners] * weights).sum(1)
    material_of = mesh.face_material[face_ids]
    for index in np.unique(material_of):
        material, rows = mesh.materials[index], np.flatnonzero(material_of == index)
        out[rows] = _material_rgba(
            material, out[rows], None if uv is None else uv[rows], None if arriving is None else arriving[rows]
        )
    return out


def _material_rgba(material: Material, rgba: np.ndarray, uv: np.ndarray | None, light: np.ndarray | None) -> np.ndarray:
    """One material's linear RGBA [M, 4] from vertex colour [M, 4], uv [M, 2] and light [M, 3]."""
    rgba = rgba * material.base_color_factor.astype(np.float32)
    if material.texture is not None and uv is not None:
        rgba = rgba * sample_texture(material.texture, uv, material.wrap)
    if light is not None and not material.unlit:
        rgba[:, :3] *= light
    emissive = np.broadcast_to(material.emissive_factor.astype(np.float32), (len(rgba), 3))
    if material.emissive_texture is not None and uv is not None:
        emissive = emissive * sample_texture(material.emissive_texture, uv, material.wrap)[:, :3]
    rgba[:, :3] += emissive
    if material.alpha_mode == "OPAQUE":
        rgba[:, 3] = 1.0
    elif material.alpha_mode == "MASK":
        rgba[:, 3] = rgba[:, 3] >= material.alpha_cutoff
    return np.clip(rgba, 0.0, 1.0)


def surface_color(
    mesh: Mesh, face_ids: np.ndarray, barycentrics: np.ndarray, light: np.ndarray | None = None
) -> np.ndarray:
    """Colour of points on the surface: texture x factor x vertex colour x light (+ emission), encoded to sRGB.

    Args:
        mesh: the mesh.
        face_ids: [M] triangle indices.
        barycentrics: [M, 3] weights of the triangle's corners.
        light: [Nv, 3] linear light per vertex (``shade_vertices``), or None for the unlit surface.

    Returns:
        [M, 3] float32 sRGB in 0..1.
    """
    return linear_to_srgb(surface_rgba_linear(mesh, face_ids, barycentrics, light)[:, :3]).astype(np.float32)


def surface_alpha(mesh: Mesh, face_ids: np.ndarray, barycentrics: np.ndarray) -> np.ndarray:
    """Coverage [M] float32 in 0..1 of points on the surface: 1 opaque, 0 a masked hole, between where blended."""
    return surface_rgba_linear(mesh, face_ids, barycentrics)[:, 3]
