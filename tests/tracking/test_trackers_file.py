"""Tracks from files: round trips, matching to queries, and refusals by name."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from t4d.errors import InputError
from t4d.tracking.file import FileTracker, write_tracks_file
from t4d.tracking.tracks import Tracks

V, T, N, H, W = 2, 4, 5, 24, 40


@pytest.fixture
def stored() -> Tracks:
    """Random tracks; point 3 of view 1 is not on the object."""
    generator = torch.Generator().manual_seed(1)
    xy = torch.rand(V, T, N, 2, generator=generator) * torch.tensor([W, H])
    visible = torch.rand(V, T, N, generator=generator) > 0.3
    visible[:, 0] = True
    valid = torch.ones(V, N, dtype=torch.bool)
    valid[1, 3] = False
    xy[1, :, 3], visible[1, :, 3] = xy[1, 0, 3], False
    return Tracks(xy, visible, valid)


RGB = torch.full((V, T, 3, H, W), 0.5)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_round_trip(stored, tmp_path, ending):
    path = tmp_path / f"clip.{ending}"
    write_tracks_file(path, stored, (H, W))
    found = FileTracker(path).track(RGB, stored.xy[:, 0])
    torch.testing.assert_close(found.xy, stored.xy)
    assert torch.equal(found.visible, stored.visible) and torch.equal(found.query_valid, stored.query_valid)


def test_any_order_any_subset_and_other_sizes(stored, tmp_path):
    path = tmp_path / "clip.npz"
    write_tracks_file(path, stored, (H, W))
    order = torch.tensor([4, 0, 2])
    queries = stored.xy[:, 0, order] + 0.3
    nowhere = torch.tensor([[[0.05, 0.05]], [[0.05, 0.05]]])
    assert torch.cdist(nowhere, stored.xy[:, 0]).min() > 1
    found = FileTracker(path).track(RGB, torch.cat([queries, nowhere], 1))
    torch.testing.assert_close(found.xy[:, 1:, :3], stored.xy[:, 1:, order])
    torch.testing.assert_close(found.xy[:, 0, :3], queries)  # frame 0 is the query asked for
    assert found.query_valid.tolist() == [[True] * 3 + [False]] * 2
    assert not found.visible[:, :, 3].any() and torch.equal(found.xy[:, :, 3], nowhere.expand(-1, T, -1))
    double = torch.full((V, T, 3, 2 * H, 3 * W), 0.5)
    scale = torch.tensor([3.0, 2.0])
    found = FileTracker(path).track(double, stored.xy[:, 0] * scale)
    torch.testing.assert_close(found.xy, stored.xy * scale)


def test_mask_and_distance(stored, tmp_path):
    path = tmp_path / "clip.safetensors"
    write_tracks_file(path, stored, (H, W))
    mask = torch.zeros(V, T, 1, H, W)
    mask[..., : W // 2] = 1
    found = FileTracker(path).track(RGB, stored.xy[:, 0], mask)
    expected = stored.query_valid & (stored.xy[:, 0, :, 0] < W // 2)
    assert torch.equal(found.query_valid, expected) and expected.any() and not expected.all()
    near, far = FileTracker(path, distance=0.1), FileTracker(path, distance=2)
    moved = stored.xy[:, 0] + 0.2
    assert far.track(RGB, moved).query_valid.sum() == stored.query_valid.sum()
    with pytest.raises(InputError, match=r"no track in .* starts within 0\.1 pixels of any of the 10 query points"):
        near.track(RGB, moved)


def arrays(stored: Tracks) -> dict[str, np.ndarray]:
    """What a user would write by hand."""
    return {"tracks": stored.xy.numpy(), "visible": stored.visible.numpy()}


def test_minimal_file_of_another_program(stored, tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, **{**arrays(stored), "tracks": stored.xy.double().numpy()})
    found = FileTracker(path).track(RGB, stored.xy[:, 0])
    torch.testing.assert_close(found.xy, stored.xy)
    assert found.query_valid.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("visible"), r"holds \['tracks'\]"),
        (lambda a: a.update(occluded=~a["visible"]), r"'occluded'.*nothing else"),
        (lambda a: a.update(tracks=a["tracks"][0]), r"'tracks' .*\[4, 5, 2\]"),
        (lambda a: a.update(tracks=a["tracks"].astype(np.int64)), "floating-point"),
        (lambda a: a.update(visible=a["visible"].astype(np.float32)), "'visible' .*float32"),
        (lambda a: a.update(visible=a["visible"][:, :3]), r"'visible' .*\[2, 3, 5\].*\[2, 4, 5\]"),
        (lambda a: a.update(query_valid=np.ones((2, 4), bool)), r"'query_valid' .*\[2, 5\]"),
        (lambda a: a["tracks"].__setitem__((1, 2, 3, 0), np.nan), "point 3 in frame 2 of view 1"),
        (lambda a: a.update(size=np.array([24.0, 40.0])), "'size'"),
        (lambda a: a.update(size=np.array([0, 40])), "'size'"),
    ],
)
@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_refusals_by_name(stored, tmp_path, change, message, ending):
    data = {name: value.copy() for name, value in arrays(stored).items()}
    change(data)
    path = tmp_path / f"bad.{ending}"
    if ending == "npz":
        np.savez(path, allow_pickle=False, **data)
    else:
        save_file({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in data.items()}, path)
    with pytest.raises(InputError, match=message):
        FileTracker(path)


def test_unreadable_files(stored, tmp_path):
    np.savez(tmp_path / "pickled.npz", tracks=np.array([{"a": 1}], dtype=object), visible=np.zeros(1))
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 20)
    write_tracks_file(tmp_path / "cut.npz", stored, (H, W))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:200])
    np.savez(tmp_path / "texts.npz", tracks=np.array(["a"]), visible=np.zeros(1))
    for name in ("pickled.npz", "broken.npz", "broken.safetensors", "cut.npz", "texts.npz", "missing.npz"):
        with pytest.raises(InputError, match=name):
            FileTracker(tmp_path / name)
    (tmp_path / "tracks.csv").write_text("x,y")
    with pytest.raises(InputError, match=r"neither \.npz nor \.safetensors"):
        FileTracker(tmp_path / "tracks.csv")
    with pytest.raises(InputError, match=r"neither \.npz nor \.safetensors"):
        write_tracks_file(tmp_path / "tracks.csv", stored, (H, W))


def test_another_clip_is_refused(stored, tmp_path):
    write_tracks_file(tmp_path / "clip.npz", stored, (H, W))
    tracker = FileTracker(tmp_path / "clip.npz")
    with pytest.raises(InputError, match="2 views of 4 frames but the clip has 2 of 3"):
        tracker.track(RGB[:, :3], stored.xy[:, 0])


def test_many_points_of_a_large_picture_find_their_own_tracks(tmp_path):
    queries = torch.rand(1, 225, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1920.0, 1080.0])
    assert torch.cdist(queries, queries).diagonal(dim1=1, dim2=2).max() > 0.1, "what matrix products make of zero"
    xy = queries[:, None].expand(-1, 2, -1, -1).contiguous()
    path = tmp_path / "large.npz"
    tracks = Tracks(xy, torch.ones(xy.shape[:3], dtype=torch.bool), torch.ones(1, 225, dtype=torch.bool))
    write_tracks_file(path, tracks, (1080, 1920))
    assert FileTracker(path, distance=0.01).track(torch.zeros(1, 2, 3, 1080, 1920), queries).query_valid.all()
