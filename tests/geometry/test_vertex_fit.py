"""Least-squares baking to vertices against a dense solver."""

import numpy as np
import pytest
from shapes import sphere

from t4d.geometry.vertex_fit import POINTS, fit_to_vertices


def dense(faces, count, values, weights, ridge):
    """The readable twin: the normal equations written out."""
    a, b, mean, total = np.zeros((count, count)), np.zeros((count, values.shape[2])), 0.0, np.zeros(count)
    mean = np.zeros((count, values.shape[2]))
    for f, face in enumerate(faces):
        for p, point in enumerate(POINTS):
            for i in range(3):
                total[face[i]] += weights[f, p] * point[i]
                mean[face[i]] += weights[f, p] * point[i] * values[f, p]
                b[face[i]] += weights[f, p] * point[i] * values[f, p]
                for j in range(3):
                    a[face[i], face[j]] += weights[f, p] * point[i] * point[j]
    mean /= total[:, None]
    return np.linalg.solve(a + np.diag(ridge * total), b + ridge * total[:, None] * mean)


@pytest.mark.parametrize("ridge", [0.01, 0.3])
def test_sparse_solution_is_the_dense_one(ridge: float) -> None:
    body, rng = sphere(level=1), np.random.default_rng(0)
    values, weights = rng.random((len(body.faces), 3, 2)), rng.uniform(0.1, 2, (len(body.faces), 3))
    found = fit_to_vertices(body.faces, len(body.vertices), values, weights, ridge)
    assert np.allclose(found, dense(body.faces, len(body.vertices), values, weights, ridge), atol=1e-5)


def test_linear_functions_come_back() -> None:
    body = sphere(level=1)
    linear = body.vertices.astype(float) @ np.array([[1.0, 0.2], [-0.5, 0.1], [2.0, 0.0]]) + 1
    values = np.einsum("pk,fkc->fpc", POINTS, linear[body.faces])
    found = fit_to_vertices(body.faces, len(linear), values, np.ones((len(body.faces), 3)), 0.0)
    assert np.allclose(found, linear, atol=1e-5)


def test_constants_stay_and_idle_vertices_take_the_mean() -> None:
    body = sphere(level=1)
    values = np.full((len(body.faces), 3, 1), 0.7)
    weights = np.ones((len(body.faces), 3))
    weights[body.faces[:, 0] == 5] = 0
    found = fit_to_vertices(body.faces, len(body.vertices) + 3, values, weights, 0.1)
    assert np.allclose(found, 0.7)
    nothing = fit_to_vertices(body.faces, len(body.vertices), values, 0 * weights, 0.1)
    assert np.allclose(nothing, 0.7)
