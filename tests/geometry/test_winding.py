"""Which bodies are turned inside out, and which are left."""

import numpy as np
from shapes import box, floor, joined, sphere

from t4d.geometry.mesh import Mesh
from t4d.geometry.winding import faced_outward


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return float(np.einsum("fk,fk->", a, np.cross(b, c)) / 6)


def test_only_the_inverted_body_is_turned() -> None:
    ball, block = sphere(), box()
    vertices, faces = joined((ball.vertices, ball.faces[:, ::-1]), (block.vertices + 5, block.faces), floor(3, z=-4))
    mesh = Mesh(vertices.astype(np.float32), faces)
    turned = faced_outward(mesh, vertices)
    count = len(ball.faces)
    assert np.array_equal(turned.faces[:count], ball.faces)
    assert np.array_equal(turned.faces[count:], faces[count:])
    assert volume(vertices, faces[:count]) < 0 < volume(vertices, turned.faces[:count])
    assert faced_outward(turned, vertices) is turned


def test_seams_do_not_hide_the_inside_and_sheets_stay() -> None:
    ball = sphere()
    split = Mesh(ball.vertices[ball.faces.reshape(-1)], np.arange(3 * len(ball.faces)).reshape(-1, 3)[:, ::-1])
    assert np.array_equal(faced_outward(split, split.vertices).faces, split.faces[:, ::-1])  # joined by position
    leaky = Mesh(ball.vertices, ball.faces[2:, ::-1])
    assert np.array_equal(faced_outward(leaky, leaky.vertices).faces, ball.faces[2:])
    low = ball.vertices[ball.faces].mean(1)[:, 2] < 0
    bowl = Mesh(ball.vertices, ball.faces[low][:, ::-1])  # half a sphere seen from inside is a sheet
    assert faced_outward(bowl, bowl.vertices) is bowl
