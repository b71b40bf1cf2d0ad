"""Corrupted tracks: the right dose, the described fault, nothing else."""

import pytest
import torch
from torch.testing import assert_close

from t4d.errors import InputError
from t4d.tracking.corruption import KINDS, CorruptedTracks, corrupt

V, T, N = 3, 8, 40


def clip(hidden: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points moving on their own lines; query_valid for most."""
    g = torch.Generator().manual_seed(0)
    start = torch.rand(V, 1, N, 2, generator=g) * torch.tensor([64.0, 48.0])
    xy = start + torch.arange(T)[None, :, None, None] * torch.randn(V, 1, N, 2, generator=g)
    valid = torch.rand(V, N, generator=g) > 0.25
    visible = (torch.rand(V, T, N, generator=g) >= hidden) & valid.unsqueeze(1)
    visible[:, 0] = valid
    return xy, visible, valid


def run(share: float, kinds=KINDS, seed: int = 0, hidden: float = 0.0, **more) -> CorruptedTracks:
    return corrupt(*clip(hidden), share, kinds, torch.Generator().manual_seed(seed), **more)


@pytest.mark.parametrize("kinds", [("swap",), ("drift",), ("jump",), KINDS])
def test_only_the_reported_tracks_change_and_never_in_frame_0(kinds):
    xy, visible, valid = clip(hidden=0.3)
    before = xy.clone(), visible.clone()
    result = run(0.5, kinds, hidden=0.3)
    assert xy.equal(before[0]) and visible.equal(before[1])  # arguments are left alone
    touched = result.kind >= 0
    assert touched.any(1).all() and not (touched & ~valid).any()
    assert set(result.kind[touched].tolist()) == {KINDS.index(kind) for kind in kinds}
    changed = (result.xy != xy).any(-1).any(1) | (result.visible != visible).any(1)
    assert changed.equal(touched)
    assert result.xy[:, 0].equal(xy[:, 0]) and result.visible[:, 0].equal(visible[:, 0])
    assert torch.isfinite(result.xy).all()


def test_share_zero_and_one():
    xy, visible, valid = clip()
    none = run(0.0)
    assert none.xy.equal(xy) and none.visible.equal(visible) and none.kind.eq(-1).all()
    assert (run(1.0).kind >= 0).equal(valid)


def test_the_dose_is_exact_on_average_and_within_one_in_every_view():
    _, _, valid = clip()
    wanted = 0.13 * valid.sum(1)
    counts = torch.stack([(run(0.13, ("drift",), seed).kind >= 0).sum(1) for seed in range(300)]).double()
    assert (counts - wanted).abs().max() < 1
    assert_close(counts.mean(0), wanted.double(), atol=0.1, rtol=0)


def test_kinds_are_equally_likely():
    kinds = torch.cat([run(1.0, seed=seed).kind.flatten() for seed in range(5)])
    shares = torch.bincount(kinds[kinds >= 0], minlength=3) / (kinds >= 0).sum()
    assert (shares - 1 / 3).abs().max() < 0.08


def test_a_swapped_track_is_anothers_from_one_frame_on():
    xy, visible, valid = clip(hidden=0.3)
    result = run(0.5, ("swap",), hidden=0.3)
    starts = set()
    for v, n in (result.kind == 0).nonzero().tolist():
        differs = (result.xy[v, :, n] != xy[v, :, n]).any(-1)
        start = int(differs.nonzero()[0])
        others = [
            m
            for m in valid[v].nonzero()[:, 0].tolist()
            if m != n
            and result.xy[v, start:, n].equal(xy[v, start:, m])
            and result.visible[v, start:, n].equal(visible[v, start:, m])
        ]
        assert len(others) == 1
        assert result.visible[v, :start, n].equal(visible[v, :start, n])
        starts.add(start)
    assert len(starts) >= 5  # the frame is drawn


@pytest.mark.parametrize("given_mask", [False, True])
def test_drift_grows_linearly_to_5_to_15_percent_of_the_box(given_mask):
    xy, visible, valid = clip(hidden=0.3)
    mask = torch.zeros(V, T, 48, 64)
    mask[:, 0, 10:30, 5:55] = 1.0  # 50 x 20 pixels in frame 0
    result = run(1.0, ("drift",), hidden=0.3, mask=mask if given_mask else None)
    assert result.visible.equal(visible)
    offset = (result.xy - xy).double()
    length = offset.square().sum(-1).sqrt()
    ramp = torch.linspace(0, 1, T, dtype=torch.float64)[None, :, None]
    assert_close(length, length[:, -1:] * ramp, atol=1e-4, rtol=1e-4)
    end = offset[:, -1][valid]
    for v in range(V):
        ends = length[v, -1][valid[v]]
        box = xy[v, 0][valid[v]]
        side = 50.0 if given_mask else float((box.amax(0) - box.amin(0)).max())
        low, high = 0.05 * side, 0.15 * side * (1.0 if given_mask else 1.3)  # the points' box gets the grid's spacing
        assert (ends >= low - 1e-4).all() and (ends <= high + 1e-4).all()
        assert ends.max() > 1.5 * ends.min()
    angles = torch.atan2(end[:, 1], end[:, 0])
    assert (angles > 1).any() and (angles < -1).any()  # directions differ


def test_a_jump_fills_a_hidden_span_with_another_visible_points_track():
    xy, visible, valid = clip(hidden=0.3)
    result = run(1.0, ("jump",), hidden=0.3)
    with_spans = 0
    for v, n in valid.nonzero().tolist():
        differs = (result.xy[v, :, n] != xy[v, :, n]).any(-1)
        frames = differs.nonzero()[:, 0]
        start, stop = int(frames[0]), int(frames[-1]) + 1
        assert differs[start:stop].all()  # one span
        assert result.visible[v, start:stop, n].all()
        (other,) = [m for m in range(N) if m != n and result.xy[v, start:stop, n].equal(xy[v, start:stop, m])]
        assert valid[v, other] and visible[v, start, other]
        if not visible[v, :, n].all():
            with_spans += 1
            assert not visible[v, start:stop, n].any()
            assert visible[v, start - 1, n] and (stop == T or visible[v, stop, n])
        else:
            assert stop - start <= T // 4
    assert with_spans > 10


def test_jumps_of_always_visible_points_take_short_spans():
    xy, _, valid = clip()
    result = run(1.0, ("jump",))
    length = (result.xy != xy).any(-1).sum(1)[valid]
    assert length.min() >= 1 and length.max() <= T // 4


def test_draws_depend_on_the_generator_alone():
    a, b, c = run(0.4, seed=1), run(0.4, seed=1), run(0.4, seed=2)
    assert a.xy.equal(b.xy) and a.kind.equal(b.kind)
    assert not a.kind.equal(c.kind)


def test_a_lone_point_cannot_swap_or_jump_but_drifts():
    xy, visible, valid = clip()
    valid = torch.zeros_like(valid)
    valid[:, 4] = True
    visible = visible | valid.unsqueeze(1)
    g = torch.Generator().manual_seed(0)
    lone = corrupt(xy, visible, valid, 1.0, ("swap", "jump"), g)
    assert lone.kind.eq(-1).all() and lone.xy.equal(xy)
    drifted = corrupt(xy, visible, valid, 1.0, ("drift",), g)
    assert drifted.kind[:, 4].eq(1).all() and (drifted.xy[:, -1, 4] != xy[:, -1, 4]).any(-1).all()


@pytest.mark.parametrize("frames", [1, 2])
def test_very_short_clips(frames):
    xy, visible, valid = clip()
    result = corrupt(xy[:, :frames], visible[:, :frames], valid, 1.0, KINDS, torch.Generator().manual_seed(0))
    assert (result.kind >= 0).any() == (frames > 1)
    assert result.xy[:, 0].equal(xy[:, 0])


def test_wrong_arguments_are_refused():
    xy, visible, valid = clip()
    g = torch.Generator()
    with pytest.raises(InputError, match=r"1\.5"):
        corrupt(xy, visible, valid, 1.5, KINDS, g)
    with pytest.raises(InputError, match="Kinds"):
        corrupt(xy, visible, valid, 0.5, ("shuffle",), g)
    with pytest.raises(InputError, match="Kinds"):
        corrupt(xy, visible, valid, 0.5, (), g)
    with pytest.raises(InputError, match="Tracks are"):
        corrupt(xy, visible[:, 1:], valid, 0.5, KINDS, g)
    with pytest.raises(InputError, match="Masks"):
        corrupt(xy, visible, valid, 0.5, KINDS, g, torch.zeros(V, T - 1, 4, 4))
