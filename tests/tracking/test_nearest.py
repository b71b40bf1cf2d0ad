"""Tracks by nearest features: planted features are found, ceilings and baselines are what they should be."""

import pytest
import torch
from torch.testing import assert_close

from t4d.errors import InputError
from t4d.metrics.tracks import oracle_tracks, pck, static_tracks, tap_vid
from t4d.tracking.maps import to_pixels
from t4d.tracking.nearest import cycle_visibility, track_features
from t4d.tracking.soft_argmax import soft_argmax


def planted(rows: int, columns: int, frames: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of unique one-hot vectors walking over a map; cells of the path [V, T, N, 2]."""
    maps = torch.zeros(2, frames, 4, rows, columns)
    maps[:, :, 3] = 1.0
    cells = torch.zeros(2, frames, 3, 2)
    starts = [[(1, 1), (0, columns - 1), (rows - 1, 2)], [(2, 3), (0, 0), (rows - 1, columns - 1)]]
    for v in range(2):
        for n, (row, column) in enumerate(starts[v]):
            for t in range(frames):
                r, c = (row + t) % rows, (column + (2 * n + 1 + v) * t) % columns  # rows differ: paths never meet
                cells[v, t, n] = torch.tensor([c + 0.5, r + 0.5])
                maps[v, t, :, r, c] = torch.nn.functional.one_hot(torch.tensor(n), 4).float()
    return maps, cells


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_planted_features_are_found_at_every_stride(stride, mode):
    maps, cells = planted(6, 8)
    image = (6 * stride, 8 * stride)
    truth = to_pixels(cells, image, (6, 8))
    xy, similarity = track_features(maps, truth[:, 0], image, mode=mode, temperature=200.0)
    assert_close(xy, truth, atol=1e-3, rtol=0)
    assert_close(similarity, torch.ones_like(similarity))
    scores = tap_vid(xy, None, truth, torch.ones(xy.shape[:-1], dtype=torch.bool), image)
    assert scores.summary()["delta_1"] == 1.0


def test_upsampled_hard_match_finds_places_between_cells():
    """A smooth feature field shifted by a known number of pixels (DIFT's protocol)."""
    image, size, shift = (32, 48), (8, 12), torch.tensor([4.0, 4.0])  # one cell right and down
    g = torch.Generator().manual_seed(0)
    field = torch.nn.functional.interpolate(torch.randn(1, 8, 4, 6, generator=g), size, mode="bicubic")
    moved = torch.roll(field, (1, 1), (-2, -1))
    maps = torch.stack([field[0], moved[0]])[None]
    queries = torch.tensor([[[15.5, 11.5], [22.5, 17.5], [29.5, 12.5]]])
    xy, _ = track_features(maps, queries, image, mode="hard", upsample=image)
    assert_close(xy[0, 0], queries[0], atol=0, rtol=0)
    assert_close(xy[0, 1], queries[0] + shift, atol=0, rtol=0)
    coarse, _ = track_features(maps, queries, image, mode="hard")
    assert (coarse[0, 0] - queries[0]).abs().max() > 0.5  # without it the query itself is off


def test_the_radius_counts_in_cells_of_the_given_maps():
    """Equal weights in a quarter disc of 4 cells = 16 px at the corner, centroid 4 r / (3 pi) off either side."""
    maps = torch.ones(1, 1, 2, 9, 12)
    maps[0, 0, 1] = 1e-3 * torch.arange(12)  # the query's column is the best, by next to nothing
    queries = torch.tensor([[[0.5, 0.5]]])
    found, _ = track_features(maps, queries, (36, 48), temperature=1.0, radius=4.0, upsample=(36, 48))
    assert_close(found[0, 0, 0], torch.full((2,), 4 * 16 / (3 * torch.pi)), atol=0.4, rtol=0)


def test_a_querys_result_does_not_depend_on_the_others_or_on_blocks(monkeypatch):
    g = torch.Generator().manual_seed(0)
    maps, queries = torch.randn(2, 5, 6, 4, 7, generator=g), torch.rand(2, 9, 2, generator=g) * 28
    whole, similarity = track_features(maps, queries, (16, 28), upsample=(8, 14))
    alone, one = track_features(maps, queries[:, 3:4], (16, 28), upsample=(8, 14))
    assert_close(whole[:, :, 3:4], alone)
    assert_close(similarity[:, :, 3:4], one)
    monkeypatch.setattr("t4d.tracking.nearest.BUDGET", 1)
    assert_close(track_features(maps, queries, (16, 28), upsample=(8, 14))[0], whole)


def test_soft_mode_is_the_soft_argmax_of_the_cosines():
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 3, 6, 4, 7, generator=g)
    xy, _ = track_features(maps, torch.tensor([[[10.0, 6.0]]]), (16, 28), temperature=7.0, radius=1.5)
    query = maps[0, 0, :, 1, 2]  # the centre of the cell in column 2, row 1
    cosine = torch.nn.functional.cosine_similarity(maps[0], query[:, None, None], dim=1)
    assert_close(xy[0, :, 0], 4 * soft_argmax(cosine, 7.0, 1.5))


def test_soft_positions_beat_cells_and_static_on_a_smooth_moving_field():
    """A feature field under sub-cell translation: local soft-argmax passes the ceiling of hard cells."""
    rows, columns, frames, stride = 8, 10, 5, 8
    image = (rows * stride, columns * stride)
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    waves = torch.randn(48, 2, generator=torch.Generator().manual_seed(1))
    phases = torch.rand(48, generator=torch.Generator().manual_seed(2)) * 6.28
    step = torch.tensor([0.45, 0.3])  # cells per frame
    maps = torch.stack(
        [
            torch.cos(
                waves[:, 0, None, None] * (x - step[0] * t)
                + waves[:, 1, None, None] * (y - step[1] * t)
                + phases[:, None, None]
            )
            for t in range(frames)
        ]
    )[None]
    start = torch.tensor([[3.2, 2.7], [4.1, 4.4], [5.8, 3.3], [2.6, 5.1], [6.4, 2.2]])
    truth = to_pixels(start + step * torch.arange(frames)[:, None, None], image, (rows, columns))[None]
    queries, seen = truth[:, 0], torch.ones(1, frames, 5, dtype=torch.bool)
    error = {}
    for name, xy in {
        "soft": track_features(maps, queries, image)[0],
        "hard": track_features(maps, queries, image, mode="hard")[0],
        "ceiling": oracle_tracks(truth, image, (rows, columns)),
        "static": static_tracks(queries, frames),
    }.items():
        error[name] = float((xy - truth)[:, 1:].square().sum(-1).sqrt().mean())
    assert error["soft"] < 0.7 * error["ceiling"] <= error["hard"] < error["static"]
    hard = track_features(maps, queries, image, mode="hard")[0]
    assert pck(hard, truth, seen, float(stride), (1.0,)).item() == 1.0


def test_cycle_visibility_tells_a_vanished_feature():
    maps, cells = planted(6, 8)
    gone = maps.clone()
    row, column = int(cells[0, 2, 1, 1]), int(cells[0, 2, 1, 0])
    gone[0, 2, :, row, column] = torch.tensor([0.0, 0.0, 0.0, 1.0])  # point 1 of view 0 is covered in frame 2
    image = (24, 32)
    queries = to_pixels(cells[:, 0], image, (6, 8))
    xy, _ = track_features(gone, queries, image, temperature=200.0)
    seen = cycle_visibility(gone, xy, queries, image, temperature=200.0)
    assert not seen[0, 2, 1]
    assert seen.sum() == seen.numel() - 1


def test_half_maps_are_compared_in_float32():
    maps, cells = planted(6, 8)
    queries = to_pixels(cells[:, 0], (24, 32), (6, 8))
    assert track_features(maps.bfloat16(), queries, (24, 32))[0].dtype == torch.float32


def test_wrong_arguments_are_refused():
    maps, cells = planted(6, 8)
    with pytest.raises(InputError, match="queries"):
        track_features(maps, cells[:1, 0], (24, 32))
    with pytest.raises(InputError, match="Mode"):
        track_features(maps, cells[:, 0], (24, 32), mode="nearest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Upsampling"):
        track_features(maps, cells[:, 0], (24, 32), upsample=(0, 8))
    broken = maps.clone()
    broken[1, 2, 0, 3, 3] = torch.inf
    with pytest.raises(InputError, match="not finite"):
        track_features(broken, cells[:, 0], (24, 32))
