"""Cameras by law, and with the check values of the network's camera convention."""

import math

import pytest
import torch

from t4d.geometry.camera import OPENCV_OPENGL, Camera, network_camera, orbit_camera, rig, stack

CAMERAS = [
    orbit_camera(azimuth, elevation, distance, vfov, width, height)
    for azimuth, elevation, distance, vfov, width, height in (
        (0.0, 15.0, 3.0, 40.0, 128, 96),
        (37.0, -20.0, 2.0, 25.0, 31, 64),
        (270.0, 0.0, 5.0, 60.0, 256, 256),
        (123.0, 90.0, 1.5, 49.1, 40, 30),
    )
]


@pytest.mark.parametrize("camera", CAMERAS)
def test_pose_is_rigid_and_looks_at_the_origin(camera: Camera) -> None:
    rotation = camera.world_to_camera[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(rotation).item() == pytest.approx(1.0)
    torch.testing.assert_close(camera.world_to_camera @ camera.c2w_opencv, torch.eye(4, dtype=torch.float64))
    xy, depth = camera.project(torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(xy, torch.tensor([camera.width / 2, camera.height / 2], dtype=torch.float64))
    assert depth.item() == pytest.approx(camera.eye.norm().item())


@pytest.mark.parametrize("camera", CAMERAS)
def test_project_inverts_rays(camera: Camera) -> None:
    origin, directions = camera.rays()
    assert directions.shape == (camera.height, camera.width, 3)
    points = origin + directions * torch.rand(camera.height, camera.width, 1, dtype=torch.float64).add(0.5)
    xy, depth = camera.project(points)
    y, x = torch.meshgrid(torch.arange(camera.height) + 0.5, torch.arange(camera.width) + 0.5, indexing="ij")
    torch.testing.assert_close(xy, torch.stack([x, y], -1).double())
    assert (depth > 0).all()


def test_world_axes_in_the_picture() -> None:
    """From +x: +y lies to the right, z up, nearer things are +x; pixels run right and down."""
    camera = orbit_camera(0.0, 0.0, 3.0, 40.0, 64, 48)
    points = torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 0.5], [0.5, 0.0, 0.0]])
    xy, depth = camera.project(points)
    assert xy[0, 0] > 32 and xy[0, 1] == pytest.approx(24)
    assert xy[1, 1] < 24 and xy[1, 0] == pytest.approx(32)
    assert depth[2].item() == pytest.approx(2.5)


def test_vertical_field_of_view_reaches_the_border() -> None:
    half = 3.0 * math.tan(math.radians(20))
    assert half == pytest.approx(1.092, abs=1e-3)
    camera = orbit_camera(0.0, 0.0, 3.0, 40.0, 96, 64)
    xy, _ = camera.project(torch.tensor([[0.0, 0.0, half], [0.0, 0.0, -half]]))
    torch.testing.assert_close(xy[:, 1], torch.tensor([0.0, 64.0]), atol=1e-4, rtol=0)


def test_opencv_opengl_is_an_involution() -> None:
    torch.testing.assert_close(OPENCV_OPENGL @ OPENCV_OPENGL, torch.eye(4, dtype=torch.float64))
    camera = CAMERAS[1]
    torch.testing.assert_close(camera.c2w_opengl @ OPENCV_OPENGL, camera.c2w_opencv)


def test_network_camera_has_the_published_values() -> None:
    """MV-VDM camera convention: elevation 15, azimuths 0 and 90; the distance does not matter."""
    c, s = 0.96593, 0.25882
    expected = torch.tensor([0, -s, c, c, 1, 0, 0, 0, 0, c, s, s, 0, 0, 0, 1])
    for distance in (1.0, 3.0, 7.5):
        found = network_camera(orbit_camera(0.0, 15.0, distance, 33.0, 16, 24))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    turned = network_camera(orbit_camera(90.0, 15.0)).reshape(4, 4)
    torch.testing.assert_close(turned[0], torch.tensor([-1.0, 0, 0, 0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(turned[1], torch.tensor([0, -s, c, c]), atol=1e-5, rtol=0)


def test_poles_are_limits() -> None:
    near, pole = orbit_camera(40.0, 90 - 1e-6), orbit_camera(40.0, 90.0)
    torch.testing.assert_close(near.world_to_camera, pole.world_to_camera, atol=1e-6, rtol=0)


def test_resized_keeps_the_picture_area() -> None:
    camera = CAMERAS[0]
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    small, _ = camera.project(points)
    large, _ = camera.resized(3 * camera.width, 2 * camera.height).project(points)
    torch.testing.assert_close(large, small * torch.tensor([3.0, 2.0]))


def test_projection_gradient() -> None:
    points = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(CAMERAS[1].project, (points,))


def test_point_on_the_camera_plane_stays_finite() -> None:
    camera = orbit_camera(0.0, 0.0)
    points = camera.eye + torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    xy, depth = camera.project(points)
    assert torch.isfinite(xy).all() and depth[1] < 0


def test_rig_and_stack() -> None:
    cameras = rig((0, 120, 240), 10.0, 2.0, 50.0, 48, 32)
    viewmats, intrinsics = stack(cameras)
    assert viewmats.shape == (3, 4, 4) and intrinsics.shape == (3, 3, 3)
    assert viewmats.dtype == intrinsics.dtype == torch.float32
    assert cameras[1].eye[1] > 0 > cameras[2].eye[1]


@pytest.mark.parametrize("bad", [{"distance": 0.0}, {"vfov_deg": 180.0}, {"width": 0}])
def test_bad_values_are_named(bad: dict) -> None:
    with pytest.raises(ValueError, match="orbit_camera expects"):
        orbit_camera(0.0, 0.0, **bad)
