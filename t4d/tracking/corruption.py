"""Wrong tracks on purpose: what trackers get wrong, in known doses."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t4d.errors import InputError

KINDS = ("swap", "drift", "jump")


@dataclass(frozen=True)
class CorruptedTracks:
    """Tracks after :func:`corrupt`.

    Attributes:
        xy: [V, T, N, 2] pixels.
        visible: [V, T, N] bool, what the faulty tracker claims.
        kind: [V, N] int64, index into `KINDS`; -1 where the track is as it was.
    """

    xy: Tensor
    visible: Tensor
    kind: Tensor


def corrupt(
    tracks: Tensor,  # [V, T, N, 2]
    visible: Tensor,  # [V, T, N]
    query_valid: Tensor,  # [V, N]
    share: float,
    kinds: Sequence[str],
    generator: torch.Generator,
    mask: Tensor | None = None,  # [V, T, H, W]
) -> CorruptedTracks:
    """Corrupt a share of the valid tracks of one clip, for the dose-response experiment.

    In every view the number of corrupted tracks is share times the valid ones, rounded up or down at random so that
    the expectation is exact; each gets one of `kinds` with equal chance:

    - ``swap``: from a random frame on the track is the one of another valid point (which keeps its own), with that
      point's visibility: the identity switch of similar parts crossing.
    - ``drift``: an error in a fixed random direction grows linearly from 0 in frame 0 to 5..15 % of the longer side of
      the object's box in the last frame; visibility stays.
    - ``jump``: during one of the track's hidden spans (a random span of at most a quarter of the clip if it has none)
      the track sits on another valid point, one that is visible as the span starts if there is one, and is claimed
      visible: what a tracker does to an occluded point when it follows the occluder.

    Frame 0, the query, never changes. Swap and jump need a second valid point in the view: a lone point is left as it
    is and reported so. All draws are on the CPU from `generator` alone.

    Args:
        tracks: Pixels.
        visible, query_valid: bool.
        share: 0..1.
        kinds: Some of ``swap``, ``drift``, ``jump``.
        generator: CPU generator of this clip.
        mask: Coverage of each frame, for the object's box in frame 0; None: the box of the valid points in frame 0.

    Returns:
        Copies; the arguments stay as they are.

    Raises:
        InputError: Shapes, share or kinds are not as above.
    """
    _check(tracks, visible, query_valid, share, kinds, mask)
    views, frames, points = visible.shape
    xy, seen = tracks.clone(), visible.clone()
    kind = torch.full((views, points), -1, dtype=torch.int64)
    if frames < 2:
        return CorruptedTracks(xy, seen, kind.to(tracks.device))
    for v in range(views):
        valid = query_valid[v].nonzero()[:, 0].cpu()
        quota = int(share * len(valid) + _uniform(generator))
        order = torch.randperm(len(valid), generator=generator)
        side = _box_side(tracks[v, 0], query_valid[v], None if mask is None else mask[v, 0])
        for n in valid[order[:quota]].tolist():
            name = kinds[_below(len(kinds), generator)]
            others = valid[valid != n]
            if name == "drift":
                xy[v, :, n] += _drift(frames, side, generator).to(xy)
            elif len(others) == 0:
                continue
            elif name == "swap":
                start = 1 + _below(frames - 1, generator)
                other = int(others[_below(len(others), generator)])
                xy[v, start:, n], seen[v, start:, n] = tracks[v, start:, other], visible[v, start:, other]
            else:
                start, stop = _span(visible[v, :, n].cpu(), generator)
                candidates = others[visible[v, start].cpu()[others]]
                candidates = candidates if len(candidates) else others
                other = int(candidates[_below(len(candidates), generator)])
                xy[v, start:stop, n], seen[v, start:stop, n] = tracks[v, start:stop, other], True
            kind[v, n] = KINDS.index(name)
    return CorruptedTracks(xy, seen, kind.to(tracks.device))


def _check(
    tracks: Tensor, visible: Tensor, query_valid: Tensor, share: float, kinds: Sequence[str], mask: Tensor | None
) -> None:
    """Raise InputError for what :func:`corrupt` cannot take."""
    if tracks.ndim != 4 or visible.shape != tracks.shape[:-1] or query_valid.shape != (len(tracks), tracks.shape[2]):
        raise InputError(
            f"Tracks are {list(tracks.shape)}, visibility {list(visible.shape)} and query_valid "
            f"{list(query_valid.shape)}; expected [V, T, N, 2], [V, T, N] and [V, N]."
        )
    if not 0 <= share <= 1:
        raise InputError(f"Share of corrupted tracks {share}; expected 0 to 1.")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise InputError(f"Kinds of corruption {list(kinds)}; expected some of {list(KINDS)}.")
    if mask is not None and (mask.ndim != 4 or mask.shape[:2] != tracks.shape[:2]):
        raise InputError(f"Masks are {list(mask.shape)}; expected {[*tracks.shape[:2], 'H', 'W']}.")


def _uniform(generator: torch.Generator) -> float:
    """A number in [0, 1)."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _below(count: int, generator: torch.Generator) -> int:
    """An integer in 0 .. count - 1."""
    return int(torch.randint(count, (), generator=generator))


def _drift(frames: int, side: float, generator: torch.Generator) -> Tensor:
    """Offsets [T, 2], pixels: a straight line from 0 to 5..15 % of the box side in a random direction."""
    angle = torch.tensor(2 * torch.pi * _uniform(generator))
    reach = side * (0.05 + 0.10 * _uniform(generator))
    return torch.linspace(0, reach, frames)[:, None] * torch.stack([angle.cos(), angle.sin()])


def _box_side(first: Tensor, valid: Tensor, mask: Tensor | None) -> float:
    """Longer side of the object's box in frame 0, pixels, from its mask or its query points [N, 2]."""
    if mask is not None:
        covered = (mask >= 0.5) if mask.dtype != torch.bool else mask
        spots = covered.nonzero()
        return float((spots.amax(0) - spots.amin(0) + 1).max()) if len(spots) else 0.0
    inside = first[valid]
    if not len(inside):
        return 0.0
    # a small object may hold a single query: the grid's own spacing is the scale then
    columns = first[:, 0].unique()
    spacing = float(columns.diff().amax()) if len(columns) > 1 else 1.0
    return float((inside.amax(0) - inside.amin(0)).max()) + spacing


def _span(visible: Tensor, generator: torch.Generator) -> tuple[int, int]:
    """Frames [start, stop), start > 0: one of the hidden spans of a track [T] bool, or a random span if it has none."""
    frames = len(visible)
    spans, start = [], None
    for frame in range(1, frames + 1):
        hidden = frame < frames and not bool(visible[frame])
        if hidden and start is None:
            start = frame
        elif not hidden and start is not None:
            spans.append((start, frame))
            start = None
    if spans:
        return spans[_below(len(spans), generator)]
    first = 1 + _below(frames - 1, generator)
    return first, min(frames, first + 1 + _below(max(frames // 4, 1), generator))
