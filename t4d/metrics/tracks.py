"""Accuracy of point tracks: TAP-Vid's scores, PCK, and the two lines every score must be read against."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, grid_sample

from t4d.errors import InputError

THRESHOLDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # pixels of a 256 x 256 raster
RASTER = 256


@dataclass(frozen=True)
class TapScores:
    """TAP-Vid scores of every video, NaN where a video has nothing to score.

    Attributes:
        occlusion_accuracy: [...] OA.
        within: [..., 5] delta^x for x in 1, 2, 4, 8, 16.
        delta_avg: [...] mean of `within`.
        jaccard: [..., 5] Jaccard_x.
        average_jaccard: [...] AJ, mean of `jaccard`.
        evaluated: [...] int64, (frame, point) pairs looked at.
        visible: [...] int64, those whose point is truly visible.
    """

    occlusion_accuracy: Tensor
    within: Tensor
    delta_avg: Tensor
    jaccard: Tensor
    average_jaccard: Tensor
    evaluated: Tensor
    visible: Tensor

    def summary(self) -> dict[str, float | int]:
        """Plain means over videos (TAP-Vid's convention) without the NaN ones.

        Returns:
            oa, delta_avg, aj, delta_1 .. delta_16, jaccard_1 .. jaccard_16 (NaN if no video has a value), and counts:
            videos, videos_scored (with a delta_avg), points_visible, points_evaluated.
        """
        values = {"oa": self.occlusion_accuracy, "delta_avg": self.delta_avg, "aj": self.average_jaccard}
        for i, threshold in enumerate(THRESHOLDS):
            values[f"delta_{threshold:g}"] = self.within[..., i]
            values[f"jaccard_{threshold:g}"] = self.jaccard[..., i]
        result: dict[str, float | int] = {name: float(value.nanmean()) for name, value in values.items()}
        return result | {
            "videos": self.evaluated.numel(),
            "videos_scored": int((~self.delta_avg.isnan()).sum()),
            "points_visible": int(self.visible.sum()),
            "points_evaluated": int(self.evaluated.sum()),
        }


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole in float64, NaN where whole is 0."""
    return torch.where(whole > 0, part.double() / whole.clamp(min=1), torch.nan)


def evaluated_frames(
    visible: Tensor,  # [..., T, N]
    query_frames: Tensor | None = None,  # [..., N]
    query_mode: str = "first",
    query_valid: Tensor | None = None,  # [..., N]
) -> Tensor:
    """Which (frame, point) pairs count, [..., T, N] bool.

    Args:
        visible: True visibility.
        query_frames: Frame of each point's query (rounded to the nearest frame); None: frame 0.
        query_mode: "first": frames strictly after the query; "strided": all frames but the query's.
        query_valid: Points that exist; others never count. None: all.

    Raises:
        InputError: Unknown mode.
    """
    if query_mode not in ("first", "strided"):
        raise InputError(f"Query mode {query_mode!r}; expected 'first' or 'strided'.")
    frame = torch.arange(visible.shape[-2], device=visible.device)[:, None]
    if query_frames is None:
        query_frames = torch.zeros_like(visible[..., 0, :], dtype=torch.int64)
    start = query_frames.round().unsqueeze(-2)
    counted = (frame > start) if query_mode == "first" else (frame != start)
    if query_valid is not None:
        counted = counted & query_valid.unsqueeze(-2)
    return counted.expand_as(visible)


def tap_vid(
    predicted: Tensor,  # [..., T, N, 2]
    predicted_visible: Tensor | None,  # [..., T, N] bool
    truth: Tensor,  # [..., T, N, 2]
    visible: Tensor,  # [..., T, N] bool
    image_size: tuple[int, int],
    *,
    query_frames: Tensor | None = None,
    query_mode: str = "first",
    query_valid: Tensor | None = None,
) -> TapScores:
    """TAP-Vid scores (Doersch et al. 2022): OA, delta^x, delta_avg, Jaccard_x and AJ of every video.

    Positions are scaled to a 256 x 256 raster before the thresholds 1, 2, 4, 8, 16 px apply. delta^x: share of truly
    visible points predicted less than x away (strictly), whatever visibility was predicted. Jaccard_x = TP / (truly
    visible + FP): TP is visible, predicted visible and within x; FP is predicted visible and hidden or not within x,
    so that a visible point predicted visible but too far counts in both terms of the denominator.

    Args:
        predicted, truth: Pixels, x right, y down.
        predicted_visible: None for a predictor of positions only: OA, Jaccard and AJ are NaN then.
        visible: True visibility.
        image_size: (H, W) of the picture the positions are in.
        query_frames, query_mode, query_valid: As in :func:`evaluated_frames`.

    Returns:
        Scores by video (one per element of the leading dimensions), 0..1.

    Raises:
        InputError: Shapes do not fit, or a counted position is not finite.
    """
    if predicted.shape != truth.shape or truth.ndim < 3 or truth.shape[-1] != 2 or visible.shape != truth.shape[:-1]:
        raise InputError(
            f"Predicted tracks are {list(predicted.shape)}, true ones {list(truth.shape)} and visibility "
            f"{list(visible.shape)}; expected [.., T, N, 2] twice and [.., T, N]."
        )
    if predicted_visible is not None and predicted_visible.shape != visible.shape:
        raise InputError(
            f"Predicted visibility is {list(predicted_visible.shape)}; expected {list(visible.shape)} as the true one."
        )
    counted = evaluated_frames(visible, query_frames, query_mode, query_valid)
    height, width = image_size
    scale = torch.tensor([RASTER / width, RASTER / height], dtype=torch.float64, device=truth.device)
    distance = ((predicted.double() - truth.double()) * scale).square().sum(-1).sqrt()
    seen = counted & visible
    if not bool(torch.isfinite(distance[seen]).all()):
        raise InputError(
            "A predicted or true position of a visible point is not finite; give a number for every frame."
        )
    dims = (-2, -1)
    close = torch.stack([distance < x for x in THRESHOLDS])  # [5, ..., T, N]
    positives = seen.sum(dims)
    within = _ratio((close & seen).sum(dims), positives).movedim(0, -1)
    if predicted_visible is None:
        oa, jaccard = torch.full_like(within[..., 0], torch.nan), torch.full_like(within, torch.nan)
    else:
        claimed = predicted_visible & counted
        oa = _ratio(((predicted_visible == visible) & counted).sum(dims), counted.sum(dims))
        hits = (close & claimed & visible).sum(dims)
        misses = (claimed & ~(close & visible)).sum(dims)
        jaccard = _ratio(hits, positives + misses).movedim(0, -1)
    return TapScores(oa, within, within.mean(-1), jaccard, jaccard.mean(-1), counted.sum(dims), positives)


def mask_sides(mask: Tensor) -> Tensor:
    """Longer side of the bounding box of every mask [..., H, W] (covered from .5 on), pixels [...]; 0 if empty."""
    covered = mask if mask.dtype == torch.bool else mask >= 0.5

    def extent(line: Tensor) -> Tensor:
        place = torch.arange(line.shape[-1], device=line.device)
        last = torch.where(line, place, -1).amax(-1)
        first = torch.where(line, place, line.shape[-1]).amin(-1)
        return (last - first + 1).clamp(min=0)

    return torch.maximum(extent(covered.any(-1)), extent(covered.any(-2)))


def pck(
    predicted: Tensor,  # [..., T, N, 2]
    truth: Tensor,  # [..., T, N, 2]
    counted: Tensor,  # [..., T, N] bool
    sides: Tensor | float,  # [..., T]
    alphas: Sequence[float] = (0.05, 0.1, 0.2),
) -> Tensor:
    """Percentage of correct keypoints, as a share: distance <= alpha * side of the target frame's box.

    With `sides` the stride of a feature map in pixels and alphas .5, 1, it is the share within half a cell and a cell.

    Args:
        predicted, truth: Pixels.
        counted: Pairs to score, for example ``evaluated_frames(...) & visible``.
        sides: Pixels, such as :func:`mask_sides` of each frame.
        alphas: Shares of the side.

    Returns:
        [..., len(alphas)] by video, NaN where nothing counts.

    Raises:
        InputError: Shapes do not fit.
    """
    if predicted.shape != truth.shape or counted.shape != truth.shape[:-1]:
        raise InputError(
            f"Predicted tracks are {list(predicted.shape)}, true ones {list(truth.shape)} and the selection "
            f"{list(counted.shape)}; expected [.., T, N, 2] twice and [.., T, N]."
        )
    sides = torch.as_tensor(sides, dtype=torch.float64, device=truth.device)
    if sides.ndim and sides.shape != truth.shape[:-2]:
        raise InputError(f"Box sides are {list(sides.shape)}; expected one per frame, {list(truth.shape[:-2])}.")
    distance = (predicted.double() - truth.double()).square().sum(-1).sqrt()
    hits = torch.stack([(distance <= alpha * sides.unsqueeze(-1)) & counted for alpha in alphas])
    return _ratio(hits.sum((-2, -1)), counted.sum((-2, -1))).movedim(0, -1)


def static_tracks(queries: Tensor, frames: int) -> Tensor:
    """The baseline that nothing ever moves: queries [..., N, 2] repeated, [..., T, N, 2]."""
    return queries.unsqueeze(-3).expand(*queries.shape[:-2], frames, *queries.shape[-2:])


def oracle_tracks(truth: Tensor, image_size: tuple[int, int], map_size: tuple[int, int]) -> Tensor:
    """The ceiling of a hard argmax: the centre of the map cell that contains the true point, pixels [..., 2]."""
    (height, width), (rows, columns) = image_size, map_size
    stride = truth.new_tensor([width / columns, height / rows])
    last = truth.new_tensor([columns - 1, rows - 1])
    return (torch.minimum((truth / stride).floor().clamp(min=0), last) + 0.5) * stride


def descriptor_drift(
    maps: Tensor,  # [..., T, C, h, w]
    xy_px: Tensor,  # [..., T, N, 2]
    visible: Tensor,  # [..., T, N] bool
    image_size: tuple[int, int],
) -> Tensor:
    """How far the feature of one surface point wanders: 1 - cosine between frame 0 and each later frame at its true
    place.

    Args:
        maps: Feature maps of every frame.
        xy_px: True tracks, pixels.
        visible: Counted where the point is visible in frame 0 and in the later frame.
        image_size: (H, W) of the pictures.

    Returns:
        [...] float64 means by video, NaN where no point is visible twice.

    Raises:
        InputError: Shapes do not fit, or the maps are not finite.
    """
    if maps.shape[:-3] != xy_px.shape[:-2] or visible.shape != xy_px.shape[:-1]:
        raise InputError(
            f"Maps are {list(maps.shape)}, tracks {list(xy_px.shape)} and visibility {list(visible.shape)}; expected "
            "[.., T, C, h, w], [.., T, N, 2] and [.., T, N]."
        )
    if not bool(torch.isfinite(maps).all()):
        raise InputError("Feature maps hold numbers that are not finite; run the network in float32 or bfloat16.")
    height, width = image_size
    grid = 2 * xy_px.double() / xy_px.new_tensor([width, height], dtype=torch.float64) - 1
    flat = maps.double().reshape(-1, *maps.shape[-3:])
    points = grid_sample(
        flat, grid.reshape(len(flat), 1, -1, 2), padding_mode="border", align_corners=False
    )  # [.. T, C, 1, N]
    found = points[:, :, 0].transpose(1, 2).reshape(*xy_px.shape[:-1], -1)
    away = 1 - cosine_similarity(found[..., :1, :, :], found[..., 1:, :, :], dim=-1)
    both = visible[..., :1, :] & visible[..., 1:, :]
    return _ratio(away.masked_fill(~both, 0).sum((-2, -1)), both.sum((-2, -1)))
