"""The tracker table: scores worked out by hand, and one tiny clip end to end."""

import math

import numpy as np
import pytest
import torch

from eval.trackers import FRAMES, GRID, VIEWS, Scene, judge, summarise, tracked
from t4d.data.framing import place
from t4d.data.procedural import generate
from t4d.geometry.camera import orbit_camera
from t4d.tracking.tracker import build_tracker
from t4d.tracking.tracks import Tracks


def two_points() -> Tracks:
    """One view, frames 0..3, 64 px: both points on the object, point 1 hidden in the last frame; nothing moves."""
    xy = torch.tensor([[10.0, 10.0], [40.0, 20.0]]).expand(1, 4, 2, 2).clone()
    visible = torch.ones(1, 4, 2, dtype=torch.bool)
    visible[0, 3, 1] = False
    return Tracks(xy, visible, torch.ones(1, 2, dtype=torch.bool))


def test_scores_by_hand():
    truth = two_points()
    perfect = judge(truth, truth, 64)
    assert perfect == {"delta_avg": 1, "aj": 1, "oa": 1, "wrong": 0, "kept": 1}
    # Point 0 is 1.9 px of 64 off (7.6 of the raster) in frames 1..3; everything is claimed visible: 6 claims, 1 of them
    # hidden. Of 5 visible pairs the 2 of point 1 are within all five thresholds, the 3 of point 0 within 8 and 16.
    off = truth.xy.clone()
    off[0, 1:, 0, 0] += 1.9
    scores = judge(Tracks(off, torch.ones_like(truth.visible), truth.query_valid), truth, 64)
    assert scores["delta_avg"] == pytest.approx((3 * 2 / 5 + 2) / 5)
    assert scores["oa"] == pytest.approx(5 / 6)
    assert scores["wrong"] == pytest.approx(1 / 6) and scores["kept"] == 1
    # 2.0 px are exactly 8 of the raster: far.
    off[0, 1:, 0, 0] += 0.1
    scores = judge(Tracks(off, torch.ones_like(truth.visible), truth.query_valid), truth, 64)
    assert scores["wrong"] == pytest.approx(4 / 6)
    # Frame 0 and points off the object count nowhere; nothing claimed: no share of wrong claims, not zero.
    silent = judge(Tracks(off, torch.zeros_like(truth.visible), truth.query_valid), truth, 64)
    assert math.isnan(silent["wrong"]) and silent["kept"] == 0 and silent["oa"] == pytest.approx(1 / 6)


def test_intervals_by_size_and_tracker():
    rows = [
        {"rig": rig, "seed": seed, "side": 64, "tracker": name, "wrong": math.nan if rig == "b" and seed else 0.1}
        | dict.fromkeys(("delta_avg", "aj", "oa", "kept", "cpu_s"), (value + seed) * (2 if name == "flow" else 1))
        for rig, value in (("a", 1.0), ("b", 3.0))
        for seed in (0, 1)
        for name in ("flow", "static")
    ]
    summary = summarise(rows)
    assert list(summary) == ["64 flow", "64 flow - static", "64 static"]
    still = summary["64 static"]["aj"]
    assert still.mean == 2.5 and still.low == 1 and still.high == 4
    assert summary["64 flow - static"]["aj"] == still  # flow was made twice as good, clip by clip
    assert summary["64 flow"]["wrong"].mean == 0.1  # rig b has no value for seed 1 and is left out


def test_one_clip_end_to_end():
    rng = np.random.default_rng(8)
    body = generate(rng, "quadruped", detail=0.4)
    vertices = body.rig.skin(body.matrices(body.verbs["walk"](rng), np.arange(FRAMES) / FRAMES))
    placed = place(vertices, [orbit_camera(90 * k, 15, width=48, height=48) for k in range(4)], 0.8)
    assert placed is not None
    scene = Scene(placed[0], body.rig.faces, np.full((*vertices.shape[:2], 3), 0.6, np.float32))
    results = {n: (f, t, s) for n, f, t, s in tracked(scene, 48, {"flow, mask": (build_tracker("flow"), True)})}
    assert list(results) == ["renderer", "static", "flow, mask"]
    scores = {}
    for name, (found, truth, seconds) in results.items():
        assert found.xy.shape == (VIEWS, FRAMES, GRID**2, 2) and truth.query_valid.sum() > 40 and seconds >= 0
        scores[name] = judge(found, truth, 48)
        assert all(0 <= value <= 1 for value in scores[name].values())
    # The order that any honest measure must give.
    assert scores["renderer"]["delta_avg"] > 0.99 > scores["static"]["delta_avg"]
    assert scores["renderer"]["aj"] > scores["flow, mask"]["aj"]
    assert scores["renderer"]["wrong"] < 0.05 < scores["static"]["wrong"] and scores["static"]["kept"] == 1
