"""Ray casting against a posed mesh with embreex: who sees what, and a plain ray-cast renderer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from t4d.geometry.camera import Camera
from t4d.geometry.color import linear_to_srgb
from t4d.geometry.mesh import Mesh
from t4d.geometry.shading import surface_rgba_linear

BACKGROUND = 0.5
# How far, relative to the mesh's diagonal, a ray may stop before its target and still count as reaching it. Embree
# computes in float32, whose error at a hit is about 1e-6 of the diagonal.
REACH = 2e-4
MAX_LAYERS = 8


class RayCaster:
    """Closest hits on one pose of a triangle mesh.

    Args:
        vertices: [Nv, 3] world.
        faces: [F, 3] indices.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        # Imported here: everything else in the package works without a ray caster installed.
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self.vertices = np.asarray(vertices, np.float64)
        self.faces = np.asarray(faces, np.int64)
        low, high = self.vertices.min(0), self.vertices.max(0)
        # Embree is float32: centre the mesh and bring it to unit size so that its precision is spent on the mesh.
        self.centre, self.size = 0.5 * (low + high), float(np.linalg.norm(high - low)) or 1.0
        self._scene: Any = EmbreeScene()
        local = ((self.vertices - self.centre) / self.size).astype(np.float32)
        self._mesh = TriangleMesh(self._scene, local, self.faces.astype(np.int32))

    def closest(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First hits of rays.

        Args:
            origins: [N, 3] world.
            directions: [N, 3] world, any length; distances are in multiples of it.

        Returns:
            face: [N] int64, -1 where nothing is hit; distance: [N] float64, infinite there.
        """
        if len(origins) == 0:
            return np.zeros(0, np.int64), np.zeros(0)
        local = ((np.asarray(origins, np.float64) - self.centre) / self.size).astype(np.float32)
        along = (np.asarray(directions, np.float64) / self.size).astype(np.float32)
        result = self._scene.run(
            np.ascontiguousarray(local), np.ascontiguousarray(along), query="INTERSECT", output=True
        )
        face = np.asarray(result["primID"]).astype(np.int64)
        hit = face >= 0
        distance = np.where(hit, np.asarray(result["tfar"], np.float64), np.inf)
        return np.where(hit, face, -1), distance

    def blocked(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """[N] bool, whether rays (as ``closest`` takes them) hit anything at all; faster than ``closest``."""
        if len(origins) == 0:
            return np.zeros(0, bool)
        local = ((np.asarray(origins, np.float64) - self.centre) / self.size).astype(np.float32)
        along = (np.asarray(directions, np.float64) / self.size).astype(np.float32)
        hit = self._scene.run(np.ascontiguousarray(local), np.ascontiguousarray(along), query="OCCLUDED")
        return np.asarray(hit) >= 0

    def barycentrics(self, faces: np.ndarray, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """[N, 3] float64 barycentric coordinates where rays meet the planes of triangles (Moeller-Trumbore)."""
        a, b, c = (self.vertices[self.faces[faces, k]] for k in range(3))
        ab, ac = b - a, c - a
        p = np.cross(directions, ac)
        determinant = (ab * p).sum(1)
        safe = np.where(np.abs(determinant) < 1e-30, 1e-30, determinant)
        s = origins - a
        u = (s * p).sum(1) / safe
        v = (directions * np.cross(s, ab)).sum(1) / safe
        weights = np.clip(np.stack([1 - u - v, u, v], axis=1), 0.0, 1.0)
        total = weights.sum(1, keepdims=True)
        return np.where(total > 0, weights / np.where(total > 0, total, 1.0), 1 / 3)


def cast_visibility(
    vertices: np.ndarray, faces: np.ndarray, points: np.ndarray, eye: np.ndarray, reach: float = REACH
) -> np.ndarray:
    """Whether nothing of the mesh lies between the eye and each point.

    Args:
        vertices: [Nv, 3] posed mesh, world.
        faces: [F, 3].
        points: [N, 3] world, typically on the surface.
        eye: [3] world, camera centre.
        reach: tolerance in mesh diagonals, so that a point's own triangle does not hide it.

    Returns:
        [N] bool.
    """
    caster = RayCaster(vertices, faces)
    eye = np.asarray(eye, np.float64)
    towards = np.asarray(points, np.float64) - eye
    length = np.linalg.norm(towards, axis=1)
    _, distance = caster.closest(np.broadcast_to(eye, towards.shape), towards)
    # Distances are fractions of the way to the point, so 1 is the point itself.
    return distance * length >= length - reach * caster.size


def render_mesh(
    mesh: Mesh,
    vertices: np.ndarray,
    camera: Camera,
    light: np.ndarray | None = None,
    supersample: int = 1,
    background: float = BACKGROUND,
) -> tuple[Tensor, Tensor, Tensor]:
    """Renders a mesh by ray casting: the slow, exact picture other renderers are compared with.

    Colours are averaged over the samples of a pixel as sRGB values, as Gaussians blend them. MASK holes let rays
    through, BLEND surfaces are composited front to back over at most 8 layers.

    Args:
        mesh: the mesh.
        vertices: [Nv, 3] posed positions, world.
        camera: the camera.
        light: [Nv, 3] linear light per vertex, or None for unlit colours.
        supersample: rays per pixel side.
        background: grey, sRGB 0..1.

    Returns:
        rgba: [4, H, W] float32: sRGB colour composited over the background, and coverage.
        face_id: [H, W] int64 triangle seen at the pixel's centre (nearest sample above it if ``supersample`` is even),
            -1 where none.
        barycentrics: [H, W, 3] float32 there, 0 where none.
    """
    caster = RayCaster(vertices, mesh.faces)
    fine = camera.resized(camera.width * supersample, camera.height * supersample)
    eye, rays = fine.rays()
    directions = rays.reshape(-1, 3).numpy()
    origins = np.broadcast_to(eye.numpy(), directions.shape)
    color, alpha, first, weights = _trace(mesh, caster, origins, directions, light)
    picture = np.concatenate([color + (1 - alpha[:, None]) * background, alpha[:, None]], axis=1)
    n, height, width = supersample, camera.height, camera.width
    rgba = picture.reshape(height, n, width, n, 4).mean((1, 3)).transpose(2, 0, 1)
    middle = (n - 1) // 2
    face_id = first.reshape(height, n, width, n)[:, middle, :, middle]
    barycentrics = weights.reshape(height, n, width, n, 3)[:, middle, :, middle]
    return (
        torch.from_numpy(np.ascontiguousarray(rgba, np.float32)),
        torch.from_numpy(np.ascontiguousarray(face_id)),
        torch.from_numpy(np.ascontiguousarray(barycentrics, np.float32)),
    )


def _trace(
    mesh: Mesh, caster: RayCaster, origins: np.ndarray, directions: np.ndarray, light: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Premultiplied sRGB colour [N, 3], coverage [N], first face with coverage >= .5 [N] and barycentrics [N, 3]."""
    count = len(directions)
    color, passing = np.zeros((count, 3)), np.ones(count)
    first, weights = np.full(count, -1, np.int64), np.zeros((count, 3))
    rows, start = np.arange(count), origins.copy()
    for _ in range(MAX_LAYERS):
        face, distance = caster.closest(start[rows], directions[rows])
        rows, face, distance = rows[face >= 0], face[face >= 0], distance[face >= 0]
        if len(rows) == 0:
            break
        bary = caster.barycentrics(face, start[rows], directions[rows])
        rgba = surface_rgba_linear(mesh, face, bary, light)
        share = passing[rows] * rgba[:, 3]
        color[rows] += share[:, None] * linear_to_srgb(rgba[:, :3])
        solid = (rgba[:, 3] >= 0.5) & (first[rows] < 0)
        first[rows[solid]], weights[rows[solid]] = face[solid], bary[solid]
        passing[rows] -= share
        start[rows] += directions[rows] * (distance[:, None] + REACH * caster.size)
        rows = rows[passing[rows] > 0.01]
    return color, 1 - passing, first, weights
