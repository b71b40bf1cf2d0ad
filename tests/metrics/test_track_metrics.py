"""TAP-Vid scores, PCK, baselines and descriptor drift: hand-computed numbers, a slow twin, laws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from t4d.errors import InputError
from t4d.metrics.tracks import (
    THRESHOLDS,
    descriptor_drift,
    evaluated_frames,
    mask_sides,
    oracle_tracks,
    pck,
    static_tracks,
    tap_vid,
)

RASTER = (256, 256)


def fixture() -> tuple[torch.Tensor, torch.Tensor]:
    """Two tracks x 4 frames, query in frame 0, last frame of track B hidden: 6 pairs evaluated, 5 visible."""
    truth = torch.tensor([[50.5, 60.5], [100.5, 20.5]]) + 2.0 * torch.arange(4)[:, None, None]
    visible = torch.ones(4, 2, dtype=torch.bool)
    visible[3, 1] = False
    return truth, visible


def off_by(pixels: float) -> torch.Tensor:
    """The true tracks with track A shifted to the right in all frames."""
    truth, _ = fixture()
    return truth + torch.tensor([[pixels, 0.0], [0.0, 0.0]])


CASES = [
    (0.0, None, 1.0, (1, 1, 1, 1, 1), (1, 1, 1, 1, 1)),
    (3.0, None, 1.0, (0.4, 0.4, 1, 1, 1), (0.25, 0.25, 1, 1, 1)),
    (4.0, None, 1.0, (0.4, 0.4, 0.4, 1, 1), (0.25, 0.25, 0.25, 1, 1)),
    (0.0, True, 5 / 6, (1, 1, 1, 1, 1), (5 / 6,) * 5),
    (0.0, False, 1 / 6, (1, 1, 1, 1, 1), (0,) * 5),
]


@pytest.mark.parametrize("shift, claim, oa, within, jaccard", CASES)
def test_tap_vid_by_hand(shift, claim, oa, within, jaccard):
    truth, visible = fixture()
    predicted_visible = visible if claim is None else torch.full_like(visible, claim)
    scores = tap_vid(off_by(shift), predicted_visible, truth, visible, RASTER)
    assert_close(scores.within, torch.tensor(within, dtype=torch.float64))
    assert_close(scores.jaccard, torch.tensor(jaccard, dtype=torch.float64))
    summary = scores.summary()
    assert summary["oa"] == pytest.approx(oa)
    assert summary["delta_avg"] == pytest.approx(sum(within) / 5)
    assert summary["aj"] == pytest.approx(sum(jaccard) / 5)
    assert summary["delta_4"] == pytest.approx(within[2]) and summary["jaccard_16"] == pytest.approx(jaccard[4])
    assert (summary["points_evaluated"], summary["points_visible"], summary["videos"]) == (6, 5, 1)


def test_the_documented_means():
    truth, visible = fixture()
    scores = tap_vid(off_by(3.0), visible, truth, visible, RASTER).summary()
    assert scores["delta_avg"] == pytest.approx(0.76) and scores["aj"] == pytest.approx(0.70)


def test_thresholds_apply_on_a_256_raster_whatever_the_picture():
    truth, visible = fixture()
    scale = torch.tensor([2.0, 0.5])  # a picture of 512 x 128 (W x H)
    a = tap_vid(off_by(3.0), visible, truth, visible, RASTER)
    b = tap_vid(off_by(3.0) * scale, visible, truth * scale, visible, (128, 512))
    assert_close(a.within, b.within)
    assert_close(a.jaccard, b.jaccard)


RECORDED = {  # tapnet c2cbab8, compute_tapvid_metrics on the tracks below
    "first": (
        0.7058823529411765,
        (0.0, 0.23076923076923078, 0.6923076923076923, 0.9230769230769231, 1.0),
        (0.0, 0.08, 0.42105263157894735, 0.6875, 0.6875),
    ),
    "strided": (
        0.75,
        (0.06666666666666667, 0.26666666666666666, 0.6666666666666666, 0.9333333333333333, 1.0),
        (0.03333333333333333, 0.10714285714285714, 0.4090909090909091, 0.7222222222222222, 0.7222222222222222),
    ),
}


@pytest.mark.parametrize("mode", ["first", "strided"])
def test_tap_vid_gives_the_numbers_of_its_authors_program(mode):
    t, n = torch.arange(6, dtype=torch.float64)[:, None], torch.arange(4, dtype=torch.float64)
    truth = torch.stack([40 + 30 * n + 2 * t, 200 - 20 * n - 3 * t], -1)
    predicted = truth + torch.stack([0.7 * t * n, (t - 3) * (n - 1)], -1)
    visible, claimed = (t + 2 * n) % 4 != 3, (t * t + n) % 5 != 4
    start = torch.tensor([0, 1, 0, 2])
    scores = tap_vid(predicted, claimed, truth, visible, RASTER, query_frames=start, query_mode=mode)
    oa, within, jaccard = RECORDED[mode]
    assert scores.occlusion_accuracy == pytest.approx(oa)
    assert_close(scores.within, torch.tensor(within, dtype=torch.float64))
    assert_close(scores.jaccard, torch.tensor(jaccard, dtype=torch.float64))


def _tap_vid(predicted, predicted_visible, truth, visible, start, mode):
    """Slow twin for one video, sets and loops."""
    frames, points = visible.shape
    pairs = [
        (t, n)
        for t in range(frames)
        for n in range(points)
        if (t > int(start[n]) if mode == "first" else t != int(start[n]))
    ]
    positives = [(t, n) for t, n in pairs if visible[t, n]]
    agree = sum(bool(visible[t, n] == predicted_visible[t, n]) for t, n in pairs)
    within, jaccard = [], []
    for x in THRESHOLDS:
        near = {(t, n) for t, n in pairs if math.dist(predicted[t, n].tolist(), truth[t, n].tolist()) < x}
        tp = sum((t, n) in near and bool(visible[t, n] and predicted_visible[t, n]) for t, n in pairs)
        fp = sum(bool(predicted_visible[t, n]) and not (visible[t, n] and (t, n) in near) for t, n in pairs)
        within.append(sum(pair in near for pair in positives) / len(positives) if positives else math.nan)
        jaccard.append(tp / (len(positives) + fp) if len(positives) + fp else math.nan)
    return agree / len(pairs) if pairs else math.nan, within, jaccard


@st.composite
def videos(draw):
    t, n, seed = draw(st.integers(2, 6)), draw(st.integers(1, 5)), draw(st.integers(0, 2**16))
    g = torch.Generator().manual_seed(seed)
    truth = torch.rand(t, n, 2, generator=g, dtype=torch.float64) * 256
    spread = torch.rand(t, n, 1, generator=g, dtype=torch.float64) * 20
    predicted = truth + spread * torch.randn(t, n, 2, generator=g, dtype=torch.float64)
    visible = torch.rand(t, n, generator=g) > draw(st.sampled_from([0.0, 0.3, 1.1]))
    claimed = torch.rand(t, n, generator=g) > draw(st.sampled_from([0.0, 0.3, 1.1]))
    start = torch.randint(t, (n,), generator=g)
    return predicted, claimed, truth, visible, start


@settings(max_examples=80, deadline=None)
@given(videos(), st.sampled_from(["first", "strided"]))
def test_tap_vid_agrees_with_the_slow_twin(video, mode):
    predicted, claimed, truth, visible, start = video
    fast = tap_vid(predicted, claimed, truth, visible, RASTER, query_frames=start, query_mode=mode)
    oa, within, jaccard = _tap_vid(predicted, claimed, truth, visible, start, mode)
    assert_close(fast.occlusion_accuracy, torch.tensor(oa, dtype=torch.float64), equal_nan=True)
    assert_close(fast.within, torch.tensor(within, dtype=torch.float64), equal_nan=True)
    assert_close(fast.jaccard, torch.tensor(jaccard, dtype=torch.float64), equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(videos())
def test_laws_of_the_scores(video):
    predicted, claimed, truth, visible, _ = video
    scores = tap_vid(predicted, claimed, truth, visible, RASTER)
    order = torch.randperm(truth.shape[1], generator=torch.Generator().manual_seed(0))
    permuted = tap_vid(predicted[:, order], claimed[:, order], truth[:, order], visible[:, order], RASTER)
    mirror = torch.tensor([-1.0, 1.0]), torch.tensor([256.0, 0.0])
    flipped = tap_vid(predicted * mirror[0] + mirror[1], claimed, truth * mirror[0] + mirror[1], visible, RASTER)
    for other in (permuted, flipped):
        assert_close(other.within, scores.within, equal_nan=True)
        assert_close(other.jaccard, scores.jaccard, equal_nan=True)
        assert_close(other.occlusion_accuracy, scores.occlusion_accuracy, equal_nan=True)
    if scores.visible > 0:
        assert (scores.within.diff() >= 0).all() and (scores.jaccard.diff() >= 0).all()
    perfect_eyes = tap_vid(predicted, visible, truth, visible, RASTER)
    if perfect_eyes.visible > 0:
        assert perfect_eyes.occlusion_accuracy == 1
        assert (perfect_eyes.jaccard <= perfect_eyes.within + 1e-12).all()
        blind = tap_vid(predicted, ~visible, truth, visible, RASTER)
        assert blind.average_jaccard == 0 and blind.average_jaccard <= perfect_eyes.average_jaccard


def test_frames_up_to_the_query_have_no_effect():
    truth, visible = fixture()
    start = torch.tensor([1, 2])
    wild = truth.clone()
    wild[0], wild[1], wild[2, 1] = 999.0, -999.0, 0.0
    scores = tap_vid(wild, ~visible, truth, visible, RASTER, query_frames=start)
    wild[2:, 0] = truth[2:, 0]
    assert scores.within.eq(1).all() and scores.evaluated == 3
    strided = tap_vid(wild, visible, truth, visible, RASTER, query_frames=start, query_mode="strided")
    assert strided.evaluated == 6 and strided.within.lt(1).all()
    rounded = evaluated_frames(visible, torch.tensor([0.6, 1.4]))
    assert rounded.sum(0).tolist() == [2, 2]
    with pytest.raises(InputError, match="Query mode"):
        evaluated_frames(visible, query_mode="last")


def test_videos_count_alike_and_empty_ones_are_nan_and_counted():
    truth, visible = (value.expand(3, *value.shape) for value in fixture())
    predicted = torch.stack([off_by(0.0), off_by(3.0), off_by(3.0)])
    valid = torch.tensor([[True, True], [True, False], [False, False]])
    scores = tap_vid(predicted, visible, truth, visible, RASTER, query_valid=valid)
    assert scores.evaluated.tolist() == [6, 3, 0] and scores.visible.tolist() == [5, 3, 0]
    assert_close(scores.delta_avg, torch.tensor([1.0, 0.6, math.nan], dtype=torch.float64), equal_nan=True)
    summary = scores.summary()
    assert (summary["videos"], summary["videos_scored"]) == (3, 2)
    assert summary["delta_avg"] == pytest.approx(0.8)  # not weighted by the number of points
    nothing = tap_vid(predicted, visible, truth, visible & False, RASTER, query_valid=valid).summary()
    assert math.isnan(nothing["delta_avg"]) and nothing["videos_scored"] == 0


def test_positions_alone_give_no_visibility_scores():
    truth, visible = fixture()
    scores = tap_vid(off_by(3.0), None, truth, visible, RASTER)
    assert scores.delta_avg == pytest.approx(0.76)
    assert scores.occlusion_accuracy.isnan() and scores.average_jaccard.isnan() and scores.jaccard.isnan().all()


def test_wrong_shapes_and_numbers_are_refused():
    truth, visible = fixture()
    with pytest.raises(InputError, match="Predicted tracks"):
        tap_vid(truth[:3], visible, truth, visible, RASTER)
    with pytest.raises(InputError, match="Predicted visibility"):
        tap_vid(truth, visible[:3], truth, visible, RASTER)
    hole = truth.clone()
    hole[3, 1] = math.nan  # hidden there: does not matter for positions
    assert tap_vid(hole, visible, truth, visible, RASTER).delta_avg == 1
    hole[2, 0] = math.nan
    with pytest.raises(InputError, match="not finite"):
        tap_vid(hole, visible, truth, visible, RASTER)
    with pytest.raises(InputError, match="Box sides"):
        pck(truth, truth, visible, torch.ones(3))
    with pytest.raises(InputError, match="selection"):
        pck(truth, truth, visible[:2], 1.0)


def test_pck_by_hand():
    """Boxes of 40 and 20 px; errors 2, 4 (on the edge of .1 * 40), 5 and 2: <= counts."""
    truth = torch.zeros(2, 2, 2)
    predicted = torch.tensor([[[2.0, 0.0], [0.0, 4.0]], [[3.0, 4.0], [0.0, -2.0]]])
    counted = torch.ones(2, 2, dtype=torch.bool)
    found = pck(predicted, truth, counted, torch.tensor([40.0, 20.0]))
    assert_close(found, torch.tensor([0.25, 0.75, 0.75], dtype=torch.float64))
    counted[1, 0] = False
    assert pck(predicted, truth, counted, torch.tensor([40.0, 20.0])).tolist() == [1 / 3, 1.0, 1.0]
    assert pck(predicted, truth, counted, 4.0, (0.5, 1.0)).tolist() == [2 / 3, 1.0]
    assert pck(predicted, truth, counted & False, 4.0).isnan().all()


def test_mask_sides():
    mask = torch.zeros(3, 10, 14)
    mask[0, 2:5, 1:9] = 1.0
    mask[1, 2:9, 3] = 0.7
    assert mask_sides(mask).tolist() == [8, 7, 0]
    assert mask_sides(mask > 0).tolist() == [8, 7, 0]


def test_static_baseline():
    queries = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    tracks = static_tracks(queries, 5)
    assert tracks.shape == (1, 5, 2, 2) and (tracks == queries[:, None]).all()


@pytest.mark.parametrize("stride, ceiling", [(8, 0.606), (16, 0.408), (32, 0.209)])
def test_oracle_ceilings_of_a_hard_argmax(stride, ceiling):
    """The measured table of the metric's design: uniform points on cells of 8, 16 and 32 px."""
    truth = torch.rand(4, 5000, 2, generator=torch.Generator().manual_seed(0)) * 256
    side = 256 // stride
    best = oracle_tracks(truth, RASTER, (side, side))
    visible = torch.ones(4, 5000, dtype=torch.bool)
    assert tap_vid(best, visible, truth, visible, RASTER).delta_avg == pytest.approx(ceiling, abs=0.006)


