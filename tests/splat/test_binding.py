"""Gaussians bound to meshes: evenness, closed surface, motion with the triangles, colour."""

import numpy as np
import pytest
import torch
import trimesh

from t4d.errors import InputError
from t4d.geometry.camera import orbit_camera, rig
from t4d.geometry.mesh import Material, Mesh
from t4d.geometry.rotations import quat_to_matrix
from t4d.splat._frames import triangle_rotations
from t4d.splat.binding import bind_gaussians
from t4d.splat.render import render_gaussians


def _mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(shape.vertices), np.asarray(shape.faces))


@pytest.fixture(scope="module")
def torus() -> Mesh:
    return _mesh(trimesh.creation.torus(0.5, 0.18, major_sections=40, minor_sections=20))


def _rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def test_points_lie_on_their_triangles_and_spread_evenly(torus: Mesh) -> None:
    gaussians, binding = bind_gaussians(torus, torus.vertices, 700, seed=3)
    assert len(gaussians) == len(binding) == 700
    assert np.allclose(binding.barycentrics.sum(1), 1, atol=1e-6)
    assert (binding.barycentrics >= 0).all()
    on_surface = (torus.vertices[torus.faces[binding.faces]] * binding.barycentrics[..., None]).sum(1)
    assert np.abs(on_surface - gaussians.means.numpy()).max() < 1e-6
    distance = torch.cdist(gaussians.means, gaussians.means).fill_diagonal_(9).amin(1)
    spacing = np.sqrt(torus.face_areas().sum() / 700 * 2 / np.sqrt(3))  # of a perfect hexagonal grid
    # Random sampling has a mean of 0.47 and a spread of 0.25; a perfect grid 1 and 0.
    assert distance.mean() / spacing > 0.75
    assert distance.std() / spacing < 0.15
    assert distance.min() / spacing > 0.25


def test_gaussians_lie_flat(torus: Mesh) -> None:
    gaussians, binding = bind_gaussians(torus, torus.vertices, 700)
    axes = quat_to_matrix(gaussians.quats).numpy()
    normals = torus.face_normals()[binding.faces]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    assert np.median(np.abs((axes[:, :, 2] * normals).sum(1))) > 0.98
    assert (gaussians.scales[:, 2] < 0.1 * gaussians.scales[:, 1]).all()
    assert (gaussians.opacities >= 0.95).all()


def test_same_seed_same_gaussians(torus: Mesh) -> None:
    a, _ = bind_gaussians(torus, torus.vertices, 200, seed=5)
    b, _ = bind_gaussians(torus, torus.vertices, 200, seed=5)
    c, _ = bind_gaussians(torus, torus.vertices, 200, seed=6)
    assert all(torch.equal(x, b.state_dict()[k]) for k, x in a.state_dict().items())
    assert not torch.equal(a.means, c.means)


@pytest.mark.parametrize("size", [96, 160])
def test_surface_is_closed_and_outline_is_true(torus: Mesh, size: int) -> None:
    """Coverage against exact ray casting: no holes inside, outline at the right place."""
    gaussians, _ = bind_gaussians(torus, torus.vertices, 4000)
    camera = orbit_camera(20, 35, width=size, height=size + 20)
    alpha = render_gaussians(gaussians, [camera])[0, 3].numpy()
    origins, directions = camera.rays()
    shape = trimesh.Trimesh(torus.vertices, torus.faces, process=False)
    hit = shape.ray.intersects_any(
        np.broadcast_to(origins.numpy(), directions.shape).reshape(-1, 3), directions.numpy().reshape(-1, 3)
    ).reshape(alpha.shape)
    inside = hit.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inside &= np.roll(hit, step, axis)
    assert alpha[inside].min() > 0.85
    assert alpha[inside].mean() > 0.97
    iou = ((alpha > 0.5) & hit).sum() / ((alpha > 0.5) | hit).sum()
    assert iou > 0.95
    assert abs(alpha.sum() / hit.sum() - 1) < 0.04


