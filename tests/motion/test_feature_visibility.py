"""Who sees which Gaussian: rays against triangles, rendered depth without them."""

import numpy as np
import pytest
import torch

from t4d.errors import InputError
from t4d.geometry.camera import orbit_camera, rig
from t4d.geometry.mesh import Mesh
from t4d.geometry.visibility import render_mesh
from t4d.motion.projection import Projector
from t4d.motion.visibility import visible_from_depth, visible_from_mesh
from t4d.splat.binding import bind_gaussians
from t4d.splat.gaussians import stack_gaussians

W, H = 72, 60


def box(half=(0.5, 0.4, 0.3), centre=(0.0, 0.0, 0.0)):
    """Vertices [8, 3] and outward faces [12, 3] of a box."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array([[a, b, c] for q in quads for a, b, c in ((q[0], q[1], q[2]), (q[0], q[2], q[3]))])
    return corners * half + centre, faces


def surface_points(vertices, faces, count=400, seed=0):
    """Points inside triangles, away from edges, and their faces' normals."""
    rng = np.random.default_rng(seed)
    face = rng.integers(len(faces), size=count)
    bary = rng.dirichlet([3.0, 3.0, 3.0], size=count)
    a, b, c = (vertices[faces[face, k]] for k in range(3))
    points = (vertices[faces[face]] * bary[..., None]).sum(1)
    return torch.from_numpy(points).float(), np.cross(b - a, c - a)


@pytest.fixture(scope="module")
def bound_box():
    vertices, faces = box()
    gaussians, _ = bind_gaussians(Mesh(vertices, faces), vertices, 1500, None, 0)
    return vertices, faces, gaussians


def test_rays_on_a_box_see_the_sides_that_face_the_eye():
    vertices, faces = box()
    points, normals = surface_points(vertices, faces)
    cameras = [orbit_camera(30, 20, width=W, height=H), orbit_camera(200, -35, width=W, height=H)]
    found = visible_from_mesh(vertices, faces, points, cameras)
    for row, camera in zip(found, cameras):
        facing = ((camera.eye.numpy() - points.numpy()) * normals).sum(1) > 0
        assert np.array_equal(row.numpy(), facing)
    assert found.shape == (2, 400)


def test_rays_are_stopped_by_what_stands_between():
    vertices, faces = box((0.1, 0.5, 0.5), (-0.5, 0, 0))
    wall, wall_faces = box((0.05, 0.5, 0.5), (0.5, 0, 0))
    points, normals = surface_points(vertices, faces)
    front = points[torch.from_numpy(normals[:, 0] > 0)]
    camera = orbit_camera(0, 0, width=W, height=H)
    assert visible_from_mesh(vertices, faces, front, [camera]).all()
    both = np.concatenate([vertices, wall]), np.concatenate([faces, wall_faces + 8])
    assert not visible_from_mesh(*both, front, [camera]).any()


def test_points_outside_the_picture_are_not_seen():
    vertices, faces = box()
    points = torch.tensor([[0.5, 0.0, 0.0], [0.5, 3.0, 0.0], [0.5, 0.0, -3.0], [6.0, 0.0, 0.0]])
    found = visible_from_mesh(vertices, faces, points, [orbit_camera(0, 0, width=W, height=H)])
    assert found.tolist() == [[True, False, False, False]]


def test_rendered_depth_agrees_with_rays(bound_box):
    vertices, faces, gaussians = bound_box
    cameras = rig(width=W, height=H)
    rays = visible_from_mesh(vertices, faces, gaussians.means, cameras)
    depth = visible_from_depth(gaussians, cameras)
    assert depth.shape == rays.shape
    # they may differ along the outline only
    assert (rays == depth).float().mean() > 0.95
    assert (rays & ~depth).float().mean() < 0.05


def test_rendered_depth_of_many_frames_is_that_of_each(bound_box):
    _, _, gaussians = bound_box
    cameras = rig(azimuths=(20, 130), width=W, height=H)
    turned = gaussians.replace(means=gaussians.means + torch.tensor([0.0, 0.3, -0.2]))
    nothing = visible_from_depth(gaussians.replace(means=gaussians.means + 10), cameras)
    both = visible_from_depth(stack_gaussians([gaussians, turned]), cameras)
    assert both.shape == (2, 2, len(gaussians))
    assert torch.equal(both[0], visible_from_depth(gaussians, cameras))
    assert torch.equal(both[1], visible_from_depth(turned, cameras))
    assert not nothing.any()


