"""Tracks, the query grid and the draw of training points."""

import pytest
import torch
from torch.testing import assert_close

from t4d.errors import InputError
from t4d.tracking.queries import choose_points, grid_queries, on_object
from t4d.tracking.tracks import Tracks


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def some_tracks(views: int = 2, frames: int = 3, points: int = 5) -> Tracks:
    g = torch.Generator().manual_seed(0)
    return Tracks(
        torch.rand(views, frames, points, 2, generator=g),
        torch.rand(views, frames, points, generator=g) > 0.5,
        torch.rand(views, points, generator=g) > 0.5,
    )


def test_grid_is_the_cell_centres_row_by_row():
    assert_close(grid_queries(6, 8, 2), torch.tensor([[2.0, 1.5], [6.0, 1.5], [2.0, 4.5], [6.0, 4.5]]), rtol=0, atol=0)
    paper = grid_queries(256, 256)
    assert paper.shape == (225, 2)
    assert_close(paper.mean(0), torch.tensor([128.0, 128.0]))


def test_on_object_reads_the_pixel_that_contains_the_point():
    mask = torch.zeros(2, 4, 6)
    mask[0, 1, 5] = 1.0  # row 1, column 5
    mask[1, 3, 0] = 0.5  # half covered counts
    points = torch.tensor([[5.0, 1.0], [5.99, 1.99], [4.99, 1.5], [0.5, 3.5], [6.0, 1.5], [-0.1, 3.5], [0.5, 4.0]])
    found = on_object(mask, points)
    assert found.tolist() == [[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]]
    assert on_object(mask > 0.7, points).tolist() == [[1, 1, 0, 0, 0, 0, 0], [0] * 7]
    assert on_object(mask, points.expand(2, -1, -1)).equal(found)
    with pytest.raises(InputError, match=r"\[3, 7, 2\]"):
        on_object(mask, points.expand(3, -1, -1))


def test_choice_is_valid_distinct_and_complete():
    valid = torch.zeros(2, 3, 20, dtype=torch.bool)
    valid[0, 0, 3:15] = True  # enough
    valid[0, 1, [4, 9]] = True  # fewer than asked
    valid[1] = True  # view (0, 2) has none
    index, chosen = choose_points(valid, 5, generators(1, 2))
    assert index.shape == chosen.shape == (2, 3, 5)
    assert chosen.sum(-1).tolist() == [[5, 2, 0], [5, 5, 5]]
    for b in range(2):
        for v in range(3):
            taken = index[b, v][chosen[b, v]].tolist()
            assert len(set(taken)) == len(taken)
            assert all(valid[b, v, n] for n in taken)
    assert sorted(index[0, 1][chosen[0, 1]].tolist()) == [4, 9]
    assert index[~chosen].eq(0).all()


def test_a_clip_draws_the_same_alone_and_in_a_batch():
    valid = torch.rand(3, 2, 30, generator=torch.Generator().manual_seed(0)) > 0.3
    together, _ = choose_points(valid, 8, generators(5, 6, 7))
    alone = [choose_points(valid[b : b + 1], 8, generators(5 + b))[0] for b in range(3)]
    assert together.equal(torch.cat(alone))
    assert not together[0].equal(choose_points(valid[:1], 8, generators(8))[0][0])


def test_every_valid_point_is_drawn_equally_often():
    valid = torch.ones(1, 1, 10, dtype=torch.bool)
    valid[..., 7] = False
    g = generators(0)
    counts = torch.zeros(10)
    for _ in range(900):
        index, chosen = choose_points(valid, 3, g)
        counts[index[chosen]] += 1
    assert counts[7] == 0
    rest = counts[valid[0, 0]]  # binomial, mean 300, standard deviation 14
    assert rest.sub(300).abs().max() < 60


def test_more_points_than_queries():
    index, chosen = choose_points(torch.ones(1, 2, 3, dtype=torch.bool), 5, generators(0))
    assert chosen.sum(-1).tolist() == [[3, 3]]
    assert sorted(index[0, 0, :3].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_one_generator_per_clip(seeds):
    with pytest.raises(InputError, match="2 clips"):
        choose_points(torch.ones(2, 1, 4, dtype=torch.bool), 2, generators(*seeds))


def test_select_follows_the_indices_of_each_view():
    tracks = some_tracks()
    index = torch.tensor([[4, 0, 4], [1, 2, 3]])
    picked = tracks.select(index)
    for v in range(2):
        for p in range(3):
            n = int(index[v, p])
            assert picked.xy[v, :, p].equal(tracks.xy[v, :, n])
            assert picked.visible[v, :, p].equal(tracks.visible[v, :, n])
            assert picked.query_valid[v, p] == tracks.query_valid[v, n]
    same = tracks.select(torch.tensor([2, 1]))
    assert same.xy.equal(tracks.xy[:, :, [2, 1]]) and same.points == 2 and same.frames == 3
    with pytest.raises(InputError, match="0 to 4"):
        tracks.select(torch.tensor([5]))
    with pytest.raises(InputError, match="indices"):
        tracks.select(torch.zeros(3, 2, dtype=torch.int64))


def test_wrong_tracks_are_refused_by_name():
    good = some_tracks()
    with pytest.raises(InputError, match="positions"):
        Tracks(good.xy[..., :1], good.visible, good.query_valid)
    with pytest.raises(InputError, match="positions"):
        Tracks(good.xy.long(), good.visible, good.query_valid)
    with pytest.raises(InputError, match="visibility"):
        Tracks(good.xy, good.visible.float(), good.query_valid)
    with pytest.raises(InputError, match="visibility"):
        Tracks(good.xy, good.visible[:, :2], good.query_valid)
    with pytest.raises(InputError, match="query_valid"):
        Tracks(good.xy, good.visible, good.query_valid[:, :2])
    hole = good.xy.clone()
    hole[1, 2, 3, 0] = torch.nan
    with pytest.raises(InputError, match="1 track positions"):
        Tracks(hole, good.visible, good.query_valid)
