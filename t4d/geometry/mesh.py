"""Triangle meshes with materials, as plain numpy arrays."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Material:
    """What a surface looks like under diffuse light.

    Attributes:
        name: the file's name for it, or "".
        base_color_factor: [4] float32 linear RGBA multiplier.
        texture: uint8 [H, W, 3 or 4], sRGB colour and straight alpha, or None.
        emissive_factor: [3] float32 linear.
        emissive_texture: uint8 [H, W, 3 or 4] sRGB, or None.
        alpha_mode: "OPAQUE", "MASK" or "BLEND" (glTF meaning).
        alpha_cutoff: alpha below it is a hole when the mode is MASK.
        wrap: (u, v) wrapping of the texture: "repeat", "clamp" or "mirror".
        unlit: shown without light (KHR_materials_unlit).
    """

    name: str = ""
    base_color_factor: np.ndarray = field(default_factory=lambda: np.ones(4, np.float32))
    texture: np.ndarray | None = None
    emissive_factor: np.ndarray = field(default_factory=lambda: np.zeros(3, np.float32))
    emissive_texture: np.ndarray | None = None
    alpha_mode: str = "OPAQUE"
    alpha_cutoff: float = 0.5
    wrap: tuple[str, str] = ("repeat", "repeat")
    unlit: bool = False


@dataclass
class Mesh:
    """Triangles with per-vertex attributes.

    Attributes:
        vertices: [Nv, 3] float32 rest positions, file space.
        faces: [F, 3] int64, counter-clockwise seen from outside.
        uv: [Nv, 2] float32 or None; (0, 0) is the top-left corner of the texture (glTF), transforms already applied.
        vertex_color: [Nv, 4] float32 linear RGBA or None.
        face_material: [F] int64 into ``materials``; all 0 if left out.
        materials: at least one.
        smoothing: [Nv] int64 or None; vertices of one number share a normal (a UV seam splits a vertex, not its
            normal). None: every vertex has its own, so unshared vertices shade flat.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None = None
    vertex_color: np.ndarray | None = None
    face_material: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    materials: list[Material] = field(default_factory=list)
    smoothing: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.vertices = np.ascontiguousarray(self.vertices, np.float32)
        self.faces = np.ascontiguousarray(self.faces, np.int64)
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3 or self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ValueError(f"Mesh expects [Nv, 3] and [F, 3], found {self.vertices.shape} and {self.faces.shape}")
        if not self.materials:
            self.materials = [Material()]
        if self.face_material is None or len(self.face_material) == 0:
            self.face_material = np.zeros(len(self.faces), np.int64)

    def face_normals(self, vertices: np.ndarray | None = None) -> np.ndarray:
        """[F, 3] float64 normals whose length is twice the triangle's area; ``vertices`` [Nv, 3] default to rest."""
        v = np.asarray(self.vertices if vertices is None else vertices, np.float64)
        a, b, c = v[self.faces[:, 0]], v[self.faces[:, 1]], v[self.faces[:, 2]]
        return np.cross(b - a, c - a)

    def face_areas(self, vertices: np.ndarray | None = None) -> np.ndarray:
        """[F] float64 triangle areas; ``vertices`` [Nv, 3] default to rest."""
        return 0.5 * np.linalg.norm(self.face_normals(vertices), axis=1)

    def normals(self, vertices: np.ndarray | None = None) -> np.ndarray:
        """Area-weighted vertex normals of the mesh in any pose.

        Args:
            vertices: [Nv, 3] posed positions in any rotated frame; the rest pose by default.

        Returns:
            [Nv, 3] float32 unit normals; (0, 0, 1) where every adjacent triangle is degenerate.
        """
        count = len(self.vertices)
        groups = np.arange(count) if self.smoothing is None else self.smoothing
        corner = groups[self.faces]  # [F, 3]
        weighted = self.face_normals(vertices)
        size = int(groups.max()) + 1 if count else 0
        total = np.stack(
            [np.bincount(corner.ravel(), np.repeat(weighted[:, axis], 3), minlength=size) for axis in range(3)], axis=1
        )[groups]
        length = np.linalg.norm(total, axis=1, keepdims=True)
        degenerate = length[:, 0] < 1e-30
        out = total / np.where(length < 1e-30, 1.0, length)
        out[degenerate] = (0.0, 0.0, 1.0)
        return out.astype(np.float32)
