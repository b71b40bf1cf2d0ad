"""Ambient occlusion: closed forms, a slow twin, and what files do wrong."""

import numpy as np
import pytest
from shapes import box, floor, joined, quad, sphere

from t4d.geometry.mesh import Material, Mesh
from t4d.geometry.occlusion import ambient_occlusion, cosine_directions, open_share
from t4d.geometry.visibility import REACH, RayCaster

UP = np.array([[0.0, 0.0, 1.0]])


def share(parts: tuple[np.ndarray, np.ndarray], point: list[float], normal: list[float], samples: int = 4096) -> float:
    caster = RayCaster(*parts)
    unit = np.array([normal]) / np.linalg.norm(normal)
    return float(open_share(caster, np.array([point]), unit, samples, np.random.default_rng(0))[0])


@pytest.mark.parametrize(("distance", "height"), [(1e-3, 20.0), (1.0, 1.0), (2.0, 1.0), (1.0, 3.0)])
def test_floor_beside_a_wall(distance: float, height: float) -> None:
    """A long wall at distance d, h high, hides (1 - cos a) / 2 of the sky, tan a = h / d; half of it at its foot."""
    wall = quad([[distance, -60, 0], [distance, 60, 0], [distance, 60, height], [distance, -60, height]])
    expected = 1 - 0.5 * (1 - distance / np.hypot(distance, height))
    start = 1e-3 if distance < 0.1 else 0.0
    found = share(joined(wall, floor(5)), [-start, 0, 0], [0, 0, 1])
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("radius", "height"), [(1.0, 1.0), (1.0, 2.0), (2.0, 1.0)])
def test_floor_under_a_disc(radius: float, height: float) -> None:
    """A parallel disc of radius r straight above at height h hides r^2 / (r^2 + h^2)."""
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    rim = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(200, height)], axis=1)
    disc = np.concatenate([rim, [[0, 0, height]]]), np.array([[i, (i + 1) % 200, 200] for i in range(200)])
    found = share(joined(disc, floor(3)), [0.0, 0, 0], [0, 0, 1])
    assert found == pytest.approx(1 - radius**2 / (radius**2 + height**2), abs=0.01)


def test_inside_a_closed_box_there_is_no_sky_and_outside_there_is() -> None:
    body = box()
    rng = np.random.default_rng(1)
    points = rng.uniform(-0.49, 0.49, (50, 3)) * [1, 2, 3]
    normals = rng.normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    caster = RayCaster(body.vertices, body.faces)
    assert open_share(caster, points, normals, 64, rng).max() == 0
    assert share((body.vertices, body.faces), [0.5, 0.3, 0.2], [1, 0, 0]) == 1  # on a face, outwards
    assert share((body.vertices, body.faces), [0.5, 0.3, 0.2], [-1, 0, 0]) == 0  # the same, inwards


def test_convex_bodies_are_not_occluded_however_they_are_wound() -> None:
    for body in (sphere(), box()):
        assert ambient_occlusion(body, body.vertices, 64).min() > 0.999
        turned = Mesh(body.vertices, body.faces[:, ::-1])
        assert ambient_occlusion(turned, turned.vertices, 64).min() > 0.999


def test_directions_follow_the_cosine() -> None:
    rng = np.random.default_rng(2)
    normals = rng.normal(size=(40, 3))
    normals[:2] = [[0, 0, 1], [0, 0, -1]]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    found = cosine_directions(normals, 1000, rng.random((40, 2)))
    assert np.allclose(np.linalg.norm(found, axis=-1), 1)
    along = np.einsum("nsc,nc->ns", found, normals)
    assert along.min() >= 0
    # E cos = 2/3, E cos^2 = 1/2 for a density of cos / pi; the mean direction is the normal's.
    assert np.allclose(along.mean(1), 2 / 3, atol=0.005) and np.allclose((along**2).mean(1), 0.5, atol=0.005)
    assert np.allclose(found.mean(1), 2 / 3 * normals, atol=0.01)


def brute_force_share(vertices: np.ndarray, faces: np.ndarray, start: np.ndarray, directions: np.ndarray) -> float:
    """The readable twin: every ray against every triangle."""
    missed = 0
    for direction in directions:
        hit = False
        for face in faces:
            a, b, c = vertices[face]
            matrix = np.stack([a - b, a - c, direction], axis=1)
            if abs(np.linalg.det(matrix)) < 1e-14:
                continue
            beta, gamma, t = np.linalg.solve(matrix, a - start)
            if t > 0 and beta >= 0 and gamma >= 0 and beta + gamma <= 1:
                hit = True
                break
        missed += not hit
    return missed / len(directions)


