"""Slow twin of `t4d.data.render`: every sample asks every triangle, in float64 numpy, nothing clever."""

from collections.abc import Sequence

import numpy as np

from t4d.data.render import NEAR, TOLERANCE, ClipRender, Samples
from t4d.geometry.camera import Camera


def render_clip_reference(
    vertices: np.ndarray,
    faces: np.ndarray,
    srgb: np.ndarray,
    cameras: Sequence[Camera],
    *,
    supersample: int = 2,
    flow_cell: int = 2,
    background: float = 0.5,
    grid: int = 0,
) -> ClipRender:
    """As `render_clip` with `keep_samples=True`; arguments and results mean the same."""
    views, frames = len(cameras), len(vertices)
    width, height = cameras[0].width * supersample, cameras[0].height * supersample
    y, x = (g + 0.5 for g in np.mgrid[:height, :width].astype(np.float64))
    rgba, flows, valids, kept = [], [], [], []
    share = (np.arange(grid) + 0.5) / grid if grid else np.empty(0)
    column, row = np.meshgrid(share, share)
    queries = np.stack([column * width, row * height], -1)  # [grid, grid, 2] samples
    xy = np.empty((views, frames, grid * grid, 2))
    seen_points, query_valid = np.zeros(xy.shape[:3], bool), np.zeros((views, grid * grid), bool)
    for v, camera in enumerate(cameras):
        screens = [_screen(posed, camera, supersample) for posed in vertices]
        _, point_face, point_bary = _nearest(screens[0], faces, queries[..., 0], queries[..., 1])
        on = (point_face >= 0).ravel()
        query_valid[v], xy[v] = on, queries.reshape(-1, 2) / supersample
        point_face, point_bary = point_face.ravel()[on], point_bary.reshape(-1, 3)[on]
        first = None
        for t in range(frames):
            depth, face, bary = _nearest(screens[t], faces, x, y)
            first = (depth, face) if first is None else first
            hit = face >= 0
            corner = faces[np.maximum(face, 0)]  # [h, w, 3]
            color = (srgb[t][corner] * bary[..., None]).sum(-2)
            color = np.where(hit[..., None], color, background)
            picture = np.concatenate([color, hit[..., None].astype(np.float64)], -1)
            rgba.append(_cells(picture, supersample).mean(2).transpose(2, 0, 1))
            # Where the same surface point was in frame 0: its position is linear in the world, so divide last.
            at = (
                screens[0][corner]
                * bary[..., None]
                * np.stack([screens[0][corner][..., 2]] * 2 + [np.ones(corner.shape)], -1)
            ).sum(-2)
            z0 = at[..., 2]
            x0, y0 = at[..., 0] / np.where(hit, z0, 1), at[..., 1] / np.where(hit, z0, 1)
            seen = hit & _visible(None, faces, *first, face, x0, y0, z0)
            move = np.stack([(x0 - x) * 2 / width, (y0 - y) * 2 / height, np.ones_like(x)], -1) * hit[..., None]
            cells = _cells(np.concatenate([move, seen[..., None]], -1), flow_cell * supersample).sum(2)
            count = cells[..., 2]
            flows.append((cells[..., :2] / np.maximum(count, 1)[..., None]).transpose(2, 0, 1))
            size = (flow_cell * supersample) ** 2
            valids.append(((2 * count >= size) & (2 * cells[..., 3] >= count) & (count > 0))[None].astype(np.float64))
            kept.append((depth, face, bary[..., :2]))
            points = (vertices[t][faces[point_face]] * point_bary[..., None]).sum(1)
            px, py, pz = _screen(points, camera, supersample).T
            inside = (px >= 0) & (px <= width) & (py >= 0) & (py <= height)
            xy[v, t, on] = np.stack([px, py], -1) / supersample
            seen_points[v, t, on] = (
                inside & _visible(screens[t], faces, depth, face, point_face, px, py, pz) if t else True
            )
    depth, face, bary = (np.stack([k[i] for k in kept]).reshape(views, frames, *kept[0][i].shape) for i in range(3))

    def shaped(items: list[np.ndarray]) -> np.ndarray:
        return np.stack(items).reshape(views, frames, *items[0].shape)

    samples = Samples(depth, face, bary)
    return ClipRender(shaped(rgba), shaped(flows), shaped(valids), samples, xy, seen_points, query_valid)


