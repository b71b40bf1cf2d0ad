"""Ray casting against closed forms and a brute-force twin."""

import numpy as np
import torch

from t4d.geometry.camera import orbit_camera
from t4d.geometry.color import linear_to_srgb
from t4d.geometry.mesh import Material, Mesh
from t4d.geometry.shading import shade_vertices
from t4d.geometry.visibility import RayCaster, cast_visibility, render_mesh


def sphere(radius: float = 0.7, rings: int = 24, sectors: int = 48) -> Mesh:
    theta = np.linspace(0, np.pi, rings + 1)[:, None]
    phi = np.linspace(0, 2 * np.pi, sectors + 1)[None]
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta) + 0 * phi], -1).reshape(
        -1, 3
    )
    index = np.arange((rings + 1) * (sectors + 1)).reshape(rings + 1, sectors + 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return Mesh(points * radius, faces)


def brute_force(vertices: np.ndarray, faces: np.ndarray, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """[N] first face hit, by solving every ray against every triangle."""
    out = []
    for ray in rays:
        best = (np.inf, -1)
        for index, (a, b, c) in enumerate(vertices[faces]):
            matrix = np.stack([b - a, c - a, -ray], axis=1)
            if abs(np.linalg.det(matrix)) < 1e-12:
                continue
            u, v, t = np.linalg.solve(matrix, origin - a)
            if u >= 0 and v >= 0 and u + v <= 1 and 0 < t < best[0]:
                best = (t, index)
        out.append(best[1])
    return np.array(out)


def test_ray_caster_agrees_with_its_brute_force_twin() -> None:
    random = np.random.default_rng(3)
    vertices, faces = random.normal(size=(30, 3)) * 40 + 500, random.integers(0, 30, (25, 3))
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    origin, rays = np.array([500.0, 500.0, 900.0]), random.normal(size=(200, 3)) * 20 - (0, 0, 150)
    caster = RayCaster(vertices, faces)
    found, distance = caster.closest(np.broadcast_to(origin, rays.shape), rays)
    expected = brute_force(vertices, faces, origin, rays)
    assert 20 < (expected >= 0).sum() < 200  # both hits and misses are tried
    assert (found == expected).mean() > 0.99  # float32 may decide differently on an edge
    hit = (found >= 0) & (found == expected)
    bary = caster.barycentrics(found[hit], np.broadcast_to(origin, rays.shape)[hit], rays[hit])
    surface = (vertices[faces[found[hit]]] * bary[..., None]).sum(1)
    np.testing.assert_allclose(surface, origin + rays[hit] * distance[hit, None], atol=1e-2)


def test_the_near_side_of_a_sphere_is_visible() -> None:
    """A point p of a sphere about 0 is seen from e exactly where p . e > r^2."""
    mesh, eye = sphere(), np.array([2.0, -1.0, 1.5])
    random = np.random.default_rng(0)
    face = random.integers(0, len(mesh.faces), 800)
    areas = mesh.face_areas()[face]
    points = mesh.vertices[mesh.faces[face]].mean(1)
    margin = points @ eye - 0.7**2
    clear = (np.abs(margin) > 0.1) & (areas > 1e-6)
    found = cast_visibility(mesh.vertices, mesh.faces, points, eye)
    assert clear.sum() > 400
    np.testing.assert_array_equal(found[clear], margin[clear] > 0)


def test_visibility_does_not_depend_on_scale_or_place() -> None:
    mesh, eye = sphere(rings=10, sectors=14), np.array([2.0, -1.0, 1.5])
    points = mesh.vertices[mesh.faces].mean(1)
    first = cast_visibility(mesh.vertices, mesh.faces, points, eye)
    for scale, move in ((1000.0, 0.0), (0.001, 0.0), (1.0, 30.0)):
        again = cast_visibility(mesh.vertices * scale + move, mesh.faces, points * scale + move, eye * scale + move)
        np.testing.assert_array_equal(again, first)


def test_points_off_the_surface_and_no_points() -> None:
    mesh, eye = sphere(), np.array([3.0, 0.0, 0.0])
    seen = cast_visibility(
        mesh.vertices, mesh.faces, np.array([[2.0, 0, 0], [0, 0, 0], [-2.0, 0, 0], [0, 2.0, 0]]), eye
    )
    np.testing.assert_array_equal(seen, [True, False, False, True])
    assert cast_visibility(mesh.vertices, mesh.faces, np.zeros((0, 3)), eye).shape == (0,)


def test_render_covers_the_projected_disc() -> None:
    mesh = sphere(rings=48, sectors=96)
    camera = orbit_camera(25.0, 15.0, 3.0, 40.0, 80, 64)
    rgba, face_id, bary = render_mesh(mesh, mesh.vertices, camera, None, supersample=2)
    assert rgba.shape == (4, 64, 80) and face_id.shape == (64, 80) and bary.shape == (64, 80, 3)
    radius = float(camera.K[1, 1]) * 0.7 / np.sqrt(9 - 0.49)  # outline of a centred sphere
    assert abs(rgba[3].sum() / (np.pi * radius**2) - 1) < 0.01
    torch.testing.assert_close(rgba[:3, 0, 0], torch.full((3,), 0.5))
    assert rgba[:3, 32, 40].min() > 0.9999  # white, unlit
    hit = face_id >= 0
    corners = torch.from_numpy(mesh.vertices[mesh.faces])[face_id[hit]]
    xy, _ = camera.project((corners * bary[hit][..., None]).sum(1).double())
    y, x = torch.nonzero(hit, as_tuple=True)
    centres = torch.stack([x, y], -1) + 0.5
    assert (xy - centres).abs().max() < 0.3  # the sample used lies a quarter pixel from the centre


def test_face_ids_without_supersampling_are_at_pixel_centres() -> None:
    mesh = sphere(rings=12, sectors=20)
    camera = orbit_camera(25.0, 15.0, 3.0, 40.0, 40, 32)
    _, face_id, bary = render_mesh(mesh, mesh.vertices, camera)
    hit = face_id >= 0
    corners = torch.from_numpy(mesh.vertices[mesh.faces])[face_id[hit]].double()
    xy, _ = camera.project((corners * bary[hit][..., None]).sum(1))
    y, x = torch.nonzero(hit, as_tuple=True)
    assert (xy - torch.stack([x, y], -1) - 0.5).abs().max() < 1e-3


def quad(x: float, color: tuple[float, float, float, float], mode: str) -> tuple[np.ndarray, Material]:
    corners = np.array([[x, -2, -2], [x, 2, -2], [x, 2, 2], [x, -2, 2]], np.float32)
    return corners, Material(base_color_factor=np.array(color, np.float32), alpha_mode=mode)


def test_blended_and_masked_surfaces_let_the_one_behind_through() -> None:
    camera = orbit_camera(0.0, 0.0, 3.0, 40.0, 12, 10)
    for mode, alpha, share in (("BLEND", 0.25, 0.25), ("MASK", 0.25, 0.0), ("MASK", 0.75, 1.0), ("OPAQUE", 0.25, 1.0)):
        near, glass = quad(0.5, (1.0, 0.0, 0.0, alpha), mode)
        far, wall = quad(-0.5, (0.0, 0.0, 1.0, 1.0), "OPAQUE")
        faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
        mesh = Mesh(np.concatenate([near, far]), faces, face_material=np.array([0, 0, 1, 1]), materials=[glass, wall])
        rgba, face_id, _ = render_mesh(mesh, mesh.vertices, camera)
        torch.testing.assert_close(rgba[:, 4, 6], torch.tensor([share, 0.0, 1 - share, 1.0]))
        assert (face_id[4, 6] < 2).item() == (share >= 0.5)


def test_lit_picture_equals_shading_by_hand() -> None:
    corners, material = quad(0.0, (0.5, 0.4, 0.3, 1.0), "OPAQUE")
    mesh = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), materials=[material])
    light = shade_vertices(mesh, mesh.vertices)
    rgba, _, _ = render_mesh(mesh, mesh.vertices, orbit_camera(0.0, 0.0, width=9, height=7), light)
    expected = linear_to_srgb(np.array([0.5, 0.4, 0.3]) * light[0])
    np.testing.assert_allclose(rgba[:3, 3, 4].numpy(), expected, atol=1e-5)
