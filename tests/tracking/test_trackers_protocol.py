"""What every tracker promises, whichever it is."""

import subprocess
import sys

import cotracker_fake
import pytest
import torch
from tracker_scenes import soup, texture

from t4d.errors import InputError
from t4d.paths import REPO
from t4d.tracking.cotracker3 import WINDOW
from t4d.tracking.file import write_tracks_file
from t4d.tracking.queries import grid_queries
from t4d.tracking.tracker import TRACKERS, Tracker, assemble, build_tracker
from t4d.tracking.tracks import Tracks

V, T, H, W = 3, 5, 32, 40


@pytest.fixture(params=[*TRACKERS, "cotracker3 online"])
def tracker(request, tmp_path, monkeypatch) -> Tracker:
    """One of each kind for clips [3, 5, 3, 32, 40]."""
    name, _, mode = request.param.partition(" ")
    scene = soup()
    if name == "exact":
        return build_tracker(name, vertices=scene.vertices, faces=scene.faces, cameras=scene.cameras)
    if name == "file":
        queries = grid_queries(H, W, 10).expand(V, -1, -1)
        speed = torch.rand(V, 1, 100, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
        xy = queries[:, None] + torch.arange(T)[None, :, None, None] * speed
        write_tracks_file(
            tmp_path / "t.npz", Tracks(xy, xy[..., 0] % 7 > 1, torch.ones(V, 100, dtype=torch.bool)), (H, W)
        )
        return build_tracker(name, path=tmp_path / "t.npz", distance=3)
    if name == "cotracker3":
        cotracker_fake.install(monkeypatch)
        request.addfinalizer(cotracker_fake.forget)
        mode = mode or "offline"
        torch.save(cotracker_fake.FakeModel(WINDOW[mode]).state_dict(), tmp_path / "weights.pth")
        return build_tracker(name, checkpoint=tmp_path / "weights.pth", mode=mode)
    return build_tracker(name, side=64)


def clip() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pictures that differ by view and frame, queries, and a mask that moves."""
    rgb = torch.stack([torch.stack([texture(H, W, 10 * v + t // 2) for t in range(T)]) for v in range(V)])
    mask = torch.zeros(V, T, 1, H, W)
    for t in range(T):
        mask[:, t, :, 4:28, 4 + t : 34 + t] = 1
    return rgb, grid_queries(H, W, 7).expand(V, -1, -1).contiguous(), mask


@pytest.mark.parametrize("masked", [False, True])
def test_promises(tracker, masked):
    rgb, queries, mask = clip()
    before = queries.clone()
    found = tracker.track(rgb, queries, mask if masked else None)
    assert isinstance(found, Tracks) and tracker.name in TRACKERS
    assert found.xy.shape == (V, T, 49, 2) and found.visible.shape == (V, T, 49) and found.query_valid.shape == (V, 49)
    assert found.xy.dtype == torch.float32 and found.xy.isfinite().all()
    assert torch.equal(found.xy[:, 0], queries) and torch.equal(queries, before)
    assert torch.equal(found.visible[:, 0], found.query_valid) and found.query_valid.any()
    off = ~found.query_valid
    assert torch.equal(found.xy.transpose(1, 2)[off], queries[:, :, None].expand(-1, -1, T, -1)[off])
    assert not found.visible.transpose(1, 2)[off].any()
    if masked:
        x, y = queries[0].T
        on = (x >= 4) & (x < 34) & (y >= 4) & (y < 28)
        assert not (found.query_valid & ~on).any()
        if tracker.name != "exact":  # whose surface may be smaller than the mask
            assert torch.equal(found.query_valid, on.expand(V, -1))


def test_order_of_points_does_not_matter(tracker):
    rgb, queries, mask = clip()
    order = torch.randperm(49, generator=torch.Generator().manual_seed(4))
    found, mixed = tracker.track(rgb, queries, mask), tracker.track(rgb, queries[:, order], mask)
    torch.testing.assert_close(mixed.xy, found.xy[:, :, order])
    assert torch.equal(mixed.visible, found.visible[:, :, order])


def test_views_do_not_mix(tracker):
    # Blanking view 0 may change what is found in view 0 only.
    rgb, queries, mask = clip()
    changed = rgb.clone()
    changed[0] = texture(H, W, 99)
    found, other = tracker.track(rgb, queries, mask), tracker.track(changed, queries, mask)
    torch.testing.assert_close(other.xy[1:], found.xy[1:])
    assert torch.equal(other.visible[1:], found.visible[1:])
    if tracker.name == "flow":
        assert not torch.allclose(other.xy[0], found.xy[0])


def test_bad_clips_are_refused(tracker):
    rgb, queries, mask = clip()
    nan = rgb.clone()
    nan[1, 2, 0, 3, 4] = torch.nan
    for arguments, message in (
        ((rgb[0], queries), r"\[5, 3, 32, 40\]"),
        ((rgb, queries[:2]), r"\[2, 49, 2\]"),
        ((rgb, queries, mask[:, :, 0]), r"mask has shape \[3, 5, 32, 40\]"),
        ((rgb * 255, queries), "divide 8-bit"),
        ((nan, queries), "not finite"),
        ((rgb, queries, mask * 255), "mask is not finite or not in 0..1"),
        ((rgb, queries * torch.nan), "queries hold"),
    ):
        with pytest.raises(InputError, match=message):
            tracker.track(*arguments)


def test_no_points_and_no_valid_points(tracker):
    rgb, queries, mask = clip()
    found = tracker.track(rgb, queries, torch.zeros_like(mask))
    assert not found.query_valid.any() and not found.visible.any()
    torch.testing.assert_close(found.xy, queries[:, None].expand_as(found.xy))
    assert tracker.track(rgb, queries[:, :0]).xy.shape == (V, T, 0, 2)


def test_building_by_name():
    with pytest.raises(InputError, match="'raft' is not known; choose one of exact, cotracker3, flow, file"):
        build_tracker("raft")
    with pytest.raises(InputError, match=r"'flow' cannot be made .*'speed'.*threshold"):
        build_tracker("flow", speed=3)
    with pytest.raises(InputError, match=r"'file' cannot be made .*'path'"):
        build_tracker("file")


def test_assembled_tracks():
    queries = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    xy = torch.full((1, 3, 2, 2), 9.0)
    found = assemble(xy, torch.zeros(1, 3, 2, dtype=torch.bool), queries, torch.tensor([[True, False]]))
    assert found.xy[0, :, 0].tolist() == [[1, 2], [9, 9], [9, 9]] and found.xy[0, :, 1].tolist() == [[3, 4]] * 3
    assert found.visible[0].tolist() == [[True, False], [False, False], [False, False]]


def test_importing_needs_no_tracker_package():
    code = (
        "import sys\nfor name in ('cv2', 'numba', 'cotracker', 'trimesh', 'embreex', 'gsplat', 'gradio'):\n"
        "    sys.modules[name] = None\nimport t4d.tracking.tracker, t4d.tracking.file, t4d.tracking.cotracker3, "
        "t4d.tracking.optical_flow\nt4d.tracking.tracker.build_tracker"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True, timeout=120)
