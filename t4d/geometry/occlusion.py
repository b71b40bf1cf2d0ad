"""Ambient occlusion by ray casting: the share of an even sky that a surface sees."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import numpy as np

from t4d.geometry.mesh import Mesh
from t4d.geometry.shading import surface_alpha
from t4d.geometry.vertex_fit import POINTS, fit_to_vertices
from t4d.geometry.visibility import REACH, RayCaster
from t4d.geometry.winding import faced_outward

Result = TypeVar("Result")

CHUNK = 400_000  # rays at once
RIDGE = 0.05  # of the fit to the vertices: rays are noisy, so it leans on their mean
# The plastic number's powers: the two-dimensional low-discrepancy sequence of least known dispersion (Roberts, 2018).
R2 = np.array([0.7548776662466927, 0.5698402909980532])


def cosine_directions(normals: np.ndarray, samples: int, offsets: np.ndarray) -> np.ndarray:
    """Directions over hemispheres, as dense as the cosine to the normal.

    Args:
        normals: [N, 3] unit.
        samples: directions each; the same low-discrepancy set for all, shifted by the offsets.
        offsets: [N, 2] in 0..1, random.

    Returns:
        [N, samples, 3] float64, unit.
    """
    uv = (offsets[:, None, :] + (np.arange(samples)[:, None] + 0.5) * R2) % 1.0
    radius, angle = np.sqrt(uv[..., 0]), 2 * np.pi * uv[..., 1]
    local = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - uv[..., 0])], axis=-1)
    return np.einsum("nij,nsj->nsi", frames(normals), local)


def frames(normals: np.ndarray) -> np.ndarray:
    """[N, 3, 3] right-handed orthonormal bases whose last column is the normal (Duff et al. 2017)."""
    x, y, z = np.asarray(normals, np.float64).T
    sign = np.where(z >= 0, 1.0, -1.0)
    a = -1.0 / (sign + z)
    b = x * y * a
    first = np.stack([1 + sign * x * x * a, sign * b, -sign * x], axis=1)
    second = np.stack([b, sign + y * y * a, -y], axis=1)
    return np.stack([first, second, np.stack([x, y, z], axis=1)], axis=2)


def open_share(
    caster: RayCaster, points: np.ndarray, normals: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Share of the sky seen from points: (1 / pi) times the integral of visibility times cosine over the hemisphere.

    Args:
        caster: the geometry in the way.
        points: [N, 3], typically on its surface (rays start a hair above it).
        normals: [N, 3] unit, towards the side asked about.
        samples: rays a point, > 0.
        rng: shifts the directions of each point.

    Returns:
        [N] float64 in 0..1: 1 in the open, 1/2 at the foot of an endless wall, 0 inside a closed box.
    """
    points, normals = np.asarray(points, np.float64), np.asarray(normals, np.float64)
    offsets = rng.random((len(points), 2))
    starts = points + REACH * caster.size * normals
    return 1.0 - blocked_share(
        caster, starts, samples, lambda part: (cosine_directions(normals[part], samples, offsets[part]), None)
    )


def blocked_share(
    caster: RayCaster,
    starts: np.ndarray,
    samples: int,
    aim: "Callable[[slice], tuple[np.ndarray, np.ndarray | None]]",
) -> np.ndarray:
    """Weighted share of the rays from each start that hit something, in bounded memory.

    Args:
        caster: the geometry in the way.
        starts: [N, 3].
        samples: rays each.
        aim: directions [n, samples, 3] and weights [n, samples] (None: 1 / samples each) of a slice of the starts.

    Returns:
        [N] float64.
    """
    out = np.empty(len(starts))
    step = max(CHUNK // samples, 1)
    for low in range(0, len(starts), step):
        part = slice(low, low + step)
        directions, weights = aim(part)
        hit = caster.blocked(np.repeat(starts[part], samples, axis=0), directions.reshape(-1, 3)).reshape(-1, samples)
        out[part] = hit.mean(1) if weights is None else (hit * weights).sum(1)
    return out


def occluder(mesh: Mesh, vertices: np.ndarray) -> RayCaster | None:
    """What stops light: every triangle that is not see-through at its centre; None where all are."""
    faces = np.arange(len(mesh.faces))
    solid = surface_alpha(mesh, faces, np.full((len(faces), 3), 1 / 3)) >= 0.5
    return RayCaster(vertices, mesh.faces[solid]) if solid.any() else None


Measure = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]


