"""L_corr (Eq. 4) and L_pos (Eq. 5): values by hand, a slow twin, laws, gradients."""

import math

import pytest
import torch
from torch.testing import assert_close

from t4d.errors import InputError
from t4d.tracking.losses import (
    correspondence_loss,
    huber,
    position_loss,
    track_counts,
    track_weights,
    tracking_terms,
)

B, V, T, C, ROWS, COLUMNS, P = 2, 3, 4, 5, 6, 7, 8
IMAGE = (48, 70)  # H, W


def scene(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Maps, tracks (some outside the picture), visibility and chosen slots."""
    g = torch.Generator().manual_seed(3)
    maps = torch.randn(B, V, T, C, ROWS, COLUMNS, generator=g, dtype=dtype)
    xy = torch.rand(B, V, T, P, 2, generator=g, dtype=dtype) * torch.tensor([80.0, 56.0], dtype=dtype) - 4
    visible = torch.rand(B, V, T, P, generator=g) > 0.3
    chosen = torch.rand(B, V, P, generator=g) > 0.25
    return maps.requires_grad_(), xy, visible, chosen


def _descriptor(one_map: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Bilinear sample of [C, h, w] at cell coordinates, border held."""
    x, y = min(max(x - 0.5, 0.0), COLUMNS - 1.0), min(max(y - 0.5, 0.0), ROWS - 1.0)
    x0, y0 = math.floor(x), math.floor(y)
    value = one_map.new_zeros(C)
    for column, wx in ((x0, 1 - x + x0), (x0 + 1, x - x0)):
        for row, wy in ((y0, 1 - y + y0), (y0 + 1, y - y0)):
            value = value + wx * wy * one_map[:, min(row, ROWS - 1), min(column, COLUMNS - 1)]
    return value


def _cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def _terms(maps, xy, visible, chosen, temperature, radius, delta, masked):
    """Slow twin of tracking_terms: the two sums of the paper written as loops."""
    corr, pos, corr_count, pos_count = maps.new_zeros(()), maps.new_zeros(()), 0, 0
    for b in range(B):
        for v in range(V):
            for p in range(P):
                if not chosen[b, v, p]:
                    continue
                at = [(float(x) * COLUMNS / IMAGE[1], float(y) * ROWS / IMAGE[0]) for x, y in xy[b, v, :, p]]
                h = [_descriptor(maps[b, v, j], *at[j]) for j in range(T)]
                seen = [bool(s) or not masked for s in visible[b, v, :, p]]
                for j in range(T - 1):
                    if seen[j] and seen[j + 1]:
                        corr, corr_count = corr + 1 - _cosine(h[j], h[j + 1]), corr_count + 1
                for j in range(1, T):
                    if seen[0] and seen[j]:
                        found = _match(maps[b, v, j], h[0], temperature, radius)
                        d = ((found[0] - at[j][0]) ** 2 + (found[1] - at[j][1]) ** 2).sqrt()
                        pos = pos + (0.5 * d * d if d.item() <= delta else delta * (d - 0.5 * delta))
                        pos_count += 1
    return corr, corr_count, pos, pos_count


def _match(one_map, query, temperature, radius):
    cells = [(r, c) for r in range(ROWS) for c in range(COLUMNS)]
    cosines = {cell: _cosine(one_map[:, cell[0], cell[1]], query) for cell in cells}
    best = max(cells, key=lambda cell: float(cosines[cell].detach()))
    near = [cell for cell in cells if math.dist(cell, best) <= radius]
    weights = {cell: (temperature * cosines[cell]).exp() for cell in near}
    total = torch.stack(list(weights.values())).sum()
    x = torch.stack([weight * (cell[1] + 0.5) for cell, weight in weights.items()]).sum() / total
    y = torch.stack([weight * (cell[0] + 0.5) for cell, weight in weights.items()]).sum() / total
    return x, y


@pytest.mark.parametrize("masked", [True, False])
def test_terms_agree_with_the_slow_twin_forward_and_backward(masked):
    maps, xy, visible, chosen = scene()
    fast = tracking_terms(maps, xy, visible, chosen, IMAGE, temperature=5, radius=1.5, huber_delta=0.8, masked=masked)
    corr, corr_count, pos, pos_count = _terms(maps, xy, visible, chosen, 5, 1.5, 0.8, masked)
    assert (int(fast.corr_count), int(fast.pos_count)) == (corr_count, pos_count)
    assert corr_count > 20 and pos_count > 20
    assert_close(fast.corr_sum, corr)
    assert_close(fast.pos_sum, pos)
    for mine, theirs in ((fast.corr_sum, corr), (fast.pos_sum, pos)):
        (a,) = torch.autograd.grad(mine, maps, retain_graph=True)
        (b,) = torch.autograd.grad(theirs, maps, retain_graph=True)
        assert_close(a, b)


def test_correspondence_by_hand():
    """One view, three frames, descriptors (1, 0), (3, 4), (0, 2): cosines .6 and .8."""
    maps = torch.zeros(1, 1, 3, 2, 2, 4)
    maps[0, 0, 0, 0] = 1.0
    maps[0, 0, 1, 0], maps[0, 0, 1, 1] = 3.0, 4.0
    maps[0, 0, 2, 1] = 2.0
    xy = torch.tensor([[10.0, 3.0], [20.0, 5.0], [30.0, 9.0]]).reshape(1, 1, 3, 1, 2)
    seen, chosen = torch.ones(1, 1, 3, 1, dtype=torch.bool), torch.ones(1, 1, 1, dtype=torch.bool)
    assert_close(correspondence_loss(maps, xy, seen, chosen, (16, 32)), torch.tensor((0.4 + 0.2) / 2))
    last_hidden = seen.clone()
    last_hidden[0, 0, 2] = False
    assert_close(correspondence_loss(maps, xy, last_hidden, chosen, (16, 32)), torch.tensor(0.4))
    assert_close(correspondence_loss(maps, xy, last_hidden, chosen, (16, 32), masked=False), torch.tensor(0.3))


def test_position_by_hand():
    """The feature of the query is in cell (row 1, column 4) of frame 1; all other cells are orthogonal to it.

    Radius 0: the estimate is (4.5, 1.5) cells. Cells are 10 x 8 pixels, the track is at (1.5, 1.1) cells: distances
    3 and .4, Huber with delta 1: sqrt(9.16) - .5.
    """
    maps = torch.zeros(1, 1, 2, 2, 3, 6)
    maps[0, 0, :, 1] = 1.0
    maps[0, 0, 0, :, 2, 0] = torch.tensor([1.0, 0.0])
    maps[0, 0, 1, :, 1, 4] = torch.tensor([1.0, 0.0])
    xy = torch.tensor([[5.0, 20.0], [15.0, 8.8]]).reshape(1, 1, 2, 1, 2)
    seen, chosen = torch.ones(1, 1, 2, 1, dtype=torch.bool), torch.ones(1, 1, 1, dtype=torch.bool)
    loss = position_loss(maps, xy, seen, chosen, (24, 60), radius=0)
    assert_close(loss, torch.tensor(math.sqrt(9.16) - 0.5))
    near = xy.clone()
    near[0, 0, 1, 0] = torch.tensor([45.0, 8.8])
    assert_close(position_loss(maps, near, seen, chosen, (24, 60), radius=0), torch.tensor(0.5 * 0.4**2))


def test_huber_is_torchs_with_a_finite_gradient_at_zero():
    distance = torch.tensor([0.3, 0.69, 0.71, 5.0], dtype=torch.float64)
    expected = torch.nn.functional.huber_loss(distance, torch.zeros_like(distance), reduction="none", delta=0.7)
    assert_close(huber(distance.square(), 0.7), expected)
    offset = torch.zeros(2, requires_grad=True)
    huber(offset.square().sum(), 1.0).backward()
    assert offset.grad is not None and offset.grad.tolist() == [0, 0]


def test_gradcheck():
    g = torch.Generator().manual_seed(1)
    maps = torch.randn(1, 1, 3, 3, 3, 4, generator=g, dtype=torch.float64).requires_grad_()
    xy = torch.rand(1, 1, 3, 2, 2, generator=g, dtype=torch.float64) * torch.tensor([32.0, 24.0])
    visible = torch.ones(1, 1, 3, 2, dtype=torch.bool)
    visible[0, 0, 1, 1] = False
    chosen = torch.ones(1, 1, 2, dtype=torch.bool)

    def both(m: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        terms = tracking_terms(m, xy, visible, chosen, (24, 32), temperature=4.0)
        return terms.corr_sum, terms.pos_sum

    assert torch.autograd.gradcheck(both, (maps,))


@pytest.mark.parametrize("hidden", ["invisible", "not chosen", "no slots", "one frame"])
def test_nothing_to_count_is_zero_with_a_graph(hidden):
    maps, xy, visible, chosen = scene()
    if hidden == "invisible":
        visible = torch.zeros_like(visible)
    elif hidden == "not chosen":
        chosen = torch.zeros_like(chosen)
    elif hidden == "no slots":
        xy, visible, chosen = xy[..., :0, :], visible[..., :0], chosen[..., :0]
    else:
        maps, xy, visible = maps[:, :, :1], xy[:, :, :1], visible[:, :, :1]
    terms = tracking_terms(maps, xy, visible, chosen, IMAGE)
    assert terms.corr_sum == 0 and terms.pos_sum == 0 and terms.corr_count == 0 and terms.pos_count == 0
    for value in (terms.corr_sum, terms.pos_sum):
        (grad,) = torch.autograd.grad(value, maps, retain_graph=True)
        assert grad.eq(0).all()
    assert correspondence_loss(maps, xy, visible, chosen, IMAGE) == 0
    assert position_loss(maps, xy, visible, chosen, IMAGE) == 0


@pytest.mark.parametrize("masked", [True, False])
def test_counts_come_from_the_data_alone(masked):
    maps, xy, visible, chosen = scene()
    terms = tracking_terms(maps, xy, visible, chosen, IMAGE, masked=masked)
    corr, pos = track_counts(visible, chosen, masked)
    assert (terms.corr_count, terms.pos_count) == (corr, pos)
    if not masked:
        assert corr == pos == int(chosen.sum()) * (T - 1)


def test_masks_by_hand():
    visible = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=torch.bool)  # [T, P]
    corr, pos = track_weights(visible, torch.tensor([True, True]))
    assert corr.tolist() == [[1, 0], [0, 0], [0, 1]]
    assert pos.tolist() == [[1, 0], [0, 1], [1, 1]]
    corr, pos = track_weights(visible, torch.tensor([False, True]))
    assert corr.tolist() == [[0, 0], [0, 0], [0, 1]]
    hidden_query = visible.clone()
    hidden_query[0, 1] = False
    assert track_weights(hidden_query, torch.tensor([True, True]))[1].tolist() == [[1, 0], [0, 0], [1, 0]]


def test_sums_of_clips_add_up_to_the_sums_of_the_batch():
    """What the program relies on when it splits a global batch over processes and micro-steps."""
    maps, xy, visible, chosen = scene()
    whole = tracking_terms(maps, xy, visible, chosen, IMAGE)
    parts = [
        tracking_terms(maps[b : b + 1], xy[b : b + 1], visible[b : b + 1], chosen[b : b + 1], IMAGE) for b in range(B)
    ]
    assert_close(sum(part.corr_sum for part in parts), whole.corr_sum)
    assert_close(sum(part.pos_sum for part in parts), whole.pos_sum)
    assert sum(int(part.corr_count) for part in parts) == whole.corr_count
    assert sum(int(part.pos_count) for part in parts) == whole.pos_count


def test_masked_terms_ignore_where_hidden_points_are_and_slots_without_a_point_anywhere():
    maps, xy, visible, chosen = scene()
    moved = torch.where((visible & chosen.unsqueeze(2)).unsqueeze(-1), xy, xy + 17.0)
    a, b = (tracking_terms(maps, where, visible, chosen, IMAGE) for where in (xy, moved))
    assert_close(a.corr_sum, b.corr_sum)
    assert_close(a.pos_sum, b.pos_sum)
    unmasked = [tracking_terms(maps, where, visible, chosen, IMAGE, masked=False) for where in (xy, moved)]
    assert not torch.isclose(unmasked[0].corr_sum, unmasked[1].corr_sum)


def test_losses_do_not_depend_on_the_scale_of_the_features_or_the_picture():
    maps, xy, visible, chosen = scene()
    a = tracking_terms(maps, xy, visible, chosen, IMAGE)
    b = tracking_terms(
        7 * maps, xy * torch.tensor([2.0, 3.0]), visible, chosen, (3 * IMAGE[0], 2 * IMAGE[1]), positions=True
    )
    assert_close(a.corr_sum, b.corr_sum)
    assert_close(a.pos_sum, b.pos_sum)


def test_leaving_positions_out():
    maps, xy, visible, chosen = scene()
    whole = tracking_terms(maps, xy, visible, chosen, IMAGE)
    part = tracking_terms(maps, xy, visible, chosen, IMAGE, positions=False)
    assert_close(part.corr_sum, whole.corr_sum)
    assert part.pos_sum == 0 and part.pos_count == 0 and part.pos_sum.requires_grad


def test_float32_inside_autocast():
    maps, xy, visible, chosen = scene(torch.float32)
    plain = tracking_terms(maps, xy, visible, chosen, IMAGE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = tracking_terms(maps, xy, visible, chosen, IMAGE)
        half = tracking_terms(maps.bfloat16(), xy, visible, chosen, IMAGE)
    assert inside.corr_sum.dtype == half.pos_sum.dtype == torch.float32
    assert_close(inside.corr_sum, plain.corr_sum, rtol=0, atol=0)
    assert_close(inside.pos_sum, plain.pos_sum, rtol=0, atol=0)


def test_descending_the_losses_makes_features_trackable():
    """Free feature maps under L_corr and L_pos end up with every point found at its track."""
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(1, 1, 4, 8, 6, 8, generator=g).requires_grad_()
    start = torch.tensor([[12.0, 20.0], [44.0, 12.0], [52.0, 36.0]])
    xy = (start + torch.arange(4)[:, None, None] * torch.tensor([2.5, 1.5])).reshape(1, 1, 4, 3, 2)
    seen, chosen = torch.ones(1, 1, 4, 3, dtype=torch.bool), torch.ones(1, 1, 3, dtype=torch.bool)
    optimiser = torch.optim.Adam([maps], lr=0.05)
    history = []
    for _ in range(150):
        corr = correspondence_loss(maps, xy, seen, chosen, (48, 64))
        pos = position_loss(maps, xy, seen, chosen, (48, 64))
        optimiser.zero_grad()
        (corr + pos).backward()
        optimiser.step()
        history.append((corr.item(), pos.item()))
    assert history[0][0] > 0.5 and history[0][1] > 0.5
    assert history[-1][0] < 0.02 and history[-1][1] < 0.02


def test_features_alike_everywhere_satisfy_l_corr_and_not_l_pos():
    _, xy, visible, chosen = scene(torch.float32)
    alike = torch.ones(B, V, T, C, ROWS, COLUMNS)
    assert correspondence_loss(alike, xy, visible, chosen, IMAGE).abs() < 1e-6
    assert position_loss(alike, xy, visible, chosen, IMAGE) > 1


def test_wrong_shapes_are_refused():
    maps, xy, visible, chosen = scene()
    with pytest.raises(InputError, match="Maps are"):
        tracking_terms(maps, xy[:, :, 1:], visible[:, :, 1:], chosen, IMAGE)
    with pytest.raises(InputError, match="chosen"):
        tracking_terms(maps, xy, visible, chosen[:, 1:], IMAGE)
    with pytest.raises(InputError, match="expected bool"):
        tracking_terms(maps, xy, visible.float(), chosen, IMAGE)
    with pytest.raises(InputError, match="Huber"):
        tracking_terms(maps, xy, visible, chosen, IMAGE, huber_delta=0)
