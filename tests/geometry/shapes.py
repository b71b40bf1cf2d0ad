"""Small closed meshes for the tests of light."""

import numpy as np
import trimesh

from t4d.geometry.mesh import Mesh


def sphere(radius: float = 1.0, level: int = 2) -> Mesh:
    """An icosphere; 42 vertices at level 1, 162 at 2."""
    ball = trimesh.creation.icosphere(subdivisions=level, radius=radius)
    return Mesh(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int64))


def box(size: tuple[float, float, float] = (1.0, 2.0, 3.0)) -> Mesh:
    """A closed box about the origin with 8 shared vertices."""
    block = trimesh.creation.box(size)
    return Mesh(np.asarray(block.vertices, np.float32), np.asarray(block.faces, np.int64))


def quad(corners: list[list[float]], base: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [4, 3] and triangles [2, 3] of a plane quadrilateral."""
    return np.array(corners, float), np.array([[0, 1, 2], [0, 2, 3]]) + base


def floor(half: float, z: float = 0.0, base: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A square [-half, half]^2 facing up."""
    return quad([[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]], base)


def joined(*parts: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One vertex and one triangle array."""
    starts = np.cumsum([0, *[len(vertices) for vertices, _ in parts]])
    faces = [triangles + start for (_, triangles), start in zip(parts, starts)]
    return np.concatenate([vertices for vertices, _ in parts]), np.concatenate(faces)
