"""Vertices that are one point of a surface, and the pieces the surface falls into."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Weld:
    """A mesh with the vertices of one position joined; W positions.

    Attributes:
        group: [Nv] int64 welded vertex of each vertex.
        first: [W] int64 one vertex of each.
        edges: [E, 2] int64 between welded vertices, each once, lower first.
        component: [W] int64 connected piece of each.
    """

    group: np.ndarray
    first: np.ndarray
    edges: np.ndarray
    component: np.ndarray


def weld_mesh(faces: np.ndarray, vertices: np.ndarray) -> Weld:
    """Joins vertices at exactly equal positions.

    Files split a vertex where texture coordinates, normals or materials change; its copies hold the same bits.

    Args:
        faces: [F, 3].
        vertices: [Nv, 3].
    """
    _, first, group = np.unique(np.asarray(vertices), axis=0, return_index=True, return_inverse=True)
    group = group.reshape(-1).astype(np.int64)
    corners = group[faces]
    pairs = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), axis=1)
    edges = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    size = len(first)
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (size, size))
    return Weld(group, first, edges, connected_components(graph, directed=False)[1].astype(np.int64))
