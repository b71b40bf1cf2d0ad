"""Placing objects in the world: rotation, centre, scale, and clips that stay in the picture."""

import numpy as np
import pytest
import torch

from t4d.geometry.camera import rig
from t4d.geometry.mesh import Mesh
from t4d.geometry.normalise import Normaliser, largest_scale, up_rotation
from t4d.geometry.object3d import Object3D

RANDOM = np.random.default_rng(0)
FACE = np.array([[0, 1, 2]])


def blob(count: int = 40, size: float = 50.0) -> np.ndarray:
    return (np.random.default_rng(5).normal(size=(count, 3)) * size * (1.0, 0.4, 2.0) + (300.0, -20.0, 7.0)).astype(
        np.float32
    )


def test_y_up_becomes_z_up_and_the_front_faces_minus_y() -> None:
    rotation = up_rotation("y")
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_allclose(rotation @ (0, 1, 0), (0, 0, 1))
    np.testing.assert_allclose(rotation @ (0, 0, 1), (0, -1, 0))
    np.testing.assert_allclose(rotation @ (1, 2, 3), (1, -3, 2))
    np.testing.assert_allclose(up_rotation("z"), np.eye(3))


@pytest.mark.parametrize("up", ["y", "z"])
def test_static_object_is_centred_and_has_the_radius(up: str) -> None:
    obj = Object3D("blob", Mesh(blob(), FACE), up=up)
    normaliser = Normaliser.fit_static(obj)
    world = normaliser.apply(obj.rest_vertices())
    np.testing.assert_allclose(world.min(0), -world.max(0), atol=1e-5)
    assert np.linalg.norm(world, axis=1).max() == pytest.approx(0.7, abs=1e-5)
    homogeneous = np.c_[obj.rest_vertices(), np.ones(40)] @ normaliser.matrix.T
    np.testing.assert_allclose(homogeneous[:, :3], world, atol=1e-5)
    np.testing.assert_allclose(normaliser.invert(world), obj.rest_vertices(), rtol=1e-4, atol=1e-3)


def inside(normaliser: Normaliser, frames: list[np.ndarray], margin: float = 0.0) -> bool:
    for camera in rig(width=100, height=100):
        for frame in frames:
            xy, depth = camera.project(torch.from_numpy(normaliser.apply(frame)).double())
            if not ((xy >= 100 * margin - 1e-3) & (xy <= 100 * (1 - margin) + 1e-3)).all() or not (depth > 0).all():
                return False
    return True


def test_quiet_clip_is_placed_like_the_static_object() -> None:
    frames = [blob()]
    frames += [frames[0] + RANDOM.normal(size=(40, 3)).astype(np.float32) for _ in range(5)]
    clip = Normaliser.fit_clip(frames)
    static = Normaliser.fit_static(Object3D("blob", Mesh(frames[0], FACE)))
    np.testing.assert_allclose(clip.matrix, static.matrix)
    assert not clip.notes and inside(clip, frames, 0.02)


@pytest.mark.parametrize(("distance", "held"), [(250.0, True), (3000.0, False)])
def test_walking_clip_stays_in_view(distance: float, held: bool) -> None:
    """A moderate walk keeps the radius range by moving the centre; a long one shrinks below it and says so."""
    start = blob()
    frames = [start + np.float32(distance * t) * np.array([1, 0, 0], np.float32) for t in np.linspace(0, 1, 9)]
    normaliser = Normaliser.fit_clip(frames)
    assert inside(normaliser, frames, 0.02)
    first = Normaliser.fit_static(Object3D("blob", Mesh(start, FACE)))
    assert not inside(first, frames)  # so the test asks for something
    assert (0.5 <= normaliser.radius <= 0.85) == held
    assert bool(normaliser.notes) != held


def test_largest_scale_is_exact() -> None:
    """At the largest scale a point touches a border of some picture, and none leaves."""
    points = RANDOM.normal(size=(30, 3))
    cameras = rig(width=64, height=48)
    scale = largest_scale(points, cameras)
    overshoot = []
    for camera in cameras:
        xy, depth = camera.project(torch.from_numpy(points * scale))
        assert (depth > 0).all()
        overshoot.append(torch.stack([-xy[:, 0], xy[:, 0] - 64, -xy[:, 1], xy[:, 1] - 48]).max())
    assert torch.stack(overshoot).max().item() == pytest.approx(0.0, abs=1e-6)


def test_wanted_radius_is_clipped_to_the_range() -> None:
    frames = [blob(), blob()]
    assert Normaliser.fit_clip([frames[0]], radius=0.2).radius == pytest.approx(0.5)
    assert Normaliser.fit_clip([frames[0]], radius=5.0).radius <= 0.85
