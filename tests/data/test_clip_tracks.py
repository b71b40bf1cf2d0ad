"""Exact tracks of training clips: laws, a case solved by hand, and two outside witnesses (ray casting, flow)."""

import json

import numpy as np
import pytest
import torch

from t4d.data.cache import CachedClips, save_item
from t4d.data.dataset import ClipDataset
from t4d.data.motion import procedural_motion
from t4d.data.render import render_clip
from t4d.errors import InputError
from t4d.geometry.camera import orbit_camera
from t4d.tracking.exact import ExactTracker
from t4d.tracking.queries import grid_queries, on_object

H, W, V, T, G = 56, 72, 2, 6, 13


@pytest.fixture(scope="module")
def items():
    data = ClipDataset(None, procedural_fraction=1.0, side=(H, W), views=V, frames=T, grid=G, seed=4)
    return [data[i] for i in range(8)]


def test_laws(items):
    grid = grid_queries(H, W, G)
    for item in items:
        xy, visible, valid = item["tracks"], item["visible"], item["query_valid"]
        assert xy.shape == (V, T, G * G, 2) and xy.dtype == torch.float32 and xy.isfinite().all()
        assert visible.shape == (V, T, G * G) and visible.dtype == torch.bool and valid.shape == (V, G * G)
        torch.testing.assert_close(xy[:, 0], grid.expand(V, -1, -1), atol=1e-4, rtol=0)
        assert torch.equal(visible[:, 0], valid), "what the query sees is visible in its own frame, and nothing else is"
        off = ~valid
        still = grid.expand(V, T, -1, -1).movedim(1, 2)[off]
        torch.testing.assert_close(xy.movedim(1, 2)[off], still, atol=1e-4, rtol=0)
        assert not visible.movedim(1, 2)[off].any()
        inside = (xy >= 0).all(-1) & (xy[..., 0] <= W) & (xy[..., 1] <= H)
        assert inside[visible].all()
        # The picture agrees, but for pixels that the silhouette crosses and what is thinner than its samples' spacing.
        alpha = item["rgba"][:, 0, 3]
        sure = on_object(alpha == 1, grid) | ~on_object(alpha > 0, grid)
        assert (valid == on_object(alpha, grid))[sure].float().mean() > 0.99 and sure.float().mean() > 0.85
    moved = torch.cat([(i["tracks"] - i["tracks"][:, :1]).norm(dim=-1)[i["visible"]] for i in items])
    assert moved.max() > 5 and all(i["query_valid"].any() for i in items)


def test_points_lie_on_the_object_wherever_they_are_visible(items):
    for item in items:
        for v in range(V):
            for t in range(T):
                seen = item["tracks"][v, t][item["visible"][v, t]]
                near = torch.nn.functional.max_pool2d(item["rgba"][v, t, 3][None, None], 3, 1, 1)[0, 0]
                assert on_object(near > 0, seen).all()


def test_flow_leads_back_to_the_query(items):
    """Outside witness: the renderer's backward flow, averaged over cells, at a visible point ends at its query."""
    errors = []
    for item in items:
        flow, ok = item["flow"], item["flow_valid"]
        for v in range(V):
            for t in range(1, T):
                xy = item["tracks"][v, t][item["visible"][v, t]]
                query = item["tracks"][v, 0][item["visible"][v, t]]
                at = (xy / torch.tensor([W, H]) * 2 - 1)[None, None]
                both = torch.cat([flow[v, t], ok[v, t]])[None]
                sampled = torch.nn.functional.grid_sample(both, at, align_corners=False)[0, :, 0].T
                back = xy + sampled[:, :2] * torch.tensor([W, H]) / 2
                interior = sampled[:, 2] > 0.999
                errors.append((back - query).norm(dim=-1)[interior])
    error = torch.cat(errors)
    assert len(error) > 300
    assert error.median() < 0.1 and (error < 1).float().mean() > 0.95


def test_ray_casting_sees_the_same_points():
    """Outside witness: Embree, through the camera's own projection, on a walking figure."""
    visibility = pytest.importorskip("t4d.geometry.visibility")
    from t4d.data.procedural import generate

    rng = np.random.default_rng(4)
    body = generate(rng, "biped", "child", detail=0.5)
    vertices = body.rig.skin(body.matrices(body.verbs["run"](rng), np.arange(3) / 7))
    vertices = ((vertices - vertices[0].mean(0)) * 1.1).astype(np.float32)
    cameras = [orbit_camera(a, 20.0, width=2 * W, height=2 * H) for a in (10.0, 130.0)]
    shown = render_clip(vertices, body.rig.faces, np.ones_like(vertices), cameras, grid=31)
    agree = []
    for v, camera in enumerate(cameras):
        caster = visibility.RayCaster(vertices[0], body.rig.faces)
        ends = np.concatenate([shown.tracks[v, 0], np.ones((31 * 31, 1))], 1)
        direction = ends @ np.linalg.inv(camera.K.numpy()).T @ camera.world_to_camera[:3, :3].numpy()
        eye = camera.eye.numpy()
        face, distance = caster.closest(np.broadcast_to(eye, direction.shape).copy(), direction)
        hit = np.asarray(face) >= 0
        assert (hit == shown.query_valid[v]).mean() > 0.995
        both = hit & shown.query_valid[v]
        start = eye + direction * np.asarray(distance)[:, None]
        corner = vertices[0][body.rig.faces[np.asarray(face)[both]]]
        weight = np.linalg.solve(corner.transpose(0, 2, 1), start[both][..., None])[..., 0]
        for t in range(3):
            points = (vertices[t][body.rig.faces[np.asarray(face)[both]]] * weight[..., None]).sum(1)
            xy, _ = camera.project(torch.from_numpy(points.astype(np.float32)))
            gap = np.linalg.norm(xy.numpy() - shown.tracks[v, t][both], axis=1)
            assert (gap < 0.02).mean() > 0.99
            cast = visibility.cast_visibility(vertices[t], body.rig.faces, points, eye)
            agree.append((np.asarray(cast) == shown.visible[v, t][both]).mean())
    assert np.mean(agree) > 0.945  # the z-buffer is generous by a sample at silhouettes