def test_slow_twin_sees_the_same_sky() -> None:
    rng = np.random.default_rng(3)
    ball = sphere(level=1)
    bumpy = ball.vertices * rng.uniform(0.5, 1.3, (len(ball.vertices), 1))
    caster = RayCaster(bumpy, ball.faces)
    chosen = np.arange(0, len(ball.faces), 11)
    a, b, c = (bumpy[ball.faces[chosen, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = bumpy[ball.faces[chosen]].mean(1)
    found = open_share(caster, points, normals, 24, np.random.default_rng(4))
    directions = cosine_directions(normals, 24, np.random.default_rng(4).random((len(chosen), 2)))
    expected = [
        brute_force_share(bumpy, ball.faces, point + REACH * caster.size * normal, rays)
        for point, normal, rays in zip(points, normals, directions)
    ]
    assert np.allclose(found, expected, atol=1 / 24 + 1e-9) and np.mean(np.abs(found - expected)) < 0.005
    assert 0.05 < np.ptp(found)


def test_vertices_of_a_valley() -> None:
    """Two square plates at a right angle: the rim sees more than the crease, which sees a bit more than half."""
    n = 12
    t = np.linspace(0, 1, n)
    grid = np.array([[x, y, 0] for x in t for y in t])
    cells = np.array(
        [[i * n + j, (i + 1) * n + j, i * n + j + 1] for i in range(n - 1) for j in range(n - 1)]
        + [[(i + 1) * n + j, (i + 1) * n + j + 1, i * n + j + 1] for i in range(n - 1) for j in range(n - 1)]
    )
    wall = grid[:, [2, 1, 0]] + [0, 0, 0]
    vertices, faces = joined((grid, cells), (wall, cells[:, ::-1]))
    mesh = Mesh(vertices.astype(np.float32), faces)
    sky = ambient_occlusion(mesh, vertices, 256)
    middle = sky[: n * n].reshape(n, n)[:, n // 2]
    assert np.all(np.diff(middle) > -0.03) and middle[0] < 0.65 and middle[-1] > 0.8
    assert middle[0] > 0.44  # the fit may overshoot a little
    # the mirror image across x = z has the same light
    assert np.abs(middle - sky[n * n :].reshape(n, n)[:, n // 2]).max() < 0.05


def test_occlusion_does_not_depend_on_size_or_place_and_repeats() -> None:
    rng = np.random.default_rng(5)
    ball = sphere()
    vertices = ball.vertices * rng.uniform(0.6, 1.2, (len(ball.vertices), 1))
    here = ambient_occlusion(ball, vertices, 64, seed=3)
    assert np.array_equal(here, ambient_occlusion(ball, vertices, 64, seed=3))
    there = ambient_occlusion(ball, 1000 * vertices + [5e3, -2e3, 7e3], 64, seed=3)
    assert np.abs(here - there).max() < 0.03
    fine = ambient_occlusion(ball, vertices, 2048, seed=9)
    assert np.sqrt(np.square(here - fine).mean()) < 0.5 / np.sqrt(64)
    assert here.dtype == np.float32 and here.min() >= 0 and here.max() <= 1 and np.ptp(here) > 0.2


def test_see_through_surface_hides_nothing() -> None:
    ground, lid = floor(1), floor(2, z=0.2)
    vertices, faces = joined(ground, lid)
    materials = [Material(), Material(base_color_factor=np.array([1, 1, 1, 0.1], np.float32), alpha_mode="BLEND")]
    mesh = Mesh(vertices.astype(np.float32), faces, face_material=np.array([0, 0, 1, 1]), materials=materials)
    assert ambient_occlusion(mesh, vertices, 64)[:4].min() > 0.99
    materials[1].alpha_mode = "OPAQUE"
    assert ambient_occlusion(mesh, vertices, 64)[:4].max() < 0.5
    materials[0].alpha_mode = materials[1].alpha_mode = "MASK"
    materials[0].base_color_factor = materials[1].base_color_factor
    assert ambient_occlusion(mesh, vertices, 8).min() == 1  # nothing solid at all


def test_degenerate_triangles_and_unused_vertices_get_light() -> None:
    body = box()
    vertices = np.concatenate([body.vertices, [[9.0, 9, 9], [0.5, 1, 1.5]]])
    faces = np.concatenate([body.faces, [[0, 0, 1], [2, 3, 3]]])
    sky = ambient_occlusion(Mesh(vertices.astype(np.float32), faces), vertices, 16)
    assert np.isfinite(sky).all() and sky.min() > 0.99
