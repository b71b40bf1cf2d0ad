"""Light with its shadows: what a rig of lights leaves on every vertex of a still object."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from t4d.geometry.fine_mesh import FineMesh
from t4d.geometry.occlusion import R2, blocked_share, frames, gather, occluder, open_share
from t4d.geometry.shading import LightRig
from t4d.geometry.visibility import REACH, RayCaster

SOFTNESS = 12.0  # half-angle of a light seen from the object, degrees: a large studio lamp, so shadows have soft edges
SUN_SHARE = 0.25  # rays towards each light over those towards the sky


def cone_directions(axis: np.ndarray, half_angle_deg: float, samples: int, offsets: np.ndarray) -> np.ndarray:
    """Directions spread evenly over a cone: [N, samples, 3] unit, about ``axis`` [3], shifted by ``offsets`` [N, 2]."""
    uv = (offsets[:, None, :] + (np.arange(samples)[:, None] + 0.5) * R2) % 1.0
    height = 1 - uv[..., 0] * (1 - np.cos(np.radians(half_angle_deg)))
    radius, angle = np.sqrt(np.maximum(1 - height**2, 0)), 2 * np.pi * uv[..., 1]
    local = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=-1)
    return local @ frames(np.asarray(axis, np.float64)[None])[0].T


@dataclass(frozen=True)
class _Lamp:
    """Rays from points towards one lamp: axis [3], half-angle, count, normals [N, 3] and shifts [N, 2]."""

    axis: np.ndarray
    softness: float
    samples: int
    normals: np.ndarray
    offsets: np.ndarray

    def rays(self, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Directions [n, samples, 3], and Lambert's cosine over the count as their weights [n, samples]."""
        directions = cone_directions(self.axis, self.softness, self.samples, self.offsets[part])
        cosine = np.maximum(np.einsum("nsc,nc->ns", directions, self.normals[part]), 0.0)
        return directions, cosine / self.samples


def light_at(
    caster: RayCaster | None,
    points: np.ndarray,
    normals: np.ndarray,
    shading_normals: np.ndarray,
    lights: LightRig,
    samples: int,
    rng: np.random.Generator,
    softness: float = SOFTNESS,
) -> np.ndarray:
    """Light arriving at points, sky and lamps both hidden by what is in the way.

    Args:
        caster: what is in the way; None for nothing.
        points: [N, 3] on a surface, world.
        normals: [N, 3] unit normals of its triangles; rays start on that side.
        shading_normals: [N, 3] unit; Lambert's law is about these.
        lights: the lights, in the world.
        samples: rays to the sky a point; a quarter as many go to each lamp.
        rng: shifts the rays.
        softness: half-angle of the lamps, degrees.

    Returns:
        [N] float64, grey; ``LightRig.irradiance`` of the shading normals where nothing is hidden and the lamps are
        small.
    """
    total = np.full(len(points), lights.ambient)
    if caster is not None:
        total *= open_share(caster, points, normals, samples, rng)
    rays = max(4, round(SUN_SHARE * samples))
    for axis, intensity in (
        (lights.key, lights.key_intensity),
        (lights.fill, lights.fill_intensity),
        (lights.back, lights.back_intensity),
    ):
        near = np.flatnonzero(shading_normals @ np.asarray(axis) > -np.sin(np.radians(softness)))
        lamp = _Lamp(np.asarray(axis), softness, rays, shading_normals[near], rng.random((len(near), 2)))
        arriving = lamp.rays(slice(None))[1].sum(1)
        if caster is not None:
            starts = points[near] + REACH * caster.size * normals[near]
            arriving = arriving - blocked_share(caster, starts, rays, lamp.rays)
        total[near] += intensity * np.maximum(arriving, 0.0)
    return total


def light_steps(
    fine: FineMesh, lights: LightRig, samples: int = 64, seed: int = 0
) -> Generator[float, None, np.ndarray]:
    """Light on the vertices of a still object, with ambient occlusion and soft shadows of its lamps.

    Args:
        fine: the mesh in the world, split finely enough for shadows (``split_for_light``).
        lights: the lights.
        samples: rays to the sky a vertex.
        seed: equal arguments give equal light.

    Yields:
        The share done.

    Returns:
        [Nv, 3] float32 linear light, as of ``shade_vertices``.
    """
    mesh = fine.mesh
    caster = occluder(mesh, mesh.vertices)

    def measure(
        points: np.ndarray,
        normals: np.ndarray,
        faces: np.ndarray,
        bary: np.ndarray,
        rays: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        smooth = np.einsum("nk,nkc->nc", bary, fine.normals[mesh.faces[faces]].astype(np.float64))
        length = np.linalg.norm(smooth, axis=1, keepdims=True)
        smooth = np.where(length > 1e-6, smooth / np.maximum(length, 1e-6), normals)
        return light_at(caster, points, normals, smooth, lights, rays, rng)

    light = yield from gather(mesh, mesh.vertices, samples, seed, measure)
    return np.repeat(light[:, None], 3, axis=1).astype(np.float32)