def test_the_exact_tracker_says_the_same():
    """A second implementation (t4d.tracking.exact), in float64, whose visibility knows no pixels."""
    from t4d.data.procedural import generate

    differ = []
    for seed, plan in enumerate(("quadruped", "robot", "octopus", "bird")):
        rng = np.random.default_rng(seed)
        body = generate(rng, plan, detail=0.6)
        motion = procedural_motion(rng, body, 4, False)
        vertices = motion.vertices - motion.vertices[0].mean(0)
        vertices = np.ascontiguousarray(vertices * 0.7 / np.linalg.norm(vertices[0], axis=1).max(), np.float32)
        cameras = [orbit_camera(a, 15.0, width=W, height=H) for a in (20.0, 200.0)]
        shown = render_clip(vertices, body.rig.faces, np.ones_like(vertices), cameras, grid=G)
        told = ExactTracker(vertices, body.rig.faces, cameras).track(
            torch.from_numpy(shown.rgba[:, :, :3]), grid_queries(H, W, G).expand(2, -1, -1)
        )
        np.testing.assert_array_equal(told.query_valid.numpy(), shown.query_valid)
        np.testing.assert_allclose(told.xy.numpy(), shown.tracks, atol=3e-3)
        on = np.repeat(shown.query_valid[:, None], 4, 1)
        differ.append((told.visible.numpy() != shown.visible)[on].mean())
    assert np.mean(differ) < 0.03 and max(differ) < 0.06  # a picture is generous by a sample at silhouettes


def test_a_board_that_slides_behind_a_wall():
    """By hand: 0.3 units a frame to the right; hidden where the wall stands, shown beyond it; wall points stay."""
    camera = orbit_camera(0.0, 0.0, width=W, height=H)
    square = np.array([[0, -0.1, -0.1], [0, 0.1, -0.1], [0, 0.1, 0.1], [0, -0.1, 0.1]], np.float32)
    board, wall = square + [0, -0.4, 0], square * [1, 1.2, 3] + [0.3, 0, 0]
    vertices = np.stack([np.concatenate([board + [0, 0.4 * t, 0], wall]) for t in range(3)]).astype(np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], np.int32)
    shown = render_clip(vertices, faces, np.ones((3, 8, 3), np.float32), [camera], grid=40)
    xy, visible, valid = shown.tracks[0], shown.visible[0], shown.query_valid[0]
    step = 0.4 * float(camera.K[0, 0]) / 3.0
    moving = valid & (np.abs(xy[1, :, 0] - xy[0, :, 0]) > 1)
    fixed = valid & ~moving
    assert moving.sum() > 6 and fixed.sum() > 6
    for t in range(3):
        np.testing.assert_allclose(xy[t][moving] - xy[0][moving], [[step * t, 0]] * moving.sum(), atol=1e-3)
        np.testing.assert_allclose(xy[t][fixed], xy[0][fixed], atol=1e-4)
        assert visible[t][fixed].all() and (visible[t][moving] == (t != 1)).all()


def test_grid_zero_means_no_tracks():
    data = ClipDataset(None, procedural_fraction=1.0, side=(16, 24), views=1, frames=2, grid=0)
    assert data[0]["tracks"].shape == (1, 2, 0, 2) and data[0]["query_valid"].shape == (1, 0)


def test_cache_keeps_tracks_and_refuses_older_files(items, tmp_path):
    save_item(items[0], tmp_path / "000000.npz")
    again = CachedClips(tmp_path)[0]
    for name in ("tracks", "visible", "query_valid"):
        assert torch.equal(again[name], items[0][name]) and again[name].dtype == items[0][name].dtype
    with np.load(tmp_path / "000000.npz") as stored:
        fields = {k: stored[k] for k in stored.files}

    def refusal(**changed: np.ndarray | None) -> str:
        kept = {k: v for k, v in {**fields, **changed}.items() if v is not None}
        np.savez(tmp_path / "000000.npz", **kept)  # type: ignore[arg-type]
        with pytest.raises(InputError) as error:
            CachedClips(tmp_path)[0]
        return str(error.value)

    text = json.loads(fields["text"].tobytes())
    older = np.frombuffer(json.dumps({k: v for k, v in text.items() if k != "version"}).encode(), np.uint8)
    assert "was cached in version None, this program renders version 2; cache it again" in refusal(text=older)
    assert "visible" in refusal(visible=None) and "cache it again" in refusal(visible=None)
    whole = (tmp_path / "000000.npz").read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no zip"):
        (tmp_path / "000000.npz").write_bytes(broken)
        with pytest.raises(InputError, match=r"000000\.npz is not a cached clip .*cache it again"):
            CachedClips(tmp_path)[0]