def test_oracle_on_a_non_square_map():
    found = oracle_tracks(torch.tensor([[0.0, 0.0], [63.9, 31.9], [64.0, 32.0], [17.0, 15.0]]), (32, 64), (4, 4))
    assert found.tolist() == [[8.0, 4.0], [56.0, 28.0], [56.0, 28.0], [24.0, 12.0]]


def test_descriptor_drift_by_hand():
    """Descriptors (1, 0) -> (3, 4) -> (0, 2) at the point: 1 - cos = .4 and 1."""
    maps = torch.zeros(1, 3, 2, 2, 5)
    maps[0, 0, 0], maps[0, 1, 0], maps[0, 1, 1], maps[0, 2, 1] = 1.0, 3.0, 4.0, 2.0
    xy = torch.tensor([[11.0, 3.0], [20.0, 5.0], [30.0, 9.0]]).reshape(1, 3, 1, 2)
    visible = torch.ones(1, 3, 1, dtype=torch.bool)
    assert descriptor_drift(maps, xy, visible, (16, 40)).item() == pytest.approx(0.7)
    visible[0, 1], xy[0, 1] = False, torch.nan  # what is hidden does not count, whatever stands there
    assert descriptor_drift(maps, xy, visible, (16, 40)).item() == pytest.approx(1.0)
    visible[0, 0] = False
    assert descriptor_drift(maps, xy, visible, (16, 40)).isnan().item()


def test_features_that_move_with_the_points_do_not_drift():
    g = torch.Generator().manual_seed(0)
    field = torch.randn(6, 8, 10, generator=g)
    maps = torch.stack([torch.roll(field, (t, 2 * t), (-2, -1)) for t in range(3)])[None].half()
    xy = torch.tensor([[[10.0, 12.0], [22.0, 17.0]]]) + torch.arange(3)[:, None, None] * torch.tensor([8.0, 4.0])
    visible = torch.ones(1, 3, 2, dtype=torch.bool)
    assert descriptor_drift(maps, xy[None], visible, (32, 40)).item() < 1e-6
    assert descriptor_drift(maps, xy[None, [0, 0, 0]], visible, (32, 40)).item() > 0.2
    with pytest.raises(InputError, match="Maps are"):
        descriptor_drift(maps, xy[None, :2], visible, (32, 40))
    with pytest.raises(InputError, match="not finite"):
        descriptor_drift(maps / 0, xy[None], visible, (32, 40))
