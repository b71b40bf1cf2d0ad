"""The ``cpu`` back-end: numba kernels run side by side by Python threads, as one autograd function.

No atomics and no shared sums: each tile and each chunk of Gaussians writes its own place, so results are the same bits
in every run, for any number of threads.
"""

import itertools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from t4d.splat import _cpu_bin, _cpu_blend, _cpu_project
from t4d.splat._cpu_project import COLOR, ROW

CHUNK = 256  # Gaussians summed together in the reverse of the projection
_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # a forked child inherits the pool but not its threads
    os.register_at_fork(after_in_child=_forget_pool)


def thread_count() -> int:
    """Threads the cpu back-end uses: ``NUMBA_NUM_THREADS``, else this process's cores."""
    # Not numba.get_num_threads(): it starts numba's own threading layer, which may be OpenMP and then raises the number
    # of OpenMP threads for torch too; these spin between small operations and cost several times the work.
    return numba.config.NUMBA_NUM_THREADS  # pyright: ignore[reportAttributeAccessIssue]


def _run(kernel: Callable[..., None], bounds: np.ndarray, *args: object) -> None:
    """Calls kernel(start, stop, *args) for consecutive bounds, one thread each."""
    global _pool
    parts = [(int(a), int(b)) for a, b in itertools.pairwise(bounds) if a < b]
    if len(parts) <= 1:
        for a, b in parts:
            kernel(a, b, *args)
        return
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(thread_count(), "splat")
    futures = [_pool.submit(kernel, a, b, *args) for a, b in parts]
    for future in futures:
        future.result()


def _even(count: int) -> np.ndarray:
    return np.linspace(0, count, min(count, thread_count()) + 1).astype(np.int64)


def _balanced(offsets: np.ndarray) -> np.ndarray:
    """Splits tiles so that each thread gets about the same number of (tile, Gaussian) pairs and of tiles."""
    tiles = len(offsets) - 1
    work = offsets + 8 * np.arange(tiles + 1)
    cuts = np.searchsorted(work, np.linspace(0, work[-1], thread_count() + 1))
    cuts[0], cuts[-1] = 0, tiles
    return cuts


def _array(t: Tensor) -> np.ndarray:
    return t.detach().contiguous().numpy()


