"""Chained optical flow on clips whose motion is known."""

from typing import Any

import pytest
import torch
from tracker_scenes import sliding, texture

from t4d.errors import InputError
from t4d.tracking.optical_flow import FlowTracker
from t4d.tracking.queries import grid_queries

HEIGHT, WIDTH, FRAMES = 72, 96, 5


def inner(margin: int = 20) -> torch.Tensor:
    """Query points that stay inside for the motions below."""
    queries = grid_queries(HEIGHT, WIDTH, 9)
    return queries[((queries > margin) & (queries < torch.tensor([WIDTH, HEIGHT]) - margin)).all(-1)][None]


@pytest.mark.parametrize(("dx", "dy"), [(2.0, -1.5), (-1.0, 0.25), (0.0, 3.0)])
def test_follows_a_moving_texture(dx, dy):
    queries = inner()
    found = FlowTracker().track(sliding(FRAMES, HEIGHT, WIDTH, dx, dy), queries)
    expected = queries[:, None] + torch.arange(FRAMES)[None, :, None, None] * torch.tensor([dx, dy])
    error = (found.xy - expected).norm(dim=-1)
    assert queries.shape[1] > 12 and error.median() < 0.15 and error.max() < 0.8  # after four frames, pixels
    assert found.visible.float().mean() > 0.97


def test_flow_directions_and_units():
    # Enlarging for DIS must not change the unit, and the two axes have scales of their own (not square).
    rgb = sliding(2, HEIGHT, WIDTH, 3.0, -1.0)[0]
    for side in (64, 256, 400):
        forward, backward = FlowTracker(side=side).flows(rgb)
        assert forward.shape == backward.shape == (1, 2, HEIGHT, WIDTH)
        middle = (slice(None), slice(None), slice(16, -16), slice(16, -16))
        for flow, sign in ((forward, 1), (backward, -1)):
            torch.testing.assert_close(
                flow[middle].median(-1).values.median(-1).values[0], sign * torch.tensor([3.0, -1.0]), atol=0.15, rtol=0
            )


def test_still_pictures_do_not_move():
    rgb = texture(HEIGHT, WIDTH).expand(2, FRAMES, -1, -1, -1)
    queries = grid_queries(HEIGHT, WIDTH, 5).expand(2, -1, -1).contiguous()
    found = FlowTracker().track(rgb, queries)
    torch.testing.assert_close(found.xy, queries[:, None].expand_as(found.xy), atol=1e-3, rtol=0)
    assert found.visible.all()


def covered() -> tuple[torch.Tensor, torch.Tensor]:
    """A still texture; a striped block slides over its middle between frames 1 and 3, and stays. Clip, hidden area."""
    rgb = texture(HEIGHT, WIDTH).repeat(1, FRAMES, 1, 1, 1)
    block = torch.rand(3, HEIGHT, 40, generator=torch.Generator().manual_seed(9))
    for t, left in ((2, 64), (3, 44), (4, 44)):
        width = min(40, WIDTH - left)
        rgb[0, t, :, :, left : left + width] = block[:, :, :width]
    return rgb, torch.tensor([44.0, 84.0])


def test_points_that_get_covered_are_lost_for_good():
    rgb, hidden = covered()
    queries = grid_queries(HEIGHT, WIDTH, 11)[None]
    found = FlowTracker(threshold=1).track(rgb, queries)
    x = queries[0, :, 0]
    under, free = (x > hidden[0] + 6) & (x < hidden[1] - 6), x < hidden[0] - 8
    assert under.sum() > 20 and free.sum() > 20
    assert found.visible[0, :2, under].all() and not found.visible[0, 3:, under].float().mean() > 0.1
    assert found.visible[0, :, free].float().mean() > 0.95
    lost = ~found.visible[0, :-1]
    assert lost.any() and not (found.visible[0, 1:] & lost).any()  # never comes back
    assert found.xy.isfinite().all()


def test_leaving_the_picture():
    rgb = sliding(FRAMES, HEIGHT, WIDTH, 6.0, 0.0)
    found = FlowTracker().track(rgb, torch.tensor([[[WIDTH - 9.0, 36.0], [30.0, 36.0]]]))
    assert found.visible[0, :, 1].all()
    assert found.visible[0, :2, 0].all() and not found.visible[0, 2:, 0].any()
    assert found.xy[..., 0].max() <= WIDTH


def test_the_mask_takes_tracks_off_the_object():
    rgb = texture(HEIGHT, WIDTH).expand(1, FRAMES, -1, -1, -1)
    mask = torch.zeros(1, FRAMES, 1, HEIGHT, WIDTH)
    mask[:, :, :, :, :48] = 1
    mask[:, 3:, :, :, 24:] = 0
    queries = torch.tensor([[[10.0, 30.0], [36.0, 30.0], [70.0, 30.0]]])
    found = FlowTracker().track(rgb, queries, mask)
    assert found.query_valid.tolist() == [[True, True, False]]
    assert found.visible[0].T.tolist() == [[True] * 5, [True] * 3 + [False] * 2, [False] * 5]


def test_refusals(monkeypatch):
    refused: list[dict[str, Any]] = [{"preset": "best"}, {"threshold": 0}, {"side": 8}]
    for settings in refused:
        with pytest.raises(InputError):
            FlowTracker(**settings)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(InputError, match="opencv-python-headless"):
        FlowTracker()


def test_a_single_frame_is_its_own_track():
    queries = torch.tensor([[[3.5, 4.5], [60.0, 2.0]]])
    found = FlowTracker().track(torch.rand(1, 1, 3, 30, 40, generator=torch.Generator().manual_seed(0)), queries)
    assert torch.equal(found.xy[:, 0], queries) and found.visible.tolist() == [[[True, False]]]
