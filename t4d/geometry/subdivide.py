"""Conforming refinement of triangles by longest-edge bisection (Rivara, 1984)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Surface:
    """Triangles whose vertices carry numbers that are interpolated when an edge is split.

    Attributes:
        faces: [F, 3] int64.
        values: [Nv, D] float64 per vertex; columns 0..2 are the position.
        place: [Nv] int64; vertices of one place split together, so that seams and hard edges stay closed.
        origin: [F] int64 index of the triangle each one was cut from.
    """

    faces: np.ndarray
    values: np.ndarray
    place: np.ndarray
    origin: np.ndarray

    @staticmethod
    def of(faces: np.ndarray, values: np.ndarray) -> "Surface":
        """A surface before any cut; vertices at exactly one position share a place."""
        place = np.unique(values[:, :3], axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        return Surface(faces.astype(np.int64), values.astype(np.float64), place, np.arange(len(faces)))

    def areas(self) -> np.ndarray:
        """[F] of the triangles, squared units of the position."""
        a, b, c = (self.values[self.faces[:, k], :3] for k in range(3))
        return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)

    def longest(self) -> np.ndarray:
        """[F] length of each triangle's longest edge."""
        return np.sqrt(self._edges()[1].max(1))

    def _edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Per triangle edge (corners k, k + 1): id shared by all triangles at that place [F, 3], squared length."""
        ends = np.stack([self.faces, np.roll(self.faces, -1, axis=1)], axis=2)  # [F, 3, 2]
        keys = np.sort(self.place[ends].reshape(-1, 2), axis=1)
        code = keys[:, 0] * (int(self.place.max()) + 1) + keys[:, 1]
        edge = np.unique(code, return_inverse=True)[1].reshape(self.faces.shape)
        difference = self.values[ends[..., 0], :3] - self.values[ends[..., 1], :3]
        return edge, np.square(difference).sum(-1)

    def split(self, chosen: np.ndarray, most: int | None = None) -> "tuple[Surface, np.ndarray] | None":
        """Cuts triangles across their longest edge, and the neighbours that this edge forces.

        Args:
            chosen: [F] bool.
            most: vertices that may be added.

        Returns:
            The finer surface, whose first triangles are those that stayed whole, in order, and which these were,
            [F] bool; or None where it would add more than ``most`` vertices. No vertex lies inside another triangle's
            edge, and every point keeps its interpolated values.
        """
        edge, length = self._edges()
        # Of equally long edges the one of lowest id, so that neighbours agree and the closure below ends.
        rank = np.lexsort((-edge.reshape(-1), length.reshape(-1)))
        order = np.empty(edge.size, np.int64)
        order[rank] = np.arange(edge.size)
        best = np.empty(int(edge.max()) + 1, np.int64)
        best[edge.reshape(-1)] = -1
        np.maximum.at(best, edge.reshape(-1), order)
        first = best[edge].argmax(1)
        marked = np.zeros(int(edge.max()) + 1, bool)
        marked[edge[np.arange(len(edge)), first][chosen]] = True
        while True:
            forced = marked[edge].any(1)
            main = edge[np.arange(len(edge)), first]
            if marked[main[forced]].all():
                break
            marked[main[forced]] = True
        turn = (first[:, None] + np.arange(3)) % 3
        corners, sides = np.take_along_axis(self.faces, turn, 1), np.take_along_axis(edge, turn, 1)
        cut = marked[sides]  # [F, 3] of edges 01, 12, 20
        ends = np.sort(np.stack([corners, np.roll(corners, -1, axis=1)], axis=2)[cut], axis=1)
        pairs, index = np.unique(ends, axis=0, return_inverse=True)
        if most is not None and len(pairs) > most:
            return None
        middle = np.full(cut.shape, -1, np.int64)
        middle[cut] = len(self.values) + index.reshape(-1)
        place = np.empty(len(pairs), np.int64)
        place[index.reshape(-1)] = int(self.place.max()) + 1 + sides[cut]
        whole = ~cut[:, 0]
        faces, origin = _cut(np.where(whole[:, None], self.faces, corners), middle, self.origin)
        values = np.concatenate([self.values, 0.5 * (self.values[pairs[:, 0]] + self.values[pairs[:, 1]])])
        joined = np.concatenate([self.place, place])
        return Surface(faces, values, np.unique(joined, return_inverse=True)[1].reshape(-1), origin), whole


def _cut(corners: np.ndarray, middle: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles [F', 3] and their origins, from corners whose edge 01 is the longest and edges' middles (-1: whole)."""
    (v0, v1, v2), (a, b, c) = corners.T, middle.T
    whole, left, right = a < 0, c >= 0, b >= 0
    near, far = ~whole & ~left, ~whole & ~right
    pieces = [
        (whole, (v0, v1, v2)),
        (near, (v0, a, v2)),
        (left, (v0, a, c)),
        (left, (a, v2, c)),
        (far, (a, v1, v2)),
        (right, (a, v1, b)),
        (right, (a, b, v2)),
    ]
    faces = np.concatenate([np.stack(triple, axis=1)[rows] for rows, triple in pieces])
    return faces, np.concatenate([origin[rows] for rows, _ in pieces])
