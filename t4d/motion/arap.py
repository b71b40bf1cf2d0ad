"""As rigid as possible: neighbouring Gaussians keep their distances up to a local rotation."""

import torch
from scipy.spatial import cKDTree
from torch import Tensor

SUM_FORM = 23_040  # 15 frames x 512 samples x 3 neighbours: the mean edge error times this is the sum of all of them


def nearest_neighbours(
    points: Tensor,  # [N, 3]
    count: int = 3,
) -> Tensor:
    """[N, count] int64 indices of the nearest other points (fewer columns where there are fewer points)."""
    cloud = points.detach().cpu().numpy()
    count = min(count, len(cloud) - 1)
    near = torch.from_numpy(cKDTree(cloud).query(cloud, k=[*range(1, count + 2)])[1]).long()
    # The point itself is removed by name: among coincident points it need not come first, or at all.
    itself = near == torch.arange(len(cloud))[:, None]
    order = itself.to(torch.int8).argsort(dim=1, stable=True)
    return near.gather(1, order)[:, :count].to(points.device)


def arap_loss(
    rest: Tensor,  # [N, 3]
    moved: Tensor,  # [T, N, 3]
    neighbours: Tensor,  # [N, K]
    sample: Tensor,  # [M]
) -> Tensor:
    """Mean squared edge error after the best local rotation (``L_ARAP`` of the paper, as SC-GS defines it).

    For every sampled point i and frame: e = rest_i - rest_j, e' = moved_i - moved_j over its neighbours j, R = the
    rotation that brings e nearest to e' (Kabsch, not differentiated), error = |e' - R e|^2. ``SUM_FORM`` times the
    mean is the sum form at full frames, to which the paper's weights belong.

    Args:
        rest: static centres.
        moved: the same centres at T times.
        neighbours: indices, from ``nearest_neighbours``.
        sample: indices of the points that are judged.

    Returns:
        Scalar, world units squared.
    """
    near = neighbours[sample]  # [M, K]
    edge = rest[sample, None] - rest[near]  # [M, K, 3]
    moved_edge = moved[:, sample, None] - moved[:, near]  # [T, M, K, 3]
    with torch.no_grad():
        rotation = kabsch(edge.expand_as(moved_edge), moved_edge)  # [T, M, 3, 3]
    turned = (rotation[..., None, :, :] @ edge[..., None])[..., 0]
    return (moved_edge - turned).square().sum(-1).mean()


def kabsch(source: Tensor, target: Tensor) -> Tensor:
    """Rotations [..., 3, 3] that bring source edges [..., K, 3] nearest to target edges (least squares)."""
    u, _, vt = torch.linalg.svd(source.mT @ target)
    v = vt.mT
    flip = torch.ones_like(u[..., 0])
    flip[..., 2] = torch.det(v @ u.mT).sign()  # singular values descend: a reflection is undone in the least of them
    return (v * flip[..., None, :]) @ u.mT
