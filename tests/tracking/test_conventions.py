"""Rendered clips and this package mean the same by pixels, cells, frames and visibility."""

import pytest
import torch
from torch import Tensor

from t4d.data.dataset import ClipDataset
from t4d.metrics.tracks import static_tracks, tap_vid
from t4d.tracking.losses import tracking_terms
from t4d.tracking.maps import sample_maps
from t4d.tracking.queries import choose_points, grid_queries, on_object
from t4d.tracking.tracks import Tracks

HEIGHT, WIDTH, VIEWS, FRAMES = 48, 64, 3, 6


@pytest.fixture(scope="module")
def clips() -> list[dict]:
    data = ClipDataset(None, procedural_fraction=1, side=(HEIGHT, WIDTH), views=VIEWS, frames=FRAMES, seed=3)
    return [data[i] for i in range(6)]


def tracks_of(clip: dict) -> Tracks:
    return Tracks(clip["tracks"], clip["visible"], clip["query_valid"])


def test_queries_are_the_grid_and_valid_where_the_mask_is(clips):
    grid = grid_queries(HEIGHT, WIDTH)
    agree, valid = 0.0, 0
    for clip in clips:
        tracks = tracks_of(clip)
        torch.testing.assert_close(tracks.xy[:, 0], grid.expand(VIEWS, -1, -1), atol=1e-3, rtol=0)
        covered = on_object(clip["rgba"][:, 0, 3], grid)
        agree += float((covered == tracks.query_valid).float().mean()) / len(clips)
        valid += int(tracks.query_valid.sum())
    assert agree > 0.98 and valid > 100  # half-covered pixels of the outline may differ


def test_a_track_keeps_its_colour_and_a_fixed_pixel_does_not(clips):
    def change(clip: dict, xy: Tensor) -> tuple[float, int]:
        both = (clip["visible"][:, :1] & clip["visible"][:, 1:]).unsqueeze(-1)
        colors = sample_maps(clip["rgba"][:, :, :3], xy)
        return float(((colors[:, 1:] - colors[:, :1]).abs() * both).sum()), 3 * int(both.sum())

    moving = [change(clip, clip["tracks"]) for clip in clips]
    fixed = [change(clip, static_tracks(clip["tracks"][:, 0], FRAMES)) for clip in clips]
    along, still = (sum(error for error, _ in each) / sum(count for _, count in each) for each in (moving, fixed))
    assert along < 0.5 * still


def test_position_loss_prefers_the_true_tracks_on_features_that_are_the_truth(clips):
    """Maps that carry every pixel's place on the object in frame 0 (a narrow bump per tracked point)."""
    clip = max(clips, key=lambda item: static_error(item))
    tracks = tracks_of(clip)
    index, chosen = choose_points(tracks.query_valid[None], 4, [torch.Generator().manual_seed(0)])
    picked = Tracks(tracks.xy[None], tracks.visible[None], tracks.query_valid[None]).select(index)
    rows, columns = HEIGHT // 4, WIDTH // 4
    y, x = torch.meshgrid(4 * (torch.arange(rows) + 0.5), 4 * (torch.arange(columns) + 0.5), indexing="ij")
    centres = torch.stack([x, y], -1)
    away = (centres - picked.xy[..., None, None, :]).square().sum(-1)  # [B, V, T, P, rows, columns]
    bumps = torch.exp(-away / 18.0)
    maps = torch.cat([bumps, torch.full_like(bumps[:, :, :, :1], 0.2)], 3)
    frozen = static_tracks(picked.xy[:, :, 0], FRAMES)
    losses = [
        tracking_terms(maps, xy, picked.visible, chosen, (HEIGHT, WIDTH), temperature=20, radius=2)
        for xy in (picked.xy, frozen)
    ]
    assert losses[0].pos_count > 20
    true, still = (float(terms.pos_sum / terms.pos_count) for terms in losses)
    assert true < 0.5 * still
    assert losses[0].corr_sum < losses[1].corr_sum


def static_error(clip: dict) -> float:
    """One minus delta_avg of the static baseline: how much a clip moves on its picture."""
    tracks = tracks_of(clip)
    frozen = static_tracks(tracks.xy[:, 0], FRAMES)
    scores = tap_vid(frozen, None, tracks.xy, tracks.visible, (HEIGHT, WIDTH), query_valid=tracks.query_valid)
    return 1 - scores.summary()["delta_avg"]
