"""Vertex values whose linear interpolation comes closest to values known on the triangles."""

import numpy as np

# Three-point quadrature, exact for quadratics: so for the product of two linear functions.
POINTS = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4]]) / 6.0


def fit_to_vertices(
    faces: np.ndarray,
    count: int,
    values: np.ndarray,
    weights: np.ndarray,
    ridge: float,
    points: np.ndarray = POINTS,
) -> np.ndarray:
    """Least squares baking to vertices (Kavan, Bargteil, Sloan: "Least Squares Vertex Baking", 2011).

    Reading a value off at each vertex would lose what lies between vertices, and at vertices that stick in other parts
    read what nobody sees. Here every vertex takes the value that serves its triangles best.

    Args:
        faces: [F, 3] indices below ``count``.
        count: number of vertices.
        values: [F, P, C] finite, at the quadrature points of each triangle.
        weights: [F, P] not negative: area times importance.
        ridge: pull towards the plain weighted mean around a vertex, in shares of its own weight; 0 fits exactly and
            overshoots at edges.
        points: [P, 3] barycentric coordinates of the quadrature points.

    Returns:
        [count, C] float64; vertices without weight get the mean of all values.
    """
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import cg

    shape = values.shape
    flat, importance = values.reshape(-1, shape[2]).astype(np.float64), weights.reshape(-1).astype(np.float64)
    rows = np.repeat(np.arange(len(flat)), 3)
    basis = coo_array(
        (np.tile(points, (shape[0], 1)).reshape(-1), (rows, np.repeat(faces, shape[1], axis=0).reshape(-1))),
        shape=(len(flat), count),
    ).tocsr()
    weighted = basis.T @ diags_array(importance)
    total = weighted.sum(1)
    touched = total > 0
    overall = flat.mean(0) if importance.sum() <= 0 else importance @ flat / importance.sum()
    mean = np.where(touched[:, None], (weighted @ flat) / np.where(touched, total, 1.0)[:, None], overall)
    normal = weighted @ basis + diags_array(ridge * total + np.where(touched, 1e-9 * total, 1.0))
    right = weighted @ flat + (ridge * total + np.where(touched, 1e-9 * total, 1.0))[:, None] * mean
    scale = diags_array(1.0 / normal.diagonal())
    solved = [
        cg(normal, right[:, channel], x0=mean[:, channel], rtol=1e-6, maxiter=200, M=scale)[0]
        for channel in range(shape[2])
    ]
    return np.stack(solved, axis=1)
