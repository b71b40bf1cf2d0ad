"""Bodies that were stored inside out."""

from dataclasses import replace

import numpy as np

from t4d.geometry.mesh import Mesh

# Squared length of a part's border over its area, from which it counts as a sheet, whose front is what the file says:
# 16 for a square, 6 for half a sphere, 1 for a sphere with a hole of half its radius.
OPEN = 1.0


def faced_outward(mesh: Mesh, vertices: np.ndarray) -> Mesh:
    """The mesh with the triangles of every closed part wound so that they face outwards.

    Parts are joined by position. A part is inside out where its signed volume is negative; a sheet (a leaf, a cloak)
    has no inside and stays.

    Args:
        mesh: topology.
        vertices: [Nv, 3] positions.

    Returns:
        The same mesh where all is well, else one with other ``faces``.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    points = np.asarray(vertices, np.float64)
    place = np.unique(points, axis=0, return_inverse=True)[1].reshape(-1)
    corners = place[mesh.faces]
    ends = np.stack([corners, np.roll(corners, -1, axis=1)], axis=2).reshape(-1, 2)
    size = int(place.max()) + 1
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(size, size))
    count, label = connected_components(graph, directed=False)
    part = label[corners[:, 0]]
    a, b, c = (points[mesh.faces[:, k]] - points.mean(0) for k in range(3))
    volume = np.bincount(part, np.einsum("fk,fk->f", a, np.cross(b, c)), minlength=count)
    _, edge, uses = np.unique(np.sort(ends, axis=1), axis=0, return_inverse=True, return_counts=True)
    sides = np.stack([b - a, c - b, a - c], axis=1)
    border = (np.linalg.norm(sides, axis=2) * (uses[edge.reshape(-1, 3)] == 1)).sum(1)
    length, area = (np.bincount(part, values, minlength=count) for values in (border, mesh.face_areas(points)))
    inside_out = ((volume < 0) & (length**2 < OPEN * area))[part]
    if not inside_out.any():
        return mesh
    return replace(mesh, faces=np.where(inside_out[:, None], mesh.faces[:, ::-1], mesh.faces))