def test_thin_plate_keeps_both_sides_and_its_width() -> None:
    """A plate far thinner than the spacing: patches of front and back do not mix, edges do not bloat."""
    plate = trimesh.creation.box((1.0, 0.004, 0.25))
    mesh = _mesh(plate.subdivide().subdivide())
    gaussians, binding = bind_gaussians(mesh, mesh.vertices, 1500)
    normals = mesh.face_normals()
    front, back = (normals[binding.faces][:, 1] < 0), (normals[binding.faces][:, 1] > 0)
    assert abs(int(front.sum()) - int(back.sum())) < 0.1 * 1500
    camera = orbit_camera(270, 0, width=180, height=120)
    alpha = render_gaussians(gaussians, [camera])[0, 3]
    rows = alpha[:, 70:110].sum(0)  # covered pixels of each column
    pixels = 120 / (2 * 3 * np.tan(np.radians(20))) * 0.25
    spacing = pixels / 0.25 * np.sqrt(mesh.face_areas().sum() / 1500)
    assert abs(rows.mean().item() - pixels) < 0.7 * spacing  # a third of the spacing on each side
    assert (rows - pixels).abs().max() < 2 * spacing


def test_rigid_motion_moves_gaussians_rigidly(torus: Mesh) -> None:
    gaussians, binding = bind_gaussians(torus, torus.vertices, 300)
    rng = np.random.default_rng(0)
    R, t = _rotation(rng), rng.normal(size=3)
    means, quats = binding.pose(torus.vertices @ R.T + t)
    assert np.abs(means.numpy() - (gaussians.means.numpy() @ R.T + t)).max() < 1e-5
    turned = R @ quat_to_matrix(gaussians.quats).double().numpy()
    assert np.abs(quat_to_matrix(quats).double().numpy() - turned).max() < 1e-5


def test_pose_of_rest_is_rest_and_frames_stack(torus: Mesh) -> None:
    gaussians, binding = bind_gaussians(torus, torus.vertices, 100)
    frames = np.stack([torus.vertices, torus.vertices * 1.1, torus.vertices + 1])
    means, quats = binding.pose(frames)
    assert means.shape == (3, 100, 3)
    assert quats.shape == (3, 100, 4)
    assert (means[0] - gaussians.means).abs().max() < 1e-6
    assert ((quats[0] * gaussians.quats).sum(-1).abs() - 1).abs().max() < 1e-6
    with pytest.raises(ValueError, match="posed vertices have shape"):
        binding.pose(torus.vertices[:10])


def test_rotation_of_a_sheared_triangle_is_that_of_its_polar_decomposition() -> None:
    rng = np.random.default_rng(2)
    rest, posed = rng.normal(size=(50, 3, 3)), rng.normal(size=(50, 3, 3))
    R = triangle_rotations(rest, posed)
    assert np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)).max() < 1e-12
    assert np.abs(np.linalg.det(R) - 1).max() < 1e-12
    for k in range(50):
        e0, n0 = (rest[k, 1:] - rest[k, 0]).T, np.cross(*(rest[k, 1:] - rest[k, 0]))
        e1, n1 = (posed[k, 1:] - posed[k, 0]).T, np.cross(*(posed[k, 1:] - posed[k, 0]))
        F = np.column_stack([e1, n1 / np.linalg.norm(n1)]) @ np.linalg.inv(
            np.column_stack([e0, n0 / np.linalg.norm(n0)])
        )
        U, _, Vt = np.linalg.svd(F)
        assert np.abs(U @ Vt - R[k]).max() < 1e-8


@pytest.mark.parametrize("case", ["line", "point", "folded"])
def test_collapsed_triangles_give_rotations(torus: Mesh, case: str) -> None:
    _, binding = bind_gaussians(torus, torus.vertices, 100)
    vertices = torus.vertices.copy()
    if case == "line":
        vertices[:, 1:] = 0
    elif case == "point":
        vertices[:] = 0.25
    else:
        vertices[:, 2] = 0
    means, quats = binding.pose(vertices)
    assert torch.isfinite(means).all()
    assert torch.isfinite(quats).all()
    assert (quats.norm(dim=-1) - 1).abs().max() < 1e-6


