"""The z-buffer clip renderer against its slow twin, ray casting, and geometry's own shading and projection."""

import numpy as np
import pytest
import torch

from t4d.data.dataset import warp
from t4d.data.procedural import generate
from t4d.data.reference import render_clip_reference
from t4d.data.render import render_clip
from t4d.data.rig import skin_reference
from t4d.data.shade import clip_normals, shade_clip
from t4d.geometry.camera import orbit_camera
from t4d.geometry.mesh import Mesh
from t4d.geometry.shading import LightRig, shade_vertices

H, W, T = 28, 36, 3
CAMERAS = [orbit_camera(10.0, 15.0, width=W, height=H), orbit_camera(130.0, 40.0, width=W, height=H)]


@pytest.fixture(scope="module")
def moving():
    """A waving robot: rig, world vertices [T, Nv, 3], sRGB colours."""
    rng = np.random.default_rng(4)
    body = generate(rng, "biped", "child", detail=0.5)
    matrices = body.matrices(body.verbs["run"](rng), np.arange(T) / 7)
    vertices = body.rig.skin(matrices)
    vertices = (vertices - vertices[0].mean(0)) * 1.1
    srgb = shade_clip(vertices, body.rig.faces, body.rig.colors, LightRig())
    return body, matrices, vertices, srgb