def _geometry(*tensors: Tensor) -> list[np.ndarray]:
    """Means, quats, scales, opacities as arrays [B, N, ...]; viewmats [I, 4, 4] and Ks [I, 3, 3]."""
    *gaussians, viewmats, Ks = (_array(t) for t in tensors)
    return [*gaussians, viewmats.reshape(-1, 4, 4), Ks.reshape(-1, 3, 3)]


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,  # [B, N, 3]
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,  # [B, N, D] or [B, C, N, D]
        viewmats: Tensor,  # [B, C, 4, 4]
        Ks: Tensor,
        width: int,
        height: int,
        options: dict[str, Any],
    ) -> tuple[Tensor, ...]:
        b, n, c = means.shape[0], means.shape[1], viewmats.shape[1]
        images = b * c
        geometry = _geometry(means, quats, scales, opacities, viewmats, Ks)
        f32 = np.float32
        aa, eps2d = bool(options["antialiased"]), f32(options["eps2d"])
        near, far, clip = f32(options["near_plane"]), f32(options["far_plane"]), f32(options["radius_clip"])

        rows = np.zeros((images, n, ROW), f32)
        radii = np.empty((images, n, 2), np.int32)
        depths = np.empty((images, n), f32)
        conics = np.zeros((images, n, 3), f32)
        opac = np.empty((images, n), f32)
        _run(
            _cpu_project.project_range,
            _even(images),
            *(c, *geometry, width, height, near, far, clip, eps2d, aa, rows, radii, depths, conics, opac),
        )
        nx, ny = -(-width // _cpu_bin.TILE), -(-height // _cpu_bin.TILE)
        orders = np.empty((images, n), np.int32)
        drawn = np.empty(images, np.int64)
        counts = np.empty((images, nx * ny), np.int64)
        _run(_cpu_bin.count_range, _even(images), width, height, rows, depths, radii, orders, drawn, counts)
        offsets = np.zeros(images * nx * ny + 1, np.int64)
        np.cumsum(counts.reshape(-1), out=offsets[1:])
        ids = np.empty(int(offsets[-1]), np.int32)
        marks = np.zeros(int(offsets[-1]), np.uint16)
        _run(_cpu_bin.fill_range, _even(images), width, height, rows, orders, drawn, offsets, ids)

        total = colors.shape[-1] + int(options["append_depth"])
        pictures, alphas = [], np.empty((images, height, width), f32)
        bounds = _balanced(offsets)
        features = _features(colors, depths, options["append_depth"], images, c)
        for first in range(0, total, 4):
            four = total - first > 3
            _fill_colors(rows, features, first)
            part = np.empty((images, height, width, 4 if four else 3), f32)
            _run(_cpu_blend.blend_range, bounds, nx, width, height, four, rows, offsets, ids, marks, part, alphas)
            pictures.append(part)
        picture = pictures[0] if len(pictures) == 1 else np.concatenate(pictures, axis=-1)
        ctx.state = (rows, radii, conics, opac, depths, offsets, ids, marks, bounds, pictures, alphas)
        ctx.plan = (b, c, n, nx, ny, total, width, height, aa, eps2d, options["append_depth"], colors.shape)
        meta = [torch.from_numpy(x).unflatten(0, (b, c)) for x in (radii, rows[..., :2].copy(), depths, conics, opac)]
        ctx.mark_non_differentiable(*meta)
        out = torch.from_numpy(picture[..., :total]).unflatten(0, (b, c))
        coverage = torch.from_numpy(alphas).unflatten(0, (b, c)).unsqueeze(-1)
        # Both pictures too, though only their memory is used: autograd then notices if someone changes them in place.
        ctx.save_for_backward(means, quats, scales, opacities, viewmats, Ks, colors, out, coverage)
        return out, coverage, *meta

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v_picture: Tensor, v_alphas: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, radii, conics, opac, depths, offsets, ids, marks, bounds, pictures, alphas = ctx.state
        b, c, n, nx, ny, total, width, height, aa, eps2d, append_depth, color_shape = ctx.plan
        *inputs, colors, _, _ = ctx.saved_tensors
        geometry = _geometry(*inputs)
        images, tiles = b * c, nx * ny
        f32 = np.float32
        v_out = _array(v_picture).reshape(images, height, width, total)
        v_alpha = _array(v_alphas).reshape(images, height, width)
        moments = np.zeros((images, n, 6), f32)
        v_features = np.zeros((images, n, total), f32)
        features = _features(colors, depths, append_depth, images, c)
        for part, first in zip(pictures, range(0, total, 4)):
            width_c = part.shape[-1]
            used = min(width_c, total - first)
            if total > 4:
                _fill_colors(rows, features, first)
            v_part = np.zeros_like(part) if used < width_c or total > 4 else v_out
            if v_part is not v_out:
                v_part[..., :used] = v_out[..., first : first + used]
            slots = np.empty((len(ids), 6 + width_c), f32)
            v_alpha_part = v_alpha if first == 0 else np.zeros_like(v_alpha)
            _run(
                _cpu_blend.blend_vjp_range,
                bounds,
                *(
                    nx,
                    width,
                    height,
                    width_c == 4,
                    rows,
                    offsets,
                    ids,
                    marks,
                    part,
                    alphas,
                    v_part,
                    v_alpha_part,
                    slots,
                ),
            )
            _run(
                _cpu_blend.gather_range,
                _even(images),
                *(tiles, used, first, offsets, ids, marks, slots, moments, v_features),
            )
        v_depths = np.ascontiguousarray(v_features[..., -1]) if append_depth else np.zeros((images, n), f32)
        chunks = b * math.ceil(n / CHUNK)
        v_means, v_quats, v_scales = np.empty((b, n, 3), f32), np.empty((b, n, 4), f32), np.empty((b, n, 3), f32)
        v_opacities, v_views = np.empty((b, n), f32), np.empty((chunks, c, 12), f32)
        _run(
            _cpu_project.project_vjp_range,
            _even(chunks),
            *(CHUNK, c, *geometry, width, height, eps2d, aa, radii, conics, opac, moments, v_depths),
            *(v_means, v_quats, v_scales, v_opacities, v_views),
        )
        v_viewmats = np.zeros((b, c, 4, 4), f32)
        v_viewmats[:, :, :3] = v_views.reshape(b, -1, c, 3, 4).sum(1)
        v_colors = torch.from_numpy(v_features[..., : color_shape[-1]]).unflatten(0, (b, c))
        if len(color_shape) == 3:
            v_colors = v_colors[:, 0] if c == 1 else v_colors.sum(1)
        grads = [torch.from_numpy(x) for x in (v_means, v_quats, v_scales, v_opacities)]
        return (*grads, v_colors, torch.from_numpy(v_viewmats), None, None, None, None)


def _features(colors: Tensor, depths: np.ndarray, append_depth: bool, images: int, cameras: int) -> np.ndarray:
    """Channels [I, N, D(+1)] of every image."""
    x = colors.detach()
    if x.dim() == 3:
        x = x[:, None].expand(-1, cameras, -1, -1)
    x = x.reshape(images, x.shape[-2], x.shape[-1])
    if append_depth:
        x = torch.cat([x, torch.from_numpy(depths)[..., None]], dim=-1)
    return x.numpy()


def _fill_colors(rows: np.ndarray, features: np.ndarray, first: int) -> None:
    part = features[..., first : first + 4]
    rows[..., COLOR : COLOR + part.shape[-1]] = part
    rows[..., COLOR + part.shape[-1] : COLOR + 4] = 0


def rasterize_cpu(
    means: Tensor,  # [B, N, 3]
    quats: Tensor,  # [B, N, 4]
    scales: Tensor,  # [B, N, 3]
    opacities: Tensor,  # [B, N]
    colors: Tensor | None,  # [B, C, N, D] or [B, N, D]
    viewmats: Tensor,  # [B, C, 4, 4]
    Ks: Tensor,  # [B, C, 3, 3]
    width: int,
    height: int,
    *,
    append_depth: bool,
    **options: float | bool,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The ``cpu`` back-end of ``rasterize``: colours [B, C, H, W, D(+1)], alphas [B, C, H, W, 1], meta.

    Raises:
        ValueError: tensors are not float32.
    """
    if means.dtype != torch.float32:
        raise ValueError(
            f"the cpu back-end draws float32, means is {means.dtype}; convert it or use backend='reference'"
        )
    if colors is None:
        colors = means.new_zeros(*means.shape[:2], 0)
    out, alphas, *meta = _Rasterize.apply(
        *(means, quats, scales, opacities, colors, viewmats, Ks, width, height),
        {"append_depth": append_depth, **options},
    )
    return out, alphas, dict(zip(("radii", "means2d", "depths", "conics", "opacities"), meta))
