"""Colour by hand-computed values: textures, factors, vertex colours, light and alpha."""

import numpy as np
import pytest

from t4d.geometry.color import SRGB8_TO_LINEAR, linear_to_srgb, srgb_to_linear
from t4d.geometry.mesh import Material, Mesh
from t4d.geometry.shading import LightRig, sample_texture, shade_vertices, surface_alpha, surface_color

TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
FACE = np.array([[0, 1, 2]])
CORNERS = np.eye(3)
ZERO = np.zeros(3, np.int64)


def test_srgb_round_trip_and_known_value() -> None:
    values = np.linspace(0, 1, 100)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-7)
    assert srgb_to_linear(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)
    np.testing.assert_allclose(SRGB8_TO_LINEAR, srgb_to_linear(np.arange(256) / 255), atol=1e-7)


def test_texture_centres_wrapping_and_orientation() -> None:
    texture = np.zeros((2, 3, 3), np.uint8)  # H != W
    texture[0, 0] = (255, 0, 0)
    texture[1, 2] = (0, 255, 0)
    centre = np.array([[0.5 / 3, 0.25], [2.5 / 3, 0.75], [3.5 / 3, 1.25], [-0.5 / 3, -0.25]])
    red, green = (1, 0, 0, 1), (0, 1, 0, 1)
    np.testing.assert_allclose(
        sample_texture(texture, centre, ("repeat", "repeat")), [red, green, red, green], atol=1e-6
    )
    np.testing.assert_allclose(sample_texture(texture, centre[2:3], ("clamp", "clamp")), [green], atol=1e-6)
    np.testing.assert_allclose(sample_texture(texture, centre[2:3], ("mirror", "mirror")), [green], atol=1e-6)


def test_texture_is_interpolated_in_linear_light() -> None:
    texture = np.zeros((1, 2, 3), np.uint8)
    texture[0, 1] = 255
    middle = sample_texture(texture, np.array([[0.5, 0.5]]), ("clamp", "clamp"))
    np.testing.assert_allclose(middle[0, :3], 0.5, atol=1e-6)


def test_color_is_texture_times_factor_times_vertex_color_times_light_encoded_once() -> None:
    texture = np.full((1, 1, 4), 188, np.uint8)
    material = Material(base_color_factor=np.array([0.5, 1, 1, 1], np.float32), texture=texture)
    colors = np.array([[1, 1, 1, 1], [1, 0.25, 1, 1], [1, 1, 0, 1]], np.float32)
    mesh = Mesh(TRIANGLE, FACE, np.zeros((3, 2), np.float32), colors, materials=[material])
    light = np.array([[1, 1, 1], [2, 2, 2], [0.5, 0.5, 0.5]], np.float32)
    linear = SRGB8_TO_LINEAR[188] * np.array([0.5, 1, 1]) * colors[:, :3] * light
    np.testing.assert_allclose(surface_color(mesh, ZERO, CORNERS, light), linear_to_srgb(linear), atol=1e-6)
    centre = surface_color(mesh, ZERO[:1], np.full((1, 3), 1 / 3), None)
    expected = linear_to_srgb(SRGB8_TO_LINEAR[188] * np.array([0.5, 1, 1]) * colors[:, :3].mean(0))
    np.testing.assert_allclose(centre[0], expected, atol=1e-6)


def test_every_triangle_uses_its_own_material() -> None:
    red, blue = np.array([1, 0, 0, 1], np.float32), np.array([0, 0, 1, 1], np.float32)
    mesh = Mesh(
        TRIANGLE,
        np.array([[0, 1, 2], [0, 2, 1], [0, 1, 2]]),
        face_material=np.array([0, 1, 0]),
        materials=[Material(base_color_factor=red), Material(base_color_factor=blue)],
    )
    found = surface_color(mesh, np.array([2, 1, 0, 1]), np.full((4, 3), 1 / 3))
    np.testing.assert_allclose(found, [red[:3], blue[:3], red[:3], blue[:3]], atol=1e-6)


@pytest.mark.parametrize(("mode", "expected"), [("OPAQUE", 1.0), ("MASK", 0.0), ("BLEND", 0.4)])
def test_alpha_modes(mode: str, expected: float) -> None:
    material = Material(base_color_factor=np.array([1, 1, 1, 0.4], np.float32), alpha_mode=mode)
    mesh = Mesh(TRIANGLE, FACE, materials=[material])
    assert surface_alpha(mesh, ZERO[:1], CORNERS[:1])[0] == pytest.approx(expected)


def test_unlit_and_emissive() -> None:
    dark = np.zeros((3, 3), np.float32)
    unlit = Mesh(TRIANGLE, FACE, materials=[Material(unlit=True)])
    glowing = Mesh(TRIANGLE, FACE, materials=[Material(emissive_factor=np.array([0, 0.5, 0], np.float32))])
    np.testing.assert_allclose(surface_color(unlit, ZERO, CORNERS, dark), 1.0)
    np.testing.assert_allclose(surface_color(glowing, ZERO, CORNERS, dark)[0], linear_to_srgb(np.array([0, 0.5, 0])))


def test_lights_stand_still_while_the_object_turns() -> None:
    """A plate lit from the key direction is brightest; turned away it keeps at least the ambient light."""
    lights = LightRig()
    mesh = Mesh(TRIANGLE, FACE)
    key = np.asarray(lights.key)
    side = np.cross(key, (0.0, 0.0, 1.0))
    side /= np.linalg.norm(side)
    facing = np.stack([np.zeros(3), side, np.cross(key, side)])
    np.testing.assert_allclose(mesh.normals(facing)[0], key, atol=1e-6)
    lit, away = shade_vertices(mesh, facing, lights), shade_vertices(mesh, facing[[0, 2, 1]], lights)
    assert lit.shape == (3, 3) and (lit > away).all()
    assert (away >= lights.ambient - 1e-6).all()
    fill, back = np.asarray(lights.fill), np.asarray(lights.back)
    expected = lights.ambient + lights.key_intensity
    expected += lights.fill_intensity * max(key @ fill, 0) + lights.back_intensity * max(key @ back, 0)
    np.testing.assert_allclose(lit, expected, rtol=1e-5)


def test_light_is_within_range_and_no_side_is_black() -> None:
    directions = np.random.default_rng(0).normal(size=(2000, 3))
    light = LightRig().irradiance(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    assert light.min() >= 0.3 and light.max() <= 1.15


def test_normals_of_a_box_are_smooth_only_within_a_group() -> None:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    smooth = Mesh(corners, faces)
    outward = (smooth.normals() * corners).sum(1)
    assert (outward > 0).all()
    split = Mesh(corners[faces.reshape(-1)], np.arange(36).reshape(12, 3))
    axis_aligned = np.sort(np.abs(split.normals()), axis=1)
    np.testing.assert_allclose(axis_aligned, np.tile([0, 0, 1], (36, 1)), atol=1e-6)
    joined = Mesh(split.vertices, split.faces, smoothing=faces.reshape(-1))
    np.testing.assert_allclose(joined.normals(), smooth.normals()[faces.reshape(-1)], atol=1e-6)


def test_degenerate_triangles_give_finite_normals() -> None:
    mesh = Mesh(np.zeros((3, 3)), FACE)
    assert np.isfinite(mesh.normals()).all()
    np.testing.assert_allclose(np.linalg.norm(mesh.normals(), axis=1), 1.0)
