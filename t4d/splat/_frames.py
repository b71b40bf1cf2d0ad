"""Rotations of triangles from one pose to another."""

import numpy as np

EPS = 1e-12


def triangle_rotations(
    rest: np.ndarray,  # [N, 3, 3]
    posed: np.ndarray,  # [..., N, 3, 3]
) -> np.ndarray:
    """The rotation part of each triangle's deformation.

    Args:
        rest: corner positions, float64.
        posed: the same corners elsewhere.

    Returns:
        Rotations [..., N, 3, 3]; never NaN, also for collapsed triangles.
    """
    rest_frame, rest_edges = _frames(rest, np.broadcast_to(np.eye(3), (*rest.shape[:-2], 3, 3)))
    rest_frame = np.broadcast_to(rest_frame, posed.shape)
    frame, edges = _frames(posed, rest_frame)
    # In the plane: A maps the rest edges to the posed ones; the angle of its polar rotation has a closed form.
    a = edges @ np.broadcast_to(_adjugate(rest_edges), edges.shape)
    angle = np.arctan2(a[..., 1, 0] - a[..., 0, 1], a[..., 0, 0] + a[..., 1, 1])
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    in_plane = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=-1).reshape(*angle.shape, 3, 3)
    return frame @ in_plane @ np.swapaxes(rest_frame, -1, -2)


def _frames(corners: np.ndarray, fallback: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal frames (columns: along the first edge, across it, normal) and both edges in the plane [..., 2, 2]."""
    e1, e2 = corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]
    size = np.maximum(np.linalg.norm(e1, axis=-1), np.linalg.norm(e2, axis=-1))[..., None]
    # The longer edge first: the shorter one may have no direction.
    swap = np.linalg.norm(e1, axis=-1) < np.linalg.norm(e2, axis=-1)
    tangent = _unit(np.where(swap[..., None], e2, e1), fallback[..., :, 0], size)
    normal = np.cross(e1, e2)
    flat = np.linalg.norm(normal, axis=-1, keepdims=True) <= 1e-9 * size * size
    hint = np.where(flat, fallback[..., :, 2], normal)
    hint = hint - (hint * tangent).sum(-1, keepdims=True) * tangent
    other = fallback[..., :, 1] - (fallback[..., :, 1] * tangent).sum(-1, keepdims=True) * tangent
    lost = np.linalg.norm(hint, axis=-1, keepdims=True) <= 1e-9 * np.where(flat, 1.0, size * size)
    normal = _unit(np.where(lost, other, hint), fallback[..., :, 2], 0 * size)
    across = np.cross(normal, tangent)
    in_plane = np.stack([tangent, across], axis=-2) @ np.stack([e1, e2], axis=-1)
    return np.stack([tangent, across, normal], axis=-1), in_plane


def _unit(v: np.ndarray, fallback: np.ndarray, size: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    bad = ~(length > EPS * np.maximum(size, 1e-18))
    return np.where(bad, fallback, v / np.where(bad, 1.0, length))


def _adjugate(m: np.ndarray) -> np.ndarray:
    """Inverse of [..., 2, 2] times its determinant (which is positive here, so the angle is the same)."""
    return np.stack([m[..., 1, 1], -m[..., 0, 1], -m[..., 1, 0], m[..., 0, 0]], axis=-1).reshape(m.shape)
