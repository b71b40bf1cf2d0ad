"""Longest-edge bisection keeps the surface, what is on it, and its edges closed."""

import numpy as np
import pytest
from shapes import box, sphere

from t4d.geometry.mesh import Mesh
from t4d.geometry.subdivide import Surface


def surface(mesh: Mesh, seam: bool = False) -> Surface:
    """Positions and two linear functions of them; with a seam every triangle has vertices of its own."""
    vertices, faces = mesh.vertices.astype(float), mesh.faces
    if seam:
        vertices, faces = vertices[faces.reshape(-1)], np.arange(faces.size).reshape(-1, 3)
    linear = vertices @ np.array([[1.0, -2.0], [0.5, 3.0], [2.0, 1.0]]) + [0.3, -1.0]
    return Surface.of(faces, np.concatenate([vertices, linear], axis=1))


def uses_of_edges(found: Surface) -> np.ndarray:
    corners = found.place[found.faces]
    ends = np.sort(np.stack([corners, np.roll(corners, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    return np.unique(ends, axis=0, return_counts=True)[1]


@pytest.mark.parametrize("seam", [False, True])
@pytest.mark.parametrize("make", [sphere, box])
def test_splitting_keeps_the_surface(make, seam: bool) -> None:
    start = surface(make(), seam)
    rng = np.random.default_rng(0)
    found = start
    for _ in range(6):
        before = found
        split = found.split(rng.random(len(found.faces)) < 0.15)
        assert split is not None
        found, whole = split
        count = int(whole.sum())
        assert np.array_equal(found.faces[:count], before.faces[whole])
        assert np.array_equal(found.origin[:count], before.origin[whole])
    assert len(found.faces) > 2 * len(start.faces)
    assert (uses_of_edges(found) == 2).all()  # closed before, closed after: nothing hangs in the middle of an edge
    sums = np.bincount(found.origin, found.areas(), minlength=len(start.faces))
    assert np.allclose(sums, start.areas(), rtol=1e-9)  # every triangle is covered exactly by its pieces
    linear = found.values[:, :3] @ np.array([[1.0, -2.0], [0.5, 3.0], [2.0, 1.0]]) + [0.3, -1.0]
    assert np.allclose(found.values[:, 3:], linear)
    a, b, c = (found.values[found.faces[:, k], :3] for k in range(3))
    d, e, f = (start.values[start.faces[found.origin, k], :3] for k in range(3))
    turned = np.einsum("fk,fk->f", np.cross(b - a, c - a), np.cross(e - d, f - d))
    assert turned.min() > 0  # the winding stays


def test_chosen_triangles_shrink_and_angles_stay() -> None:
    found = surface(box())
    longest = found.longest().max()
    for _ in range(40):
        chosen = found.longest() > 0.3
        if not chosen.any():
            break
        split = found.split(chosen)
        assert split is not None
        found = split[0]
    assert found.longest().max() <= 0.3 < longest
    a, b, c = (found.values[found.faces[:, k], :3] for k in range(3))
    sides = np.sort(np.stack([np.linalg.norm(x, axis=1) for x in (a - b, b - c, c - a)]), axis=0)
    start = surface(box())
    # Rivara: the least angle at worst halves; area over longest edge squared bounds it from below.
    thin = (found.areas() / sides[2] ** 2).min() / (start.areas() / start.longest() ** 2).min()
    assert thin > 0.3


def test_the_limit_is_kept() -> None:
    start = surface(sphere())
    everything = np.ones(len(start.faces), bool)
    free = start.split(everything)
    assert free is not None
    added = len(free[0].values) - len(start.values)
    assert start.split(everything, added - 1) is None
    exact = start.split(everything, added)
    assert exact is not None and len(exact[0].values) == len(free[0].values)
    nothing = start.split(np.zeros(len(start.faces), bool))
    assert nothing is not None and np.array_equal(nothing[0].faces, start.faces) and nothing[1].all()