def test_rendered_depth_does_not_depend_on_the_object_scale(bound_box):
    _, _, gaussians = bound_box
    near = visible_from_depth(gaussians, rig(width=W, height=H, distance=3))
    tenth = gaussians.replace(means=gaussians.means / 10, log_scales=gaussians.log_scales - np.log(10))
    far = visible_from_depth(tenth, rig(width=W, height=H, distance=0.3))
    assert (near == far).float().mean() > 0.998


def test_reprojection_of_an_object_at_rest_is_its_projection(bound_box):
    _, _, gaussians = bound_box
    cameras = rig(azimuths=(20, 130), width=W, height=H)
    maps = torch.randn(2, 3, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    projector = Projector(maps, cameras, 4)
    table = projector.table(gaussians.means, visible_from_depth(gaussians, cameras))
    again = projector.reproject(stack_gaussians([gaussians] * 3))
    assert torch.equal(again.visible, table.visible) and 0.5 < table.visible.float().mean() < 1
    torch.testing.assert_close(again.values, table.values, atol=2e-3, rtol=2e-3)
    moved = gaussians.replace(means=gaussians.means + torch.tensor([0.0, 0.0, 0.3]))
    later = projector.reproject(stack_gaussians([gaussians, gaussians, moved]))
    torch.testing.assert_close(later.values[:, :2], table.values[:, :2], atol=2e-3, rtol=2e-3)
    assert (later.values[:, 2] - table.values[:, 2]).abs().mean() > 0.1


def test_painted_surface_comes_back_at_every_visible_gaussian_of_a_turning_box(bound_box):
    """Ray-cast maps hold, at each pixel, the rest place of the surface seen there; Gaussians must read their own."""
    vertices, faces, gaussians = bound_box
    side = 2 * W
    cameras, frames = rig(azimuths=(20, 110), width=side, height=side), 3
    rest = torch.from_numpy(vertices).float()[faces]  # [F, 3, 3]
    maps, means, visible = torch.zeros(2, frames, 3, side, side), [], []
    for frame in range(frames):
        a = 0.5 * frame
        turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
        posed = vertices @ turn.T + [0, 0.1 * frame, 0]
        for view, camera in enumerate(cameras):
            _, face, weights = render_mesh(Mesh(vertices, faces), posed, camera)
            place = (rest[face.clamp(min=0)] * weights[..., None]).sum(-2)
            maps[view, frame] = torch.where(face[..., None] >= 0, place, 0.0).permute(2, 0, 1)
        means.append(gaussians.means @ torch.from_numpy(turn).float().T + torch.tensor([0, 0.1 * frame, 0]))
        visible.append(visible_from_mesh(posed, faces, means[-1], cameras))
    table = Projector(maps, cameras, 3).table(torch.stack(means), torch.stack(visible, 1))
    rows, codes = table.values[table.visible], gaussians.means[:, None].expand(-1, frames, 3)[table.visible]
    design = torch.cat([codes, torch.ones(len(codes), 1)], 1)
    # whitening is affine; the outline, where a map's cell mixes object and background, must not decide which
    solution = torch.linalg.lstsq(design, rows).solution
    for limit in (0.5, 0.2, 0.1, 0.05):
        kept = (design @ solution - rows).norm(dim=1) < limit
        solution = torch.linalg.lstsq(design[kept], rows[kept]).solution
    error = (design @ solution - rows).norm(dim=1) / 3**0.5
    assert float(error.median()) < 0.01 and float((error < 0.05).float().mean()) > 0.85
    assert float(torch.linalg.det(solution[:3]).abs()) > 1


def test_cameras_of_two_sizes_are_refused(bound_box):
    cameras = [orbit_camera(0, 0, width=W, height=H), orbit_camera(90, 0, width=H, height=W)]
    with pytest.raises(InputError, match="one size"):
        visible_from_depth(bound_box[2], cameras)
