"""How near points in space are to the truth, and how evenly they move."""

from collections.abc import Sequence

import torch
from torch import Tensor


def distances(
    points: Tensor,  # [T, N, 3]
    truth: Tensor,  # [T, N, 3]
) -> Tensor:
    """Distance of every point from its true place, [T, N], in the units of the arguments (world).

    Raises:
        ValueError: the shapes differ or are not points.
    """
    if points.shape != truth.shape or points.dim() < 2 or points.shape[-1] != 3:
        raise ValueError(
            f"points have shapes {list(points.shape)} and {list(truth.shape)}, expected the same [..., N, 3]"
        )
    return (points - truth).norm(dim=-1)


def within(
    distance: Tensor,  # [...]
    diagonal: float,
    shares: Sequence[float] = (0.02, 0.05, 0.1),
) -> dict[float, float]:
    """3D track accuracy: the share of points x frames nearer to the truth than a share of the object's size.

    Args:
        distance: of every point in every judged frame, world units.
        diagonal: of the bounds of the static object, world units, > 0.
        shares: thresholds in diagonals. Strictly below counts, as in TAP-Vid's delta.

    Returns:
        {threshold: 0..1}.

    Raises:
        ValueError: nothing to judge, or the diagonal is not positive.
    """
    if distance.numel() == 0 or not diagonal > 0:
        raise ValueError(f"{distance.numel()} distances and a diagonal of {diagonal} were given, expected > 0 of both")
    return {share: float((distance < share * diagonal).double().mean()) for share in shares}


def share_of_gap(static: float, fitted: float, oracle: float) -> float:
    """How much of the error that motion causes a fit removes: 0 the unmoved object, 1 the truth posed.

    Args:
        static, fitted, oracle: errors of the unmoved object, the fit and the same primitives posed by the truth.

    Returns:
        (static - fitted) / (static - oracle); may exceed 1 or fall below 0.

    Raises:
        ValueError: there is no gap, the clip does not move.
    """
    if not static > oracle:
        raise ValueError(
            f"the unmoved object's error {static:.3g} is not above the oracle's {oracle:.3g}: the clip has no motion "
            "to recover, choose another"
        )
    return (static - fitted) / (static - oracle)


def jitter(
    path: Tensor,  # [T, ..., D]
) -> float:
    """Unevenness of motion: RMS second difference in time over RMS first difference.

    Zero for constant velocity, 2 for a point that jumps to and fro between two places, 1.73 for white noise. Blind to
    the amount of motion.

    Args:
        path: T >= 3 frames of positions or colours, any units.

    Returns:
        >= 0; 0 where nothing moves.

    Raises:
        ValueError: fewer than 3 frames.
    """
    if path.shape[0] < 3:
        raise ValueError(f"a path has {path.shape[0]} frames, expected at least 3")
    path = path.double()
    first = path[1:] - path[:-1]
    second = first[1:] - first[:-1]
    return float(second.square().mean().sqrt() / first.square().mean().sqrt().clamp(min=1e-12))


def color_drift(
    colors: Tensor,  # [T, N, 3]
    still: Tensor,  # [N, 3] or [T, N, 3]
    where: Tensor | None = None,  # [T, N]
) -> float:
    """Mean absolute difference of the colours of points from those they should have, sRGB 0..1.

    Against the static object's colours this is how far appearance leaves the given object; against the true re-lit
    colours it is the error of the fitted appearance.

    Args:
        colors: of every point in every frame.
        still: wanted colours.
        where: bool, the points and frames that count (seen ones); all if None.

    Raises:
        ValueError: the shapes do not fit, or nothing counts.
    """
    if colors.dim() != 3 or tuple(still.shape) not in (tuple(colors.shape), tuple(colors.shape[1:])):
        raise ValueError(
            f"colours have shapes {list(colors.shape)} and {list(still.shape)}, "
            "expected [T, N, 3] and [T, N, 3] or [N, 3]"
        )
    where = torch.ones_like(colors[..., 0], dtype=torch.bool) if where is None else where
    if where.shape != colors.shape[:2] or not bool(where.any()):
        raise ValueError(f"points that count have shape {list(where.shape)}, expected some of {list(colors.shape[:2])}")
    return float((colors - still).abs().double()[where].mean())


def area_change(
    coverage: Tensor,  # [T, V, H, W]
    reference: Tensor,  # [T, V, H, W] or [1, V, H, W]
) -> float:
    """Mean |ln(silhouette area / reference area)| over frames and views: 0 equal, 0.69 half or double.

    Args:
        coverage: 0..1; above one half is inside.
        reference: the clip's coverage, or the static object's as one frame.

    Raises:
        ValueError: the shapes do not fit.
    """
    if coverage.dim() != 4 or reference.shape[1:] != coverage.shape[1:] or len(reference) not in (1, len(coverage)):
        raise ValueError(
            f"coverages have shapes {list(coverage.shape)} and {list(reference.shape)}, expected [T, V, H, W] twice"
        )
    area, wanted = ((c > 0.5).flatten(2).sum(-1).double().clamp(min=1) for c in (coverage, reference))
    return float((area / wanted).log().abs().mean())


def relative_rigidity(arap: float, rest: Tensor, neighbours: Tensor) -> float:
    """ARAP energy in units of the squared edge lengths: 0 rigid, 0.01 edges off by a tenth of their length.

    Args:
        arap: mean squared edge error after the best local rotations, world units squared.
        rest: [N, 3] static points.
        neighbours: [N, K] indices that energy was taken over.

    Raises:
        ValueError: all edges have no length.
    """
    edge = float((rest[:, None] - rest[neighbours]).square().sum(-1).double().mean())
    if not edge > 0:
        raise ValueError("all neighbouring points coincide, expected points at different places")
    return arap / edge


def maximum_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest absolute difference between tensors of the same names; 0 means the same numbers.

    Raises:
        ValueError: names or shapes differ.
    """
    if set(a) != set(b) or any(a[name].shape != b[name].shape for name in a):
        raise ValueError(f"tensors {sorted(a)} and {sorted(b)} do not have the same names and shapes")
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)
