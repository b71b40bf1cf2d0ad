"""Unit quaternions in (w, x, y, z) order and rotation matrices; every function is batched and differentiable."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def quat_to_matrix(quats: Tensor) -> Tensor:
    """Rotation matrices of quaternions.

    Args:
        quats: [..., 4] (w, x, y, z), any non-zero length (normalised here).

    Returns:
        [..., 3, 3].
    """
    w, x, y, z = normalize(quats, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def matrix_to_quat(matrices: Tensor) -> Tensor:
    """Unit quaternions of rotation matrices, w >= 0.

    Args:
        matrices: [..., 3, 3] proper rotations.

    Returns:
        [..., 4] (w, x, y, z).
    """
    m = matrices
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    # Each row is 4 q_i * q for one component q_i; the row of the largest component is far from zero.
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    candidates = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, wx, wy, wz], -1),
            torch.stack([wx, 1 + xx - yy - zz, xy, xz], -1),
            torch.stack([wy, xy, 1 - xx + yy - zz, yz], -1),
            torch.stack([wz, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    best = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(-1)
    chosen = torch.take_along_dim(candidates, best[..., None, None], dim=-2).squeeze(-2)
    quats = normalize(chosen, dim=-1)
    return torch.where(quats[..., :1] < 0, -quats, quats)


def quat_multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product, rotation ``b`` first, then ``a``; [..., 4] each, broadcast."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def slerp(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """Spherical interpolation along the shorter arc.

    Args:
        a: [..., 4] unit quaternions at t = 0.
        b: [..., 4] unit quaternions at t = 1; its sign is chosen so that the arc is the shorter one.
        t: fraction, a number or [...].

    Returns:
        [..., 4] unit quaternions.
    """
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)[..., None]
    dot = (a * b).sum(-1, keepdim=True)
    b = torch.where(dot < 0, -b, b)
    dot = dot.abs()
    near = dot > 1 - 1e-6  # sin(angle) vanishes there and the chord is the arc
    angle = torch.acos(torch.where(near, torch.zeros_like(dot), dot).clamp(max=1))
    sine = torch.where(near, torch.ones_like(dot), torch.sin(angle))
    wa = torch.where(near, 1 - t, torch.sin((1 - t) * angle) / sine)
    wb = torch.where(near, t, torch.sin(t * angle) / sine)
    return normalize(wa * a + wb * b, dim=-1)
