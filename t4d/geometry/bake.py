"""Baking textures and light into vertex colours, with vertices added where the picture needs them."""

from collections.abc import Generator

import numpy as np

from t4d.geometry.color import linear_to_srgb
from t4d.geometry.fine_mesh import FineMesh, as_surface, flat_mesh
from t4d.geometry.mesh import Material, Mesh
from t4d.geometry.shading import surface_rgba_linear
from t4d.geometry.subdivide import Surface
from t4d.geometry.vertex_fit import fit_to_vertices

# Degree-4 quadrature of six points (Dunavant, 1985): a textured triangle needs more than the three of light alone.
_A, _B = 0.445948490915965, 0.091576213509771
SIX_POINTS = np.array([[1 - 2 * x if k == corner else x for k in range(3)] for x in (_A, _B) for corner in range(3)])
SIX_WEIGHTS = np.repeat([0.223381589678011, 0.109951743655322], 3)
# Ways to look at a triangle's inside when asking whether its corners' colours tell it all.
PROBES = np.array(
    [[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4], [6, 5, 1], [1, 6, 5], [5, 1, 6], [10, 1, 4], [4, 10, 1], [1, 4, 10]],
    float,
)
PROBES /= PROBES.sum(1, keepdims=True)
GOOD_ENOUGH = (1 / 255) ** 2  # mean squared sRGB error of a triangle that nobody can see
INVISIBLE = 1e-5  # mean squared sRGB error over the surface (50 dB) from which more vertices are a waste
GROWTH = 0.3  # most of the present vertices added in a round, so that later rounds see what earlier ones left
RIDGE = 0.01
CHUNK = 100_000  # triangles looked at together, so that memory does not grow with the mesh


def bake_vertex_colors(fine: FineMesh, light: np.ndarray | None, budget: int) -> Generator[float, None, Mesh]:
    """Surface colour times light as vertex colours, unlit.

    Triangles whose inside differs most from what their corners' colours say are split first, until the budget is used
    or the difference is 50 dB down; then the vertex colours are fitted to the colours on the triangles.

    Args:
        fine: geometry, materials, textures.
        light: [Nv, 3] linear light at its vertices, or None for unlit colours.
        budget: most vertices; a mesh that already has more keeps its own.

    Yields:
        The share of the budget spent.

    Returns:
        A mesh without textures: ``vertex_color`` [Nv, 4] linear, white unlit materials, one per alpha mode.
    """
    mesh = fine.mesh
    arriving = np.ones((len(mesh.vertices), 3)) if light is None else light
    surface = as_surface(mesh, mesh.vertices, fine.normals, arriving)
    room = len(surface.values) < budget
    error = _errors(surface, mesh, np.arange(len(surface.faces) if room else 0))
    area = float(surface.areas().sum())
    while len(surface.values) < budget and error.sum() > INVISIBLE * area:
        finer = _split_worst(surface, error, budget)
        if finer is None:
            break
        surface, whole = finer
        fresh = np.arange(int(whole.sum()), len(surface.faces))
        error = np.concatenate([error[whole], _errors(surface, mesh, fresh)])
        yield min(len(surface.values) / budget, 1.0)
    return _fitted(surface, mesh)


def _split_worst(surface: Surface, error: np.ndarray, budget: int) -> tuple[Surface, np.ndarray] | None:
    """Splits the triangles of largest error, as many as a round allows; None where the budget is used."""
    room = budget - len(surface.values)
    wanted = min(room, max(int(GROWTH * len(surface.values)), 256))
    order = np.argsort(error)[::-1]
    while wanted >= 2:
        chosen = np.zeros(len(error), bool)
        chosen[order[: wanted // 2]] = True  # neighbours that must follow take about the other half
        finer = surface.split(chosen & (error > 0), room)
        if finer is not None:
            return finer
        wanted //= 2
    return None


def _seen(surface: Surface, mesh: Mesh, rows: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[f, P, 4] linear RGBA at barycentric points [P, 3] of some triangles."""
    flat, light = flat_mesh(surface, mesh)
    faces = np.repeat(rows, len(points))
    return surface_rgba_linear(flat, faces, np.tile(points, (len(rows), 1)), light).reshape(len(rows), -1, 4)


def _errors(surface: Surface, mesh: Mesh, rows: np.ndarray) -> np.ndarray:
    """[f] area times mean squared sRGB error of colours interpolated from the corners; 0 where nobody sees it."""
    parts = [_errors_of(surface, mesh, rows[low : low + CHUNK]) for low in range(0, len(rows), CHUNK)]
    return np.concatenate([np.zeros(0), *parts])


def _errors_of(surface: Surface, mesh: Mesh, rows: np.ndarray) -> np.ndarray:
    truth = _seen(surface, mesh, rows, PROBES)
    simple = np.einsum("pk,fkc->fpc", PROBES, _seen(surface, mesh, rows, np.eye(3)))

    def shown(rgba: np.ndarray) -> np.ndarray:  # what a hole shows does not depend on its colour
        return np.concatenate([linear_to_srgb(rgba[..., :3]) * rgba[..., 3:], rgba[..., 3:]], axis=-1)

    square = np.square(shown(truth) - shown(simple)).mean((1, 2))
    return np.where(square > GOOD_ENOUGH, square * surface.areas()[rows], 0.0)


def _fitted(surface: Surface, mesh: Mesh) -> Mesh:
    """The finished mesh: colours fitted, textures gone."""
    rows = np.arange(len(surface.faces))
    rgba = _seen(surface, mesh, rows, SIX_POINTS).astype(np.float64)
    weights = surface.areas()[:, None] * SIX_WEIGHTS
    # An error in the dark shows more: weigh with the square of sRGB's slope there, and not at all under holes.
    bright = np.clip(rgba[..., :3].mean(-1), 0.002, 1.0)
    slope = (linear_to_srgb(bright) - linear_to_srgb(0.99 * bright)) / (0.01 * bright)
    visible = weights * np.square(slope) * (rgba[..., 3] + 1e-4)
    count = len(surface.values)
    colors = fit_to_vertices(surface.faces, count, rgba[..., :3], visible, RIDGE, SIX_POINTS)
    alphas = fit_to_vertices(surface.faces, count, rgba[..., 3:], weights, RIDGE, SIX_POINTS)
    kinds = sorted({(m.alpha_mode, m.alpha_cutoff if m.alpha_mode == "MASK" else 0.5) for m in mesh.materials})
    materials = [
        Material(f"baked {mode.lower()}", alpha_mode=mode, alpha_cutoff=cutoff, unlit=True) for mode, cutoff in kinds
    ]
    kind_of = np.array(
        [kinds.index((m.alpha_mode, m.alpha_cutoff if m.alpha_mode == "MASK" else 0.5)) for m in mesh.materials]
    )
    return Mesh(
        surface.values[:, :3].astype(np.float32),
        surface.faces,
        vertex_color=np.clip(np.concatenate([colors, alphas], axis=1), 0.0, 1.0).astype(np.float32),
        face_material=kind_of[mesh.face_material[surface.origin]],
        materials=materials,
    )
