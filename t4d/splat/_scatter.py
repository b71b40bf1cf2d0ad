"""Even sampling of a surface by centroidal patches."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from t4d.errors import InputError

SAMPLES_PER_PATCH = 24
ROUNDS = 5  # of relaxation
PATCH_POINTS = 8  # points kept of each patch, for its colour
APART = 1.5  # how far surfaces of opposite normals are held apart, in patch widths


@dataclass(frozen=True)
class Scatter:
    """N points on a surface and the patch each stands for.

    Attributes:
        faces: [N] int64 triangles.
        barycentrics: [N, 3] float64.
        covariances: [N, 3, 3] float64, of the patch about the point, world units^2.
        patch_faces: [N, S] int64.
        patch_barycentrics: [N, S, 3] float64.
    """

    faces: np.ndarray
    barycentrics: np.ndarray
    covariances: np.ndarray
    patch_faces: np.ndarray
    patch_barycentrics: np.ndarray


def scatter_on_surface(
    faces: np.ndarray,
    vertices: np.ndarray,
    count: int,
    seed: int,
    keep: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Scatter:
    """Places ``count`` points evenly on triangles.

    Args:
        faces: [F, 3] int64.
        vertices: [Nv, 3] float64.
        count: how many.
        seed: of the random numbers.
        keep: which of the points (face ids [M], barycentrics [M, 3]) may carry Gaussians, bool [M].

    Returns:
        The points. Every one lies on a triangle that has area.

    Raises:
        InputError: no triangle has area, or nothing is kept.
    """
    rng = np.random.default_rng(seed)
    corners = vertices[faces]  # [F, 3, 3]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas = 0.5 * np.linalg.norm(normals, axis=1)
    if not areas.sum() > 0:
        raise InputError("no triangle of the object has area, expected a surface; export the mesh with its faces")
    unit = normals / np.maximum(2 * areas, 1e-30)[:, None]

    pool_face, pool_bary = _sample(areas, SAMPLES_PER_PATCH * count, rng)
    kept = keep(pool_face, pool_bary)
    if not kept.any():
        raise InputError(
            "the whole surface of the object is transparent, expected visible material; set its alpha to 1"
        )
    pool_face, pool_bary = pool_face[kept], pool_bary[kept]
    points = (corners[pool_face] * pool_bary[..., None]).sum(1)
    # Opposite sides of a thin part are near in space and far along the surface: the normal tells them apart.
    width = np.sqrt(areas.sum() * kept.mean() / count)
    space = np.concatenate([points, APART * width * 0.5 * unit[pool_face]], axis=1)  # [M, 6]

    seeds = _seeds(faces, vertices, areas, unit, space, width, count, rng, keep)
    for _ in range(ROUNDS):
        owner = np.asarray(KDTree(seeds).query(space)[1])
        size = np.bincount(owner, minlength=len(seeds)).astype(np.float64)
        total = np.stack([np.bincount(owner, column, len(seeds)) for column in space.T], axis=1)
        empty = size == 0
        seeds = np.where(empty[:, None], seeds, total / np.maximum(size, 1)[:, None])
        if empty.any():  # a seed that owns nothing starts again on a random sample
            seeds[empty] = space[rng.integers(len(space), size=int(empty.sum()))]
    nearest = np.asarray(KDTree(space).query(seeds)[1])  # back onto the surface
    owner = np.asarray(KDTree(space[nearest]).query(space)[1])
    centred = points - points[nearest][owner]
    size = np.maximum(np.bincount(owner, minlength=count), 1).astype(np.float64)
    covariances = np.empty((count, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            covariances[:, i, j] = np.bincount(owner, centred[:, i] * centred[:, j], count) / size
            covariances[:, j, i] = covariances[:, i, j]
    chosen = _choose(owner, nearest, count, rng)
    return Scatter(pool_face[nearest], pool_bary[nearest], covariances, pool_face[chosen], pool_bary[chosen])


def _sample(areas: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``count`` area-weighted points (face [M], barycentrics [M, 3]), one per equal share of the area."""
    cumulative = np.cumsum(areas)
    at = (np.arange(count) + rng.random(count)) / count * cumulative[-1]
    face = np.minimum(np.searchsorted(cumulative, at, side="right"), len(areas) - 1)
    face = np.where(areas[face] > 0, face, int(np.argmax(areas)))
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    return face, np.stack([1 - u, u * (1 - v), u * v], axis=1)


def _seeds(
    faces: np.ndarray,
    vertices: np.ndarray,
    areas: np.ndarray,
    unit: np.ndarray,
    space: np.ndarray,
    width: float,
    count: int,
    rng: np.random.Generator,
    keep: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Where the relaxation starts [count, 6]: the mesh's vertices, at most half of all, and points on its triangles."""
    order = np.argsort(areas, kind="stable")  # the largest triangle at a vertex comes last and stays
    owner = np.full(len(vertices), -1)
    slot = np.zeros(len(vertices), np.int64)
    for corner in range(3):
        owner[faces[order, corner]] = order
        slot[faces[order, corner]] = corner
    used = np.flatnonzero((owner >= 0) & (areas[owner] > 0))
    used = used[np.unique(vertices[used].round(9), axis=0, return_index=True)[1]]
    used = used[keep(owner[used], np.eye(3)[slot[used]])]
    used = rng.permutation(used)[: count // 2]
    at_vertices = np.concatenate([vertices[used], APART * width * 0.5 * unit[owner[used]]], axis=1)
    # Samples come ordered along the triangles: every k-th one, from a random start, spreads by area.
    rest = count - len(used)
    picks = np.floor((np.arange(rest) + rng.random()) * len(space) / max(rest, 1)).astype(np.int64)
    return np.concatenate([at_vertices, space[np.minimum(picks, len(space) - 1)]])


def _choose(owner: np.ndarray, centre: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """PATCH_POINTS random samples of each patch [count, S]; small patches repeat theirs, empty ones their centre."""
    shuffled = rng.permutation(len(owner))
    grouped = shuffled[np.argsort(owner[shuffled], kind="stable")]
    size = np.bincount(owner, minlength=count)
    start = np.cumsum(size) - size
    pick = start[:, None] + np.arange(PATCH_POINTS) % np.maximum(size, 1)[:, None]
    chosen = grouped[np.minimum(pick, len(grouped) - 1)]
    return np.where(size[:, None] > 0, chosen, centre[:, None])