def test_agrees_with_slow_twin(moving):
    body, _, vertices, srgb = moving
    fast = render_clip(vertices, body.rig.faces, srgb, CAMERAS, keep_samples=True, grid=11)
    slow = render_clip_reference(vertices, body.rig.faces, srgb, CAMERAS, grid=11)
    assert fast.samples is not None and slow.samples is not None
    assert fast.rgba.shape == (2, T, 4, H, W) and fast.flow.shape == (2, T, 2, H // 2, W // 2)
    assert 0.03 < slow.rgba[:, :, 3].mean() < 0.9
    # float32 may decide a sample on an edge otherwise: few samples, so few pixels, never many.
    assert (fast.samples.face != slow.samples.face).mean() < 2e-3
    assert np.mean(np.abs(fast.rgba - slow.rgba) > 2e-3) < 4e-3
    assert np.mean(np.abs(fast.flow - slow.flow) > 2e-3) < 4e-3
    assert (fast.flow_valid != slow.flow_valid).mean() < 4e-3
    same = (fast.samples.face == slow.samples.face) & (slow.samples.face >= 0)
    assert np.abs(fast.samples.bary[same] - slow.samples.bary[same]).max() < 5e-3
    assert np.abs(fast.samples.depth[same] - slow.samples.depth[same]).max() < 1e-4
    assert fast.tracks.shape == (2, T, 121, 2) and 5 < slow.query_valid[0].sum() < 100
    np.testing.assert_array_equal(fast.query_valid, slow.query_valid)
    np.testing.assert_allclose(fast.tracks, slow.tracks, atol=2e-3)
    assert (fast.visible != slow.visible).mean() < 4e-3


def test_skinning_agrees_with_its_twin(moving):
    body, matrices, _, _ = moving
    np.testing.assert_allclose(body.rig.skin(matrices), skin_reference(body.rig, matrices), atol=2e-6)


def test_light_is_geometry_light(moving):
    body, _, vertices, srgb = moving
    mesh = Mesh(vertices[0], body.rig.faces.astype(np.int64))
    for t in range(T):
        np.testing.assert_allclose(clip_normals(vertices, body.rig.faces)[t], mesh.normals(vertices[t]), atol=2e-5)
    from t4d.geometry.color import linear_to_srgb

    expected = linear_to_srgb(shade_vertices(mesh, vertices[1]) * body.rig.colors)
    np.testing.assert_allclose(srgb[1], expected, atol=2e-5)


def test_smoothing_groups_share_normals(moving):
    body, _, vertices, _ = moving
    groups = (np.arange(len(vertices[0])) // 2).astype(np.int32)
    mesh = Mesh(vertices[0], body.rig.faces.astype(np.int64), smoothing=groups.astype(np.int64))
    np.testing.assert_allclose(clip_normals(vertices, body.rig.faces, groups)[2], mesh.normals(vertices[2]), atol=2e-5)


def test_supersampling_is_the_mean_of_finer_pixels(moving):
    body, _, vertices, srgb = moving
    coarse = render_clip(vertices, body.rig.faces, srgb, CAMERAS, supersample=2)
    fine_cameras = [c.resized(2 * W, 2 * H) for c in CAMERAS]
    fine = render_clip(vertices, body.rig.faces, srgb, fine_cameras, supersample=1).rgba
    mean = fine.reshape(2, T, 4, H, 2, W, 2).mean((4, 6))
    np.testing.assert_allclose(coarse.rgba, mean, atol=1e-5)


def test_still_object_has_no_flow(moving):
    body, _, vertices, srgb = moving
    still = np.repeat(vertices[:1], T, 0)
    shown = render_clip(still, body.rig.faces, np.repeat(srgb[:1], T, 0), CAMERAS)
    assert np.abs(shown.flow).max() < 1e-5
    covered = torch.nn.functional.avg_pool2d(torch.from_numpy(shown.rgba[:, :, 3]), 2).numpy() >= 0.5
    np.testing.assert_array_equal(shown.flow_valid[:, :, 0] > 0, covered)


def test_flow_of_a_sideways_shift_is_the_shift():
    """A square facing the camera at the origin moves right by a known number of pixels."""
    camera = orbit_camera(0.0, 0.0, width=W, height=H)
    square = np.array([[0, -0.3, -0.3], [0, 0.3, -0.3], [0, 0.3, 0.3], [0, -0.3, 0.3]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    shift = np.array([0, 0.15, 0], np.float32)  # +y is right for a camera on +x
    vertices = np.stack([square, square + shift])
    shown = render_clip(vertices, faces, np.ones((2, 4, 3), np.float32), [camera])
    pixels = 0.15 * float(camera.K[0, 0]) / 3.0
    flow = shown.flow[0, 1][:, shown.flow_valid[0, 1, 0] > 0]
    assert flow.shape[1] > 5
    np.testing.assert_allclose(flow[0], -pixels * 2 / W, atol=1e-5)
    np.testing.assert_allclose(flow[1], 0, atol=1e-5)


def test_flow_warps_frame_0_to_frame_t():
    body = generate(np.random.default_rng(2), "fish", "fish")
    verb = body.verbs["swim"](np.random.default_rng(0))
    vertices = body.rig.skin(body.matrices(verb, np.arange(4) / 16))
    vertices = (vertices - vertices[0].mean(0)) * 1.2
    camera = orbit_camera(20.0, 15.0, width=120, height=96)
    unlit = np.repeat(body.rig.colors[None], 4, 0) ** 0.45
    shown = render_clip(vertices, body.rig.faces, unlit, [camera])
    rgba, flow, valid = (torch.from_numpy(a[0]) for a in (shown.rgba, shown.flow, shown.flow_valid))
    moved = warp(rgba[:1, :3].expand(4, -1, -1, -1), flow)
    full = torch.nn.functional.interpolate(valid, (96, 120)) * (rgba[:, 3:] > 0.99)
    assert full[3].sum() > 300
    error = lambda a: float((((a - rgba[:, :3]) ** 2) * full)[1:].sum() / full[1:].sum())  # noqa: E731
    assert float(flow[3].abs().max()) * 60 > 3  # some point moves by three pixels
    assert error(moved) < 0.35 * error(rgba[:1, :3].expand(4, -1, -1, -1))
    assert error(moved) < 3e-3


def test_mask_agrees_with_ray_casting(moving):
    """Outside witness: Embree through geometry's renderer."""
    visibility = pytest.importorskip("t4d.geometry.visibility")
    body, _, vertices, srgb = moving
    mesh = Mesh(vertices[0], body.rig.faces.astype(np.int64))
    traced = visibility.render_mesh(mesh, vertices[1], CAMERAS[0], None)
    rgba = traced[0] if isinstance(traced, tuple) else traced.rgba
    mine = render_clip(vertices, body.rig.faces, srgb, CAMERAS[:1], supersample=2).rgba[0, 1, 3]
    theirs = np.asarray(rgba)[3]
    assert theirs.shape == mine.shape
    sure = (mine == 0) | (mine == 1)
    assert ((theirs > 0.5) == (mine > 0.5))[sure].mean() > 0.998


def test_wrong_sizes_are_refused(moving):
    body, _, vertices, srgb = moving
    with pytest.raises(ValueError, match="flow_cell=5"):
        render_clip(vertices, body.rig.faces, srgb, CAMERAS, flow_cell=5)
