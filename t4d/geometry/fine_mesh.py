"""A mesh with vertices added, as the carrier of baked light and colour."""

from dataclasses import dataclass

import numpy as np

from t4d.geometry.mesh import Mesh
from t4d.geometry.subdivide import Surface
from t4d.geometry.winding import faced_outward

LONGEST = 0.02  # edge, in diagonals of the object, that still carries light (shadows, occlusion) smoothly
LIGHT_SHARE = 0.4  # of the vertex budget that may be spent on even splitting for the light


@dataclass(frozen=True)
class FineMesh:
    """A mesh with vertices added, and the normals that shade it as before.

    Attributes:
        mesh: every vertex belongs to one material; positions in the world.
        normals: [Nv, 3] float32 unit, interpolated between the original vertices' normals.
    """

    mesh: Mesh
    normals: np.ndarray


def as_surface(mesh: Mesh, vertices: np.ndarray, normals: np.ndarray, light: np.ndarray) -> Surface:
    """The mesh as a surface; vertices shared by materials are doubled, as a colour belongs to one of them."""
    pairs = np.stack([mesh.faces.reshape(-1), np.repeat(mesh.face_material, 3)], axis=1)
    used, index = np.unique(pairs, axis=0, return_inverse=True)
    take = used[:, 0]
    count = len(vertices)
    uv = np.zeros((count, 2)) if mesh.uv is None else mesh.uv
    color = np.ones((count, 4)) if mesh.vertex_color is None else mesh.vertex_color
    values = np.concatenate([np.asarray(vertices, np.float64), uv, color, normals, light], axis=1)[take]
    return Surface.of(index.reshape(mesh.faces.shape), values)


def _normals(surface: Surface) -> np.ndarray:
    """[Nv, 3] float64 unit."""
    normals = surface.values[:, 9:12]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-9, normals / np.maximum(length, 1e-9), (0.0, 0.0, 1.0))


def split_for_light(mesh: Mesh, vertices: np.ndarray, budget: int) -> FineMesh:
    """Splits long edges evenly, so that vertices can carry shadows.

    Args:
        mesh: topology, materials and smoothing.
        vertices: [Nv, 3] positions in one pose, world.
        budget: vertices wanted at most in the end; a mesh that already has more is only split at material borders.

    Returns:
        The finer mesh.
    """
    mesh = faced_outward(mesh, vertices)
    surface = as_surface(mesh, vertices, mesh.normals(vertices), np.zeros((len(mesh.vertices), 3)))
    diagonal = float(np.linalg.norm(np.ptp(np.asarray(vertices, np.float64), axis=0)))
    allowed = int(LIGHT_SHARE * budget)
    limit = 1.0  # shortest first halving rounds, so that a budget that runs out was spent on the longest edges
    while limit > LONGEST:
        limit = max(limit / 2, LONGEST)
        while True:
            chosen = surface.longest() > limit * diagonal
            finer = surface.split(chosen, allowed - len(surface.values)) if chosen.any() else None
            if finer is None:
                break
            surface = finer[0]
    flat, normals = flat_mesh(surface, mesh)[0], _normals(surface)
    # Shading normals decide who shares light: one side of a hard edge must not take the other's.
    keys = np.concatenate([surface.place[:, None], np.round(normals * 100)], axis=1)
    flat.smoothing = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return FineMesh(flat, normals.astype(np.float32))


def flat_mesh(surface: Surface, mesh: Mesh) -> tuple[Mesh, np.ndarray]:
    """The surface as a mesh to look colours up on, and its light."""
    values = surface.values
    flat = Mesh(
        values[:, :3],
        surface.faces,
        None if mesh.uv is None else values[:, 3:5].astype(np.float32),
        None if mesh.vertex_color is None else values[:, 5:9].astype(np.float32),
        mesh.face_material[surface.origin],
        mesh.materials,
    )
    return flat, values[:, 12:15].astype(np.float32)
