"""Exact tracks: hand-computed motion, a slow ray-casting twin, and the renderer as witness."""

import math

import numpy as np
import pytest
import torch
from tracker_scenes import MeshScene, soup

from t4d.data.framing import place
from t4d.data.procedural import generate
from t4d.data.render import render_clip
from t4d.errors import InputError
from t4d.geometry.camera import orbit_camera
from t4d.tracking.exact import ExactTracker, bind_points, follow_points
from t4d.tracking.queries import grid_queries

TAN20 = math.tan(math.radians(20))


def ray_hits(origin: np.ndarray, direction: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distances [F] along one ray to triangles [F, 3, 3], inf where missed: solves o + s d = a + u (b-a) + v (c-a)."""
    out = np.full(len(corners), np.inf)
    for f, (a, b, c) in enumerate(corners):
        system = np.stack([-direction, b - a, c - a], 1)
        if abs(np.linalg.det(system)) < 1e-12:
            continue
        s, u, v = np.linalg.solve(system, origin - a)
        if s > 0 and u >= 0 and v >= 0 and u + v <= 1:
            out[f] = s
    return out


def test_against_ray_casting_in_space():
    scene = soup()
    camera = scene.cameras[0]
    queries = grid_queries(camera.height, camera.width, 9).expand(3, -1, -1).contiguous()
    found = ExactTracker(scene.vertices, scene.faces, scene.cameras).track(scene.blank, queries)
    valid = hidden = 0
    for v, camera in enumerate(scene.cameras):
        eye = camera.eye.numpy()
        for n in range(queries.shape[1]):
            pixel = np.append(queries[v, n].double().numpy(), 1)
            ray = camera.world_to_camera[:3, :3].numpy().T @ np.linalg.solve(camera.K.numpy(), pixel)
            distance = ray_hits(eye, ray, scene.vertices[0][scene.faces])
            assert bool(found.query_valid[v, n]) == np.isfinite(distance.min())
            if not np.isfinite(distance.min()):
                continue
            valid += 1
            face = int(distance.argmin())
            # Every triangle of the scene moves as a whole, so its point moves with its first corner.
            point = eye + distance.min() * ray
            for t in range(len(scene.vertices)):
                moved = point + scene.vertices[t][scene.faces[face, 0]] - scene.vertices[0][scene.faces[face, 0]]
                xy, _ = camera.project(torch.from_numpy(moved))
                np.testing.assert_allclose(found.xy[v, t, n].numpy(), xy.numpy(), atol=2e-4)
                there = moved - eye
                nearest = np.delete(ray_hits(eye, there, scene.vertices[t][scene.faces]), face).min()
                inside = 0 <= xy[0] < camera.width and 0 <= xy[1] < camera.height
                if abs(nearest - 1) * np.linalg.norm(there) > 0.01:  # not within the tolerance of the depth test
                    assert bool(found.visible[v, t, n]) == (inside and nearest > 1)
                    hidden += int(inside and nearest < 1)
    assert valid > 60 and hidden > 20  # the scene does contain both


def test_hand_computed_plane_and_occluder():
    # A camera on +x at distance 3 sees y to the right and z up; at x = 0 one world unit is 32 / (6 tan 20) pixels.
    camera = orbit_camera(0, 0, width=48, height=32)
    unit = 32 / (6 * TAN20)
    plane = np.array([[0, -1.0, -0.5], [0, 1, -0.5], [0, 1, 0.5], [0, -1, 0.5]])
    shutter = np.array([[0.5, -0.1, -0.5], [0.5, 0.1, -0.5], [0.5, 0.1, 0.5], [0.5, -0.1, 0.5]])
    vertices = np.stack([np.concatenate([plane + [0, 0.1 * t, 0], shutter + [0, 0.3 * (t - 2), 0]]) for t in range(5)])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    queries = torch.tensor([[[24.0, 16.0], [47.0, 1.0], [24 + 0.2 * unit, 16.0]]])
    rgb = torch.zeros(1, 5, 3, 32, 48)
    found = ExactTracker(vertices, faces, [camera]).track(rgb, queries)
    assert found.query_valid.tolist() == [[True, False, True]]
    moved = queries[0, 0] + torch.arange(5)[:, None] * torch.tensor([0.1 * unit, 0.0])
    torch.testing.assert_close(found.xy[0, :, 0], moved, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.xy[0, :, 1], queries[0, 1].expand(5, 2))
    # Point 0 lies at y = .1 t; the ray to it crosses x = .5 at y = .1 t 2.5 / 3; the shutter spans .3 (t-2) +- .1.
    expected = [not abs(0.1 * t * 2.5 / 3 - 0.3 * (t - 2)) <= 0.1 for t in range(5)]
    assert expected.count(False) == 1
    assert found.visible[0, :, 0].tolist() == expected
    assert not found.visible[0, :, 1].any()


def test_perspective_within_a_tilted_triangle():
    # Barycentrics must be those of the surface, not of the picture: the middle of a receding edge is not where its
    # picture's middle is. Bound in frame 0, followed to a frame where the triangle is flipped away from the camera.
    camera = orbit_camera(0, 0, width=40, height=32)
    first = np.array([[1.0, -0.5, -0.3], [-1.0, 0.5, -0.3], [0, 0, 0.6]])
    second = first[[1, 0, 2]] * [1, 1, 1]
    queries, _ = camera.project(torch.tensor([[0.0, 0.0, -0.25]], dtype=torch.float64))
    face, bary = bind_points(first, np.array([[0, 1, 2]]), [camera], queries[None].numpy())
    point = np.einsum("k,kc->c", bary[0, 0], first)
    np.testing.assert_allclose(point, [0, 0, -0.25], atol=1e-9)
    xy, _ = follow_points(np.stack([first, second]), np.array([[0, 1, 2]]), face, bary, [camera])
    expected, _ = camera.project(torch.from_numpy(np.einsum("k,kc->c", bary[0, 0], second)))
    np.testing.assert_allclose(xy[0, 1, 0], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("plan", ["quadruped", "bird"])
def test_agrees_with_the_renderer(plan):
    # The renderer finds the same tracks from its z-buffer in float32. Its visibility asks the four samples around a
    # point, which miss parts thinner than a sample: the finer the buffer, the nearer it comes to exact.
    rng = np.random.default_rng(5)
    body = generate(rng, plan, detail=0.5)
    vertices = body.rig.skin(body.matrices(body.verbs["run" if plan == "quadruped" else "fly"](rng), np.arange(6) / 6))
    cameras = [orbit_camera(90 * k, 15, width=56, height=48) for k in range(4)]
    placed = place(vertices, cameras, 0.85)
    assert placed is not None
    vertices = placed[0]
    srgb = np.full((*vertices.shape[:2], 3), 0.7, np.float32)
    queries = grid_queries(48, 56, 25).expand(4, -1, -1).contiguous()
    agreement = []
    for supersample in (2, 8):
        shown = render_clip(vertices, body.rig.faces, srgb, cameras, grid=25, supersample=supersample)
        found = ExactTracker(vertices, body.rig.faces, cameras).track(torch.from_numpy(shown.rgba[:, :, :3]), queries)
        both = found.query_valid.numpy() & shown.query_valid
        assert both.sum() > 100 and (found.query_valid.numpy() != shown.query_valid).sum() <= 2
        gap = np.linalg.norm(found.xy.numpy() - shown.tracks, axis=-1).transpose(0, 2, 1)[both]
        assert np.quantile(gap, 0.98) < 2e-3  # where two surfaces meet, float32 may bind the other one
        agreement.append((found.visible.numpy() == shown.visible).transpose(0, 2, 1)[both].mean())
        assert 0.03 < 1 - found.visible.numpy().transpose(0, 2, 1)[both].mean() < 0.2
    assert agreement[0] > 0.94 and agreement[1] > 0.98 and agreement[1] > agreement[0]


def test_mask_limits_queries():
    scene = soup()
    camera = scene.cameras[0]
    queries = grid_queries(camera.height, camera.width, 9).expand(3, -1, -1).contiguous()
    mask = torch.zeros(3, 5, 1, camera.height, camera.width)
    mask[:, :, :, :, : camera.width // 2] = 1
    tracker = ExactTracker(scene.vertices, scene.faces, scene.cameras)
    found, free = tracker.track(scene.blank, queries, mask), tracker.track(scene.blank, queries)
    left = queries[..., 0] < camera.width // 2
    assert torch.equal(found.query_valid, free.query_valid & left)


def test_refusals():
    scene = soup()
    faces, cameras = scene.faces, scene.cameras
    broken = scene.vertices.copy()
    broken[1, 2, 0] = np.nan
    for vertices, triangles, seen in (
        (scene.vertices[0], faces, cameras),
        (broken, faces, cameras),
        (scene.vertices, faces + 1, cameras),
        (scene.vertices, faces, []),
        (scene.vertices, faces, [cameras[0], orbit_camera(0, 0, width=40, height=40)]),
    ):
        with pytest.raises(InputError):
            ExactTracker(vertices, triangles, seen)
    tracker = ExactTracker(scene.vertices, faces, cameras)
    other = MeshScene(scene.vertices[:4], faces, cameras).blank
    with pytest.raises(InputError, match=r"\(3, 4, 32, 40\).*\(3, 5, 32, 40\)"):
        tracker.track(other, torch.zeros(3, 1, 2))
