"""Feature maps at points and the local soft-argmax, against slow twins and hand-worked values."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from t4d.errors import InputError
from t4d.tracking.maps import sample_maps, similarity_maps, to_cells, to_pixels, unit
from t4d.tracking.soft_argmax import soft_argmax


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _sample(maps: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    """Slow twin of sample_maps for one map [C, h, w] and one point [2]."""
    _, rows, columns = maps.shape
    x = min(max(float(xy[0]) - 0.5, 0.0), columns - 1.0)
    y = min(max(float(xy[1]) - 0.5, 0.0), rows - 1.0)
    x0, y0 = math.floor(x), math.floor(y)
    x1, y1 = min(x0 + 1, columns - 1), min(y0 + 1, rows - 1)
    fx, fy = x - x0, y - y0
    top = (1 - fx) * maps[:, y0, x0] + fx * maps[:, y0, x1]
    bottom = (1 - fx) * maps[:, y1, x0] + fx * maps[:, y1, x1]
    return (1 - fy) * top + fy * bottom


def _soft_argmax(similarity: torch.Tensor, temperature: float, radius: float) -> torch.Tensor:
    """Slow twin of soft_argmax for one map [h, w]."""
    rows, columns = similarity.shape
    best = int(similarity.argmax())
    row, column = best // columns, best % columns
    total, x, y = similarity.new_zeros(()), similarity.new_zeros(()), similarity.new_zeros(())
    for r in range(rows):
        for c in range(columns):
            if math.dist((r, c), (row, column)) <= radius:
                weight = (temperature * similarity[r, c]).exp()
                total = total + weight
                x, y = x + weight * (c + 0.5), y + weight * (r + 0.5)
    return torch.stack([x / total, y / total])


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-50, 600),
    st.floats(-50, 600),
    st.tuples(st.integers(1, 512), st.integers(1, 512)),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_pixels_to_cells_and_back(x, y, image_size, map_size):
    point = torch.tensor([x, y], dtype=torch.float64)
    assert_close(to_pixels(to_cells(point, image_size, map_size), image_size, map_size), point, rtol=1e-9, atol=1e-9)


def test_cell_centres_of_a_non_square_map():
    cells = to_cells(torch.tensor([[8.0, 8.0], [56.0, 24.0]]), (32, 64), (2, 4))
    assert_close(cells, torch.tensor([[0.5, 0.5], [3.5, 1.5]]), rtol=0, atol=0)


def test_samples_agree_with_the_slow_twin_and_carry_gradients():
    maps = noise(2, 3, 4, 5, 7).requires_grad_()  # [B, T, C, h, w]
    xy = torch.rand(2, 3, 6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 9 - 1  # also outside
    fast = sample_maps(maps, xy)
    slow = torch.stack(
        [torch.stack([torch.stack([_sample(maps[b, t], p) for p in xy[b, t]]) for t in range(3)]) for b in range(2)]
    )
    assert_close(fast, slow)
    cotangent = noise(*fast.shape, seed=2)
    (mine,) = torch.autograd.grad(fast, maps, cotangent)
    (theirs,) = torch.autograd.grad(slow, maps, cotangent)
    assert_close(mine, theirs)


def test_a_linear_map_is_read_exactly_between_cell_centres():
    rows, columns = 4, 6
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    xy = torch.tensor([[0.5, 0.5], [1.25, 3.5], [5.5, 2.1]])
    assert_close(sample_maps(torch.stack([x, y]), xy), xy)
    outside = sample_maps(torch.stack([x, y]), torch.tensor([[-3.0, 2.0], [9.0, 40.0]]))
    assert_close(outside, torch.tensor([[0.5, 2.0], [5.5, 3.5]]))  # the border is held


def test_no_points_and_wrong_shapes():
    assert sample_maps(noise(2, 3, 4, 5), noise(2, 0, 2)).shape == (2, 0, 3)
    with pytest.raises(InputError, match="Points are"):
        sample_maps(noise(2, 3, 4, 5), noise(3, 6, 2))
    with pytest.raises(InputError, match="Query descriptors"):
        similarity_maps(noise(2, 3, 4, 5, 6), noise(2, 7, 5))


def test_similarity_is_the_cosine_of_every_cell():
    maps, queries = noise(2, 3, 4, 5, 7), noise(2, 6, 4, seed=1)
    fast = similarity_maps(maps, queries)
    assert fast.shape == (2, 3, 6, 5, 7)
    slow = torch.nn.functional.cosine_similarity(
        maps.movedim(-3, -1)[:, :, None], queries[:, None, :, None, None, :], dim=-1
    )
    assert_close(fast, slow)


def test_zero_descriptors_stay_finite():
    maps = torch.zeros(1, 4, 2, 3, requires_grad=True)
    similarity_maps(maps, unit(torch.ones(2, 4))).sum().backward()
    assert maps.grad is not None and torch.isfinite(maps.grad).all()


def test_soft_argmax_by_hand():
    similarity = torch.full((3, 4), -1.0, dtype=torch.float64)
    similarity[1, 1], similarity[1, 2], similarity[0, 3] = math.log(3), 0.0, 1.0
    # temperature 1, radius 1: cells (1,1) weight 3, (1,2) weight 1, (0,1), (2,1), (1,0) weight 1/e each;
    # (0,3) is too far although it is larger than the neighbours
    total = 3 + 1 + 3 * math.exp(-1)
    x = (3 * 1.5 + 2.5 + math.exp(-1) * (1.5 + 1.5 + 0.5)) / total
    y = (3 * 1.5 + 1.5 + math.exp(-1) * (0.5 + 2.5 + 1.5)) / total
    assert_close(soft_argmax(similarity, 1.0, 1.0), torch.tensor([x, y], dtype=torch.float64))


@pytest.mark.parametrize("radius", [0.0, 1.0, 1.5, 2.0, 2.9, math.inf])
def test_soft_argmax_agrees_with_the_slow_twin(radius):
    similarity = noise(2, 3, 5, 7).clamp(-1, 1).requires_grad_()
    fast = soft_argmax(similarity, 3.0, radius)
    slow = torch.stack([torch.stack([_soft_argmax(m, 3.0, radius) for m in row]) for row in similarity])
    assert_close(fast, slow)
    cotangent = noise(2, 3, 2, seed=3)
    (mine,) = torch.autograd.grad(fast, similarity, cotangent)
    (theirs,) = torch.autograd.grad(slow, similarity, cotangent)
    assert_close(mine, theirs)


def test_soft_argmax_gradcheck():
    similarity = noise(2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: soft_argmax(s, 2.0, 2.0), (similarity,))


def test_soft_argmax_laws():
    similarity = noise(5, 9, 8) * 0.1
    at = soft_argmax(similarity, 20.0, 2.0)
    assert_close(soft_argmax(similarity + 0.3, 20.0, 2.0), at)  # only differences count
    assert_close(soft_argmax(similarity.flip(-1), 20.0, 2.0)[..., 0], 8 - at[..., 0])
    assert_close(soft_argmax(similarity.mT, 20.0, 2.0), at.flip(-1))
    hard = similarity.flatten(-2).argmax(-1)
    centres = torch.stack([hard % 8, hard // 8], -1) + 0.5
    assert_close(soft_argmax(similarity, 20.0, 0.0), centres.double())
    assert_close(soft_argmax(similarity, 1e7, math.inf), centres.double())
    assert ((at - centres).square().sum(-1).sqrt() <= 2.0).all()
    assert_close(soft_argmax(torch.zeros(4, 6), 20.0, math.inf), torch.tensor([3.0, 2.0]))  # centre of a flat map


def test_why_local_a_global_soft_argmax_collapses_to_the_centre():
    """A clear peak (cosine .9 over a background of .4) in a corner of a 32 x 32 map."""
    similarity = torch.full((32, 32), 0.4)
    similarity[2, 3] = 0.9
    assert_close(soft_argmax(similarity, 10.0, 2.0), torch.tensor([3.5, 2.5]), atol=1e-4, rtol=0)
    away = soft_argmax(similarity, 10.0, math.inf) - torch.tensor([3.5, 2.5])
    assert away.norm() > 10


def test_huge_similarities_stay_finite():
    similarity = torch.tensor([[1e4, -1e4], [0.0, 1e4]], requires_grad=True)
    found = soft_argmax(similarity, 1e3, 2.0)
    found.sum().backward()
    assert_close(found, torch.tensor([1.0, 1.0]))
    assert similarity.grad is not None and torch.isfinite(similarity.grad).all()


def test_empty_maps_and_bad_settings_are_refused():
    with pytest.raises(InputError, match="Similarity map"):
        soft_argmax(torch.zeros(2, 0, 3))
    for settings_ in ((0.0, 2.0), (math.nan, 2.0), (20.0, -1.0)):
        with pytest.raises(InputError, match="Temperature"):
            soft_argmax(torch.zeros(3, 3), *settings_)