def gather(
    mesh: Mesh, vertices: np.ndarray, samples: int, seed: int, measure: Measure
) -> Generator[float, None, np.ndarray]:
    """Measures something at points within the triangles and fits it to the vertices (``fit_to_vertices``).

    Args:
        mesh: topology and smoothing (vertices that share a normal share the result).
        vertices: [Nv, 3] posed positions.
        samples: rays a vertex, shared among the points about it.
        seed: equal arguments give equal results.
        measure: (points [n, 3], unit face normals [n, 3], faces [n], barycentrics [n, 3], rays a point, rng) -> [n].

    Yields:
        The share done.

    Returns:
        [Nv] float64, not negative.
    """
    vertices = np.asarray(vertices, np.float64)
    rng = np.random.default_rng(seed)
    normals = mesh.face_normals(vertices)
    length = np.linalg.norm(normals, axis=1)
    sound = np.flatnonzero(length > 0)
    count = len(POINTS)
    rays = max(1, round(samples * len(vertices) / (count * max(len(sound), 1))))
    values, weights = np.ones((len(mesh.faces), count, 1)), np.zeros((len(mesh.faces), count))
    weights[sound] = length[sound, None]
    step = max(CHUNK // (count * rays), 1)
    for low in range(0, len(sound), step):
        faces = np.repeat(sound[low : low + step], count)
        bary = np.tile(POINTS, (len(faces) // count, 1))
        points = np.einsum("nk,nkc->nc", bary, vertices[mesh.faces[faces]])
        measured = measure(points, normals[faces] / length[faces, None], faces, bary, rays, rng)
        values[sound[low : low + step], :, 0] = measured.reshape(-1, count)
        yield min((low + step) / len(sound), 1.0)
    groups = np.arange(len(vertices)) if mesh.smoothing is None else mesh.smoothing
    fitted = fit_to_vertices(groups[mesh.faces], int(groups.max()) + 1, values, weights, RIDGE)
    return np.maximum(fitted[groups, 0], 0.0)


def drain(steps: Generator[Any, None, Result]) -> Result:
    """The result of a generator whose progress nobody watches."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def ambient_occlusion(mesh: Mesh, vertices: np.ndarray, samples: int = 64, seed: int = 0) -> np.ndarray:
    """How much of an even sky each vertex sees in one pose.

    Rays start at points within the triangles and the result is fitted to the vertices, so that the interpolated value
    is right on the triangles. Closed parts that are wound inside out are turned first (``faced_outward``).

    Args:
        mesh: topology, smoothing (vertices that share a normal share the result) and transparency.
        vertices: [Nv, 3] posed positions, any unit.
        samples: rays a vertex, shared among the points about it; the standard error is below 0.5 / sqrt(samples).
        seed: of the rays; equal arguments give equal results.

    Returns:
        [Nv] float32 in 0..1, 1 where nothing is in the way; to multiply ambient light with.
    """
    caster = occluder(mesh, vertices)
    if caster is None:
        return np.ones(len(vertices), np.float32)

    def sky(
        points: np.ndarray, normals: np.ndarray, _f: np.ndarray, _b: np.ndarray, rays: int, rng: np.random.Generator
    ) -> np.ndarray:
        return open_share(caster, points, normals, rays, rng)

    return np.minimum(drain(gather(faced_outward(mesh, vertices), vertices, samples, seed, sky)), 1.0).astype(
        np.float32
    )