def test_colours_are_means_of_texture_patches_and_follow_the_light() -> None:
    """A fine checker seen by coarse Gaussians is grey in sRGB mean, not black or white dots; light scales it."""
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[(np.add.outer(np.arange(64), np.arange(64)) % 2) == 0] = 255
    vertices = np.array([[-0.5, 0, -0.5], [0.5, 0, -0.5], [0.5, 0, 0.5], [-0.5, 0, 0.5]], np.float32)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    mesh = Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), uv=uv, materials=[Material(texture=texture)])
    gaussians, binding = bind_gaussians(mesh, vertices, 150)
    assert gaussians.colors().std() < 0.25  # single samples of this texture: about 0.33
    assert torch.allclose(gaussians.colors(), binding.colors(mesh), atol=1e-6)
    dark = binding.colors(mesh, np.full((4, 3), 0.1, np.float32))
    assert (dark.mean() < 0.5 * binding.colors(mesh).mean()).item()


def test_transparent_surface_carries_nothing() -> None:
    ball = trimesh.creation.icosphere(2, 0.2)
    vertices = np.concatenate([ball.vertices, np.asarray(ball.vertices) + [1, 0, 0]])
    faces = np.concatenate([ball.faces, np.asarray(ball.faces) + len(ball.vertices)])
    holes = Material(base_color_factor=np.array([1, 1, 1, 0], np.float32), alpha_mode="MASK")
    material = (vertices[faces[:, 0], 0] > 0.5).astype(np.int64)
    mesh = Mesh(vertices, faces, face_material=material, materials=[Material(), holes])
    gaussians, _ = bind_gaussians(mesh, mesh.vertices, 200)
    assert (gaussians.means[:, 0] < 0.5).all()
    mesh.materials[0] = holes
    with pytest.raises(InputError, match="transparent"):
        bind_gaussians(mesh, mesh.vertices, 200)


def test_unusable_input_is_named(torus: Mesh) -> None:
    with pytest.raises(InputError, match="0 Gaussians were asked for"):
        bind_gaussians(torus, torus.vertices, 0)
    with pytest.raises(InputError, match="no triangle of the object has area"):
        bind_gaussians(torus, torus.vertices * 0, 100)


@pytest.mark.parametrize("count", [1, 7])
def test_very_few_gaussians(torus: Mesh, count: int) -> None:
    gaussians, _ = bind_gaussians(torus, torus.vertices, count)
    assert all(torch.isfinite(t).all() for t in gaussians.state_dict().values())
    assert torch.isfinite(render_gaussians(gaussians, rig(width=30, height=20))).all()


@pytest.mark.data
@pytest.mark.parametrize(("name", "least"), [("animated/Fox.glb", 0.90), ("static/Duck.glb", 0.95)])
def test_real_files_against_ray_casting(shared_data, name: str, least: float) -> None:
    from t4d.geometry.normalise import Normaliser
    from t4d.geometry.object3d import load_object

    path = shared_data / "data" / "real3d" / name
    if not path.exists():
        pytest.skip(f"{name} is not in the shared data")
    loaded = load_object(path)
    vertices = Normaliser.fit_static(loaded).apply(loaded.rest_vertices())
    gaussians, _ = bind_gaussians(loaded.mesh, vertices, 8000)
    shape = trimesh.Trimesh(vertices, loaded.mesh.faces, process=False)
    camera = orbit_camera(45, 15, width=128, height=128)
    alpha = render_gaussians(gaussians, [camera])[0, 3].numpy()
    origins, directions = camera.rays()
    hit = shape.ray.intersects_any(
        np.broadcast_to(origins.numpy(), directions.shape).reshape(-1, 3), directions.numpy().reshape(-1, 3)
    ).reshape(alpha.shape)
    assert ((alpha > 0.5) & hit).sum() / ((alpha > 0.5) | hit).sum() > least
