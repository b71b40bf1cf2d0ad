"""Textures and light in vertex colours."""

import numpy as np
import pytest
from shapes import floor, sphere

from t4d.geometry.bake import SIX_POINTS, SIX_WEIGHTS, bake_vertex_colors
from t4d.geometry.camera import orbit_camera
from t4d.geometry.fine_mesh import FineMesh, split_for_light
from t4d.geometry.mesh import Material, Mesh
from t4d.geometry.visibility import render_mesh


def baked(fine: FineMesh, light: np.ndarray | None, budget: int) -> Mesh:
    steps = bake_vertex_colors(fine, light, budget)
    shares = []
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            assert shares == sorted(shares) and all(0 < share <= 1 for share in shares)
            return end.value


def poster(texture: np.ndarray, **material) -> Mesh:
    """A square in the xy plane with a picture on it."""
    vertices, faces = floor(1.0)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    return Mesh(vertices.astype(np.float32), faces, uv, materials=[Material(texture=texture, **material)])


def rings(size: int = 64) -> np.ndarray:
    """uint8 picture of dark and light rings."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    value = 0.5 + 0.5 * np.sin(30 * np.hypot(x, y))
    return np.round(255 * np.stack([value, 1 - value, 0.3 + 0 * value], axis=-1)).astype(np.uint8)


def psnr(mesh: Mesh, other: Mesh, light: np.ndarray | None = None) -> float:
    camera = orbit_camera(270, 89, distance=3, width=96, height=80)
    truth = render_mesh(mesh, mesh.vertices, camera, light, supersample=3)[0]
    found = render_mesh(other, other.vertices, camera, np.full((len(other.vertices), 3), 9.0), supersample=3)[0]
    inside = truth[3] > 0.5
    return float(-10 * np.log10(np.square((truth - found).numpy()[:3, inside.numpy()]).mean()))


def test_more_vertices_show_more_of_a_texture() -> None:
    mesh = poster(rings())
    fine = split_for_light(mesh, mesh.vertices, 100)
    scores = []
    for budget in (60, 400, 3000):
        found = baked(fine, None, budget)
        assert 0.8 * budget < len(found.vertices) <= budget
        assert all(material.unlit and material.texture is None for material in found.materials) and found.uv is None
        scores.append(psnr(mesh, found))
    assert scores[0] < scores[1] - 3 and scores[1] < scores[2] - 6 and scores[2] > 35


def test_looking_at_few_triangles_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = poster(rings())
    fine = split_for_light(mesh, mesh.vertices, 100)
    whole = baked(fine, None, 300)
    monkeypatch.setattr("t4d.geometry.bake.CHUNK", 7)
    parts = baked(fine, None, 300)
    assert np.array_equal(whole.vertices, parts.vertices) and np.array_equal(whole.faces, parts.faces)
    assert whole.vertex_color is not None and parts.vertex_color is not None
    assert np.array_equal(whole.vertex_color, parts.vertex_color)


def test_vertices_go_where_the_picture_changes() -> None:
    picture = np.full((64, 64, 3), 200, np.uint8)
    picture[:, :32] = rings()[:, :32]
    mesh = poster(picture)
    found = baked(split_for_light(mesh, mesh.vertices, 100), None, 2000)
    assert (found.vertices[:, 0] < 0.1).mean() > 0.8


def test_plain_surface_needs_no_vertex_and_keeps_its_colour() -> None:
    mesh = poster(np.full((8, 8, 3), (255, 128, 0), np.uint8))
    fine = split_for_light(mesh, mesh.vertices, 100)
    found = baked(fine, None, 5000)
    assert len(found.vertices) == len(fine.mesh.vertices)
    assert found.vertex_color is not None
    assert np.allclose(found.vertex_color[:, [0, 3]], 1, atol=1e-3) and np.allclose(found.vertex_color[:, 2], 0)
    assert np.allclose(found.vertex_color[:, 1], ((128 / 255 + 0.055) / 1.055) ** 2.4, atol=1e-3)


def test_light_is_multiplied_in_and_white_stays_white() -> None:
    """Saturated colours once lost all weight in the fit and came out black."""
    ball = sphere(level=2)
    ball.materials[0].base_color_factor = np.array([1.0, 0.5, 0.25, 1], np.float32)
    fine = split_for_light(ball, ball.vertices, 100)
    light = np.stack([1.2 + fine.mesh.vertices[:, 2]] * 3, axis=1)
    found = baked(fine, light, 4000)
    assert found.vertex_color is not None
    rows = np.argsort(found.vertices[:, 2])
    assert np.allclose(found.vertex_color[rows[-5:], 0], 1.0, atol=1e-3)
    height = found.vertices[:, 2]
    calm = height < -0.35  # where no channel saturates
    expected = (1.2 + height[calm, None]) * [1.0, 0.5, 0.25]
    assert np.abs(found.vertex_color[calm, :3] - expected).max() < 0.01
    assert psnr(fine.mesh, found, light) > 45


def test_holes_and_glass_keep_their_alpha() -> None:
    picture = np.concatenate([rings(32), np.full((32, 32, 1), 255, np.uint8)], axis=2)
    picture[:16, :, 3] = 0
    mesh = poster(picture, alpha_mode="MASK", alpha_cutoff=0.4)
    glass = poster(rings(32), alpha_mode="BLEND", base_color_factor=np.array([1, 1, 1, 0.25], np.float32))
    both = Mesh(
        np.concatenate([mesh.vertices, glass.vertices + [0, 0, 1]]).astype(np.float32),
        np.concatenate([mesh.faces, glass.faces + 4]),
        np.concatenate([mesh.uv, glass.uv]),  # pyright: ignore[reportCallIssue, reportArgumentType]
        face_material=np.array([0, 0, 1, 1]),
        materials=[*mesh.materials, *glass.materials],
    )
    found = baked(split_for_light(both, both.vertices, 100), None, 3000)
    assert [(m.alpha_mode, m.alpha_cutoff) for m in found.materials] == [("BLEND", 0.5), ("MASK", 0.4)]
    assert found.vertex_color is not None
    alpha, y, z = found.vertex_color[:, 3], found.vertices[:, 1], found.vertices[:, 2]
    assert np.allclose(alpha[z > 0.5], 0.25, atol=1e-3)
    lower = (z < 0.5) & (np.abs(y) < 0.9)  # at its rim the picture repeats
    assert np.allclose(alpha[lower & (y < -0.15)], 1, atol=0.05)
    assert np.allclose(alpha[lower & (y > 0.15)], 0, atol=0.05)


def test_materials_that_share_vertices_keep_apart() -> None:
    vertices, faces = floor(1.0)
    materials = [Material(base_color_factor=np.array([*rgb, 1], np.float32)) for rgb in ((1, 0, 0), (0, 0, 1))]
    mesh = Mesh(vertices.astype(np.float32), faces, face_material=np.array([0, 1]), materials=materials)
    found = baked(split_for_light(mesh, vertices, 100), None, 500)
    assert found.vertex_color is not None
    colors = found.vertex_color[found.faces][..., :3].mean(1)
    assert np.allclose(np.sort(colors, axis=1)[:, 2], 1, atol=1e-3) and np.allclose(colors[:, 1], 0)
    assert np.allclose(colors.max(0), [1, 0, 1], atol=1e-3) and np.allclose(colors.sum(1), 1, atol=1e-3)


def test_a_mesh_beyond_the_budget_keeps_its_vertices() -> None:
    ball = sphere(level=3)
    found = baked(split_for_light(ball, ball.vertices, 100), None, 100)
    assert len(found.vertices) == len(ball.vertices) and len(found.faces) == len(ball.faces)


@pytest.mark.parametrize("power", range(5))
def test_six_points_integrate_quartics(power: int) -> None:
    """The integral of x^a (1-x-y)^(4-a) over the unit triangle is a! (4-a)! / 6!; the weights sum to one."""
    from math import factorial

    found = float((SIX_WEIGHTS * SIX_POINTS[:, 0] ** power * SIX_POINTS[:, 2] ** (4 - power)).sum()) / 2
    assert found == pytest.approx(factorial(power) * factorial(4 - power) / factorial(6), rel=1e-9)
    assert SIX_WEIGHTS.sum() == pytest.approx(1)
