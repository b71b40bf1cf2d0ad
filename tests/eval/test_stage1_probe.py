"""The probe on maps with known answers."""

import math

import pytest
import torch

from eval.stage1_probe import look, only, parity, track_figures
from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel

HEIGHT, WIDTH, ROWS, COLUMNS, FRAMES = 32, 48, 8, 12, 3  # 4 pixels a cell


def moving_item(shift: int) -> dict:
    """Two views of four points at cell centres that move right by `shift` cells a frame; one is hidden at the end."""
    start = torch.tensor([[6.0, 6.0], [14.0, 10.0], [22.0, 18.0], [18.0, 26.0]])
    tracks = torch.stack([start + torch.tensor([4.0 * shift * t, 0]) for t in range(FRAMES)])
    visible = torch.ones(2, FRAMES, 4, dtype=torch.bool)
    visible[:, 2, 3] = False
    return {
        "rgba": torch.zeros(2, FRAMES, 4, HEIGHT, WIDTH),
        "tracks": tracks.expand(2, -1, -1, -1).clone(),
        "visible": visible,
        "query_valid": torch.ones(2, 4, dtype=torch.bool),
    }


def one_hot_maps(shift: int) -> torch.Tensor:
    """A channel per cell of frame 0 that moves with the points: a perfect descriptor."""
    first = torch.eye(ROWS * COLUMNS).reshape(1, ROWS * COLUMNS, ROWS, COLUMNS)
    return torch.cat([first.roll(shift * t, -1) for t in range(FRAMES)])[None].expand(2, -1, -1, -1, -1)


def test_perfect_features_and_features_that_stay():
    item = moving_item(2)
    found = track_figures(one_hot_maps(2), item)
    assert found["error"] == pytest.approx(0, abs=1e-3) and found["delta_avg"] == 1
    assert found["drift"] == pytest.approx(0, abs=1e-6) and found["distinct"] == pytest.approx(1)
    assert found["hard_error"] == pytest.approx(0, abs=1e-4)  # points are at cell centres
    assert found["terms"] == 2 * (4 + 3)
    # moves of 8 and 16 px: 256/48 each on the raster; four points in frame 1 and three in frame 2
    static = (4 * 8 + 3 * 16) / 7 * 256 / 48
    assert found["static_error"] == pytest.approx(static, rel=1e-6)
    stay = track_figures(one_hot_maps(0), item)
    assert stay["error"] == pytest.approx(static, abs=1e-2)
    assert stay["drift"] == pytest.approx(1)  # another cell's descriptor is at the true place


def test_alike_features_drift_little_and_are_not_distinct():
    maps = one_hot_maps(2) + 3
    maps = maps + 1e-3 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    found = track_figures(maps, moving_item(2))
    assert found["drift"] < 0.01 and found["distinct"] < 0.01
    assert found["relative_drift"] < 0.1


def test_nothing_to_count_is_nan():
    item = moving_item(2)
    item["visible"][:, 1:] = False
    found = track_figures(one_hot_maps(2), item)
    assert math.isnan(found["error"]) and math.isnan(found["delta_avg"]) and found["terms"] == 0


def test_chessboard_halves_the_grid_and_only_keeps_the_rest_at_rest():
    white, black = parity(15, True), parity(15, False)
    assert int(black.sum()) == 113 and bool((white ^ black).all())
    fields = white.reshape(15, 15)
    assert not bool((fields[:, 1:] & fields[:, :-1]).any() | (fields[1:] & fields[:-1]).any())
    item = moving_item(2)
    kept = only(item, torch.tensor([True, False, True, False]))
    assert kept["query_valid"].tolist() == [[True, False, True, False]] * 2
    assert torch.equal(kept["tracks"][:, :, 0], item["tracks"][:, :, 0])
    assert torch.equal(kept["tracks"][:, :, 1], item["tracks"][:, :1, 1].expand(-1, FRAMES, -1))
    assert not bool(kept["visible"][:, :, 1].any())


def test_look_of_the_shipped_model():
    model = VideoModel.load("mini")
    item = ClipDataset(None, procedural_fraction=1, side=64, views=2, frames=3, grid=5, seed=3)[1]
    maps, loss = look(model, item, 51, 0)
    assert maps.shape[:2] == (2, 3) and maps.shape[-2:] == (8, 8)
    again, same = look(model, item, 51, 0)
    assert torch.equal(maps, again) and loss == same > 0
    other, _ = look(model, item, 51, 1)
    assert not torch.equal(other, maps)


def test_without_its_trace_the_network_sees_nothing_of_the_later_frames():
    model = VideoModel.load("mini")
    item = ClipDataset(None, side=64, views=2, frames=3, procedural_fraction=1.0)[0]
    other = {**item, "flow": item["flow"].flip(-1)}  # another motion of the same frame 0
    assert not torch.equal(item["flow"], other["flow"])
    for trace in (True, False):
        a, b = (look(model, one, 961, trace=trace)[0] for one in (item, other))
        assert torch.equal(a, b) == (not trace)
