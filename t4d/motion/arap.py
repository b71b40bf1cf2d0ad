"""As rigid as possible: neighbouring Gaussians keep their distances up to a local rotation."""

import math

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from t4d.geometry.rotations import quat_to_matrix

NEWTON_STEPS = 12
CONVERGED = 1e-10  # last step of the greatest root, of covariances of norm 1
DETERMINED = 1e-6  # product of the gaps between that root and the others
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
    """Rotations [..., 3, 3] that bring source edges [..., K, 3] nearest to target edges (least squares).

    The unit quaternion of the best rotation is the eigenvector of a symmetric 4 x 4 matrix for its greatest eigenvalue
    (Horn 1987). That eigenvalue is found by Newton's method on the characteristic polynomial (Theobald 2005), its
    eigenvector by the polynomial of the other three, all in float64. Where the rotation is not determined (collinear
    edges, a point symmetry) the singular values decide, ``kabsch_by_svd``.
    """
    covariance = (source.mT @ target).double()
    covariance = covariance / torch.linalg.matrix_norm(covariance, keepdim=True).clamp(min=1e-300)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in covariance.unbind(-2))
    rows = [
        [xx + yy + zz, yz - zy, zx - xz, xy - yx],
        [yz - zy, xx - yy - zz, xy + yx, zx + xz],
        [zx - xz, xy + yx, yy - xx - zz, yz + zy],
        [xy - yx, zx + xz, yz + zy, zz - xx - yy],
    ]
    matrix = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    # l^4 + a l^2 + b l + c; its greatest root is a sum of the singular values, at most sqrt(3) times their norm, 1.
    a, b, c = -2.0, -8 * torch.linalg.det(covariance), torch.linalg.det(matrix)
    root = torch.full_like(b, math.sqrt(3))
    step = root
    for _ in range(NEWTON_STEPS):
        slope = (4 * root * root + 2 * a) * root + b
        step = (((root * root + a) * root + b) * root + c) / slope.clamp(min=1e-300)
        step = step.clamp(min=0)
        root = root - step
    # The polynomial without its greatest root, of the matrix, projects onto the eigenvector.
    square_matrix = matrix @ matrix
    rest = (root * root + a)[..., None, None] * matrix + root[..., None, None] * square_matrix + square_matrix @ matrix
    diagonal = rest.diagonal(dim1=-2, dim2=-1)
    diagonal += ((root * root + a) * root + b)[..., None]
    size, column = diagonal.max(dim=-1)
    quat = rest.gather(-1, column[..., None, None].expand(*column.shape, 4, 1))[..., 0]
    rotation = quat_to_matrix(quat).to(source)
    vague = ~((size > DETERMINED) & (step < CONVERGED))
    if bool(vague.any()):
        rotation[vague] = kabsch_by_svd(covariance[vague]).to(source)
    return rotation


def kabsch_by_svd(
    covariance: Tensor,  # [..., 3, 3]
) -> Tensor:
    """The same rotations from source^T target; slower, for all matrices."""
    u, _, vt = torch.linalg.svd(covariance)
    v = vt.mT
    flip = torch.ones_like(u[..., 0])
    flip[..., 2] = torch.det(v @ u.mT).sign()  # singular values descend: a reflection is undone in the least of them
    return (v * flip[..., None, :]) @ u.mT