def _screen(vertices: np.ndarray, camera: Camera, supersample: int) -> np.ndarray:
    """[Nv, 3] x and y in samples, depth."""
    w2c, K = camera.world_to_camera.numpy(), camera.K.numpy()
    p = (vertices.astype(np.float64) @ w2c[:3, :3].T + w2c[:3, 3]) @ K.T
    return np.concatenate([p[:, :2] / p[:, 2:] * supersample, p[:, 2:]], 1)


def _nearest(screen: np.ndarray, faces: np.ndarray, x: np.ndarray, y: np.ndarray):
    """depth [h, w], face [h, w], surface barycentrics [h, w, 3] of the nearest triangle at each sample."""
    best = np.full(x.shape, np.inf)
    face = np.full(x.shape, -1)
    bary = np.zeros((*x.shape, 3))
    for f, (a, b, c) in enumerate(faces):
        p, q, r = screen[a], screen[b], screen[c]
        area = (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])
        if min(p[2], q[2], r[2]) < NEAR or area == 0:
            continue
        wa = ((x - r[0]) * (q[1] - r[1]) + (y - r[1]) * (r[0] - q[0])) / area
        wb = ((x - r[0]) * (r[1] - p[1]) + (y - r[1]) * (p[0] - r[0])) / area
        w = np.stack([wa, wb, 1 - wa - wb], -1)
        w_over_z = w / np.array([p[2], q[2], r[2]])
        with np.errstate(divide="ignore"):
            z = 1 / w_over_z.sum(-1)
        closer = (w >= 0).all(-1) & (z < best)
        best[closer], face[closer] = z[closer], f
        bary[closer] = (w_over_z * z[..., None])[closer]
    return best, face, bary


def _visible(screen: np.ndarray | None, faces: np.ndarray, depth0, face0, face, x, y, z) -> np.ndarray:
    """Whether one of the four samples around (x, y) shows the same triangle or lies at depth z.

    With `screen` (tracked points): or shows a triangle that lies no nearer, there or carried on to (x, y).
    """
    height, width = depth0.shape
    seen = np.zeros(x.shape, bool)
    left, top = np.floor(x - 0.5).astype(int), np.floor(y - 0.5).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            inside = (left + dx >= 0) & (left + dx < width) & (top + dy >= 0) & (top + dy < height)
            row, column = np.clip(top + dy, 0, height - 1), np.clip(left + dx, 0, width - 1)
            there = face0[row, column]
            with np.errstate(invalid="ignore"):
                free = np.abs(depth0[row, column] - z) < TOLERANCE
            if screen is not None:
                free = _unhidden(screen[faces[np.maximum(there, 0)]], depth0[row, column], x, y, z)
            seen |= inside & (there >= 0) & ((there == face) | free)
    return seen


def _unhidden(corners: np.ndarray, front: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Whether triangles [..., 3, 3] do not lie nearer than z at (x, y), their planes carried on."""
    inverse = np.concatenate([corners[..., :2], 1 / corners[..., 2:]], -1)  # linear in the picture
    a, b, c = np.moveaxis(inverse, -2, 0)
    n = np.cross(a - c, b - c)
    with np.errstate(invalid="ignore", divide="ignore"):
        plane = c[..., 2] - ((x - c[..., 0]) * n[..., 0] + (y - c[..., 1]) * n[..., 1]) / n[..., 2]
    return (front > z - TOLERANCE) | (plane * (z - TOLERANCE) < 1)


def _cells(picture: np.ndarray, size: int) -> np.ndarray:
    """[H, W, C] to [H / size, W / size, size^2, C]."""
    h, w, c = picture.shape
    return (
        picture.reshape(h // size, size, w // size, size, c)
        .transpose(0, 2, 1, 3, 4)
        .reshape(h // size, w // size, -1, c)
    )
