"""The user's mesh following the moving Gaussians that are bound to it."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree

from t4d.errors import InputError
from t4d.export.weld import Weld, weld_mesh
from t4d.geometry.mesh import Mesh
from t4d.geometry.rotations import quat_to_matrix
from t4d.splat.binding import MeshBinding
from t4d.splat.gaussians import Gaussians

NEIGHBOURS = 8
# Smoothness of the correction against the fit of the bound points. Measured on bound truth with noise: less tears fine
# meshes, more leaves thin coarse parts behind.
STIFFNESS = 0.03


@dataclass(frozen=True)
class Influence:
    """Which Gaussians carry which welded vertex.

    Attributes:
        index: [W, K] int64 Gaussians, nearest first.
        weight: [W, K] float64, rows sum to 1, smooth in the vertex's position.
    """

    index: np.ndarray
    weight: np.ndarray


class MeshFollower:
    """Moves a mesh with its Gaussians: the inverse of `MeshBinding.pose`.

    First every vertex follows the rigid motions of the nearest Gaussians of its own surface component,
    v' = sum_i w_i (m_i' + R_i (v - m_i)), w_i falling smoothly to zero at the first Gaussian that is left out (embedded
    deformation, Sumner et al. 2007). Then one linear solve adds the smoothest correction d that brings the mesh's bound
    points onto the Gaussians: min |B (v' + d) - m'|^2 + stiffness d^T L d, with B the barycentric binding and L the
    graph Laplacian. It uses the surface's own connections, so two legs that nearly touch do not drag each other, and a
    rigid motion, for which the first step is exact, stays exact.

    Vertices at one rest position of one component are one unknown: seams of the texture stay closed.

    Args:
        mesh: the mesh that was bound.
        vertices: [Nv, 3] world positions it was bound in.
        binding: from `bind_gaussians`.
        rest: the Gaussians at frame 0.
        neighbours: K.
        stiffness: weight of the correction's smoothness; larger follows less of the Gaussians' noise.

    Raises:
        InputError: the binding belongs to another mesh, or its Gaussians are not those of ``rest``.
    """

    def __init__(
        self,
        mesh: Mesh,
        vertices: np.ndarray,
        binding: MeshBinding,
        rest: Gaussians,
        *,
        neighbours: int = NEIGHBOURS,
        stiffness: float = STIFFNESS,
    ) -> None:
        check_binding(mesh, binding, len(rest))
        self.weld = weld_mesh(mesh.faces, vertices)
        self.points = np.asarray(vertices, np.float64)[self.weld.first]
        self.rest_means, self.rest_turns = rigid(rest)
        owner = self.weld.component[self.weld.group[binding.corners[:, 0]]]
        self.influence = influences(self.points, self.weld.component, self.rest_means, owner, neighbours)
        self._set_up_correction(binding, stiffness)

    def vertices(self, gaussians: Gaussians) -> np.ndarray:
        """[Nv, 3] float64 world positions of the mesh's vertices where its Gaussians are ``gaussians``.

        Raises:
            InputError: a centre or orientation is not finite.
        """
        means, turns = rigid(gaussians)
        if not (np.isfinite(means).all() and np.isfinite(turns).all()):
            raise InputError(
                "the Gaussians hold NaN or infinite values, expected finite ones; check the fit before export."
            )
        moved = self.blend(means, turns)
        moved += self._correction(means - self._bound @ moved)
        return moved[self.weld.group]

    def distances(self, vertices: np.ndarray, gaussians: Gaussians) -> np.ndarray:
        """[N] distance of the bound points of a posed mesh [Nv, 3] from their Gaussians, world units."""
        return np.linalg.norm(self._bound @ vertices[self.weld.first] - rigid(gaussians)[0], axis=1)

    def blend(self, means: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """[W, 3] welded vertices by the rigid motions of their Gaussians alone (the first step).

        Args:
            means: [N, 3] moved centres.
            turns: [N, 3, 3] moved orientations.
        """
        local = turns @ self.rest_turns.transpose(0, 2, 1)  # [N, 3, 3] rest -> moved
        # m' + R (v - m) = R v + (m' - R m)
        shift = means - np.einsum("nij,nj->ni", local, self.rest_means)
        weight, index = self.influence.weight, self.influence.index
        moved = np.zeros_like(self.points)
        for k in range(index.shape[1]):
            near = index[:, k]
            moved += weight[:, k, None] * (np.einsum("nij,nj->ni", local[near], self.points) + shift[near])
        return moved

    def _set_up_correction(self, binding: MeshBinding, stiffness: float) -> None:
        count, width = len(binding), len(self.points)
        rows = np.repeat(np.arange(count), 3)
        columns = self.weld.group[binding.corners].ravel()
        values = binding.barycentrics.astype(np.float64)
        values = values / values.sum(1, keepdims=True)
        self._bound = sp.csr_matrix((values.ravel(), (rows, columns)), (count, width))
        laplacian = graph_laplacian(self.weld, self.points)
        self._system = (self._bound.T @ self._bound + stiffness * laplacian).tocsr()
        diagonal = self._system.diagonal()
        # A vertex without edges and Gaussians has an empty row: it gets no correction, whatever stands here.
        self._precondition = sp.diags(1 / np.where(diagonal > 0, diagonal, 1.0))

    def _correction(self, residual: np.ndarray) -> np.ndarray:
        """[W, 3] by conjugate gradients: a few dozen steps, where a factorisation of a fine mesh takes gigabytes."""
        wanted = self._bound.T @ residual
        options = {"rtol": 1e-6, "atol": 0.0, "maxiter": 500, "M": self._precondition}
        return np.stack([cg(self._system, wanted[:, axis], **options)[0] for axis in range(3)], axis=1)


def check_binding(mesh: Mesh, binding: MeshBinding, count: int) -> None:
    """Raises InputError where a binding does not belong to a mesh or to ``count`` Gaussians."""
    if len(binding) != count:
        raise InputError(
            f"the binding has {len(binding)} Gaussians and the moving asset {count}; give files of the same run."
        )
    known = len(binding) > 0 and 0 <= int(binding.faces.min()) and int(binding.faces.max()) < len(mesh.faces)
    if not known or not np.array_equal(mesh.faces[binding.faces], binding.corners):
        raise InputError(
            f"the binding does not belong to this mesh of {len(mesh.faces)} triangles; give the object it was made of."
        )


def rigid(gaussians: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """Centres [N, 3] and orientations [N, 3, 3] of Gaussians, float64."""
    state = gaussians.detach().to("cpu", torch.float64)
    return state.means.numpy(), quat_to_matrix(state.quats).numpy()


def influences(
    points: np.ndarray, component: np.ndarray, centres: np.ndarray, owner: np.ndarray, count: int
) -> Influence:
    """The nearest Gaussians of each vertex's own component and their weights.

    w_i = (1 - d_i / D)^2 over their sum, where D is the distance of the nearest Gaussian left out: a Gaussian enters
    and leaves with weight 0. A component without Gaussians (too small for one, or transparent) follows the nearest of
    all.

    Args:
        points: [W, 3].
        component: [W] int64 of each point.
        centres: [N, 3].
        owner: [N] int64 component of each Gaussian.
        count: Gaussians per point, fewer where there are fewer.
    """
    index = np.zeros((len(points), count), np.int64)
    weight = np.zeros((len(points), count))
    theirs = _members(owner)
    lone = np.flatnonzero(~np.isin(component, owner))
    groups = [(rows, theirs[part]) for part, rows in _members(component).items() if part in theirs]
    for rows, own in [*groups, (lone, np.arange(len(centres)))]:
        if len(rows) == 0:
            continue
        k = min(count, len(own))
        distance, near = cKDTree(centres[own]).query(points[rows], k=[*range(1, min(count + 1, len(own)) + 1)])
        reach = distance[:, -1:] if len(own) > count else 2 * distance[:, -1:]
        share = np.square(np.clip(1 - distance[:, :k] / np.maximum(reach, 1e-30), 0, None))
        total = share.sum(1, keepdims=True)
        index[rows, :k] = own[near[:, :k]]
        # All at one distance: every weight vanishes, so they share alike.
        weight[rows, :k] = np.where(total > 1e-12, share / np.maximum(total, 1e-12), 1 / k)
    return Influence(index, weight)


def _members(labels: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of each label."""
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    return {int(name): rows for name, rows in zip(names, np.split(order, starts[1:]))}


def graph_laplacian(weld: Weld, points: np.ndarray) -> sp.csr_matrix:
    """[W, W] Laplacian of the welded edges, weights 1 / length over their mean; rows sum to 0."""
    a, b = weld.edges.T
    length = np.linalg.norm(points[a] - points[b], axis=1)
    weight = 1 / np.maximum(length, 1e-6 * max(float(length.mean()), 1e-30)) if len(length) else length
    weight = weight / max(float(weight.mean()), 1e-30) if len(weight) else weight
    size = len(points)
    adjacency = sp.coo_matrix((weight, (a, b)), (size, size)).tocsr()
    adjacency = adjacency + adjacency.T
    return (sp.diags(np.asarray(adjacency.sum(1)).ravel()) - adjacency).tocsr()
