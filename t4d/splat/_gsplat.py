"""The ``gsplat`` back-end: gsplat's CUDA kernels behind the same arguments."""

import importlib.util
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from t4d.errors import InputError

# Gaussians x pictures in one call. Each costs about 100 bytes of projection and, per 16 x 16 tile that it touches, 24
# bytes while sorting, so that a call stays near 3 GB; gsplat's own indices are 32 bit.
PAIRS_PER_CALL = 1 << 24
META = ("radii", "means2d", "depths", "conics", "opacities")


def rasterize_gsplat(
    means: Tensor,  # [B, N, 3]
    quats: Tensor,  # [B, N, 4]
    scales: Tensor,  # [B, N, 3]
    opacities: Tensor,  # [B, N]
    colors: Tensor | None,  # [B, N, D] or [B, C, N, D]
    viewmats: Tensor,  # [B, C, 4, 4]
    Ks: Tensor,  # [B, C, 3, 3]
    width: int,
    height: int,
    *,
    append_depth: bool,
    near_plane: float,
    far_plane: float,
    radius_clip: float,
    eps2d: float,
    antialiased: bool,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Colours [B, C, H, W, D(+1)], alphas [B, C, H, W, 1] and meta by gsplat's CUDA kernels.

    All frames and cameras go in one call; more than ``PAIRS_PER_CALL`` Gaussians x pictures go in several.

    Raises:
        ModuleNotFoundError: gsplat is not installed.
        ValueError: tensors are not float32.
        InputError: gsplat's CUDA kernels cannot be built here.
    """
    if importlib.util.find_spec("gsplat") is None:
        raise ModuleNotFoundError(
            "Gaussians on a CUDA device are drawn by gsplat, which is not installed: pip install gsplat==1.5.3, "
            "or move the tensors to the CPU"
        )
    if means.is_cuda and (why := unbuilt()):
        raise InputError(
            f"The GPU cannot draw Gaussians: gsplat's CUDA kernels are not built ({why}). Install the CUDA toolkit "
            "(nvcc) of torch's CUDA version and run: python -c 'import gsplat.cuda._backend'; or set device=cpu."
        )
    from gsplat.rendering import rasterization

    if means.dtype != torch.float32:
        raise ValueError(f"gsplat draws float32, means is {means.dtype}; convert it or use backend='reference'")
    (frames, cameras), count = viewmats.shape[:2], means.shape[1]
    if count == 0:
        channels = append_depth + (0 if colors is None else colors.shape[-1])
        return _nothing((frames, cameras, height, width), channels, viewmats)
    means, quats, scales, opacities = _drawable(means, quats, scales, opacities)
    mode = "RGB" if not append_depth else ("D" if colors is None else "RGB+D")
    if colors is None:
        colors = means  # for depth alone gsplat looks at their shape only
    cameras_per_call = max(1, min(cameras, PAIRS_PER_CALL // count))
    frames_per_call = max(1, PAIRS_PER_CALL // (cameras_per_call * count))
    rows = []
    for i in range(0, frames, frames_per_call):
        row = []
        for j in range(0, cameras, cameras_per_call):
            b, c = slice(i, i + frames_per_call), slice(j, j + cameras_per_call)
            pictures, alphas, meta = rasterization(
                means=means[b].contiguous(),
                quats=quats[b].contiguous(),
                scales=scales[b].contiguous(),
                opacities=opacities[b].contiguous(),
                colors=(colors[b] if colors.dim() == 3 else colors[b, c]).contiguous(),
                viewmats=viewmats[b, c].contiguous(),
                Ks=Ks[b, c].contiguous(),
                width=width,
                height=height,
                near_plane=near_plane,
                far_plane=far_plane,
                radius_clip=radius_clip,
                eps2d=eps2d,
                # Nearly every Gaussian of one object is seen by every camera, so nothing would be saved by packing.
                packed=False,
                render_mode=mode,
                rasterize_mode="antialiased" if antialiased else "classic",
            )
            row.append((pictures, alphas, *(meta[name] for name in META)))
        rows.append([_joined(parts, 1) for parts in zip(*row)])
    pictures, alphas, *projected = (_joined(parts, 0) for parts in zip(*rows))
    return pictures, alphas, dict(zip(META, projected))


def _nothing(shape: tuple[int, int, int, int], channels: int, like: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Empty pictures: gsplat divides by the number of Gaussians on the host, which ends the process for none."""
    sizes = {"radii": (0, 2), "means2d": (0, 2), "depths": (0,), "conics": (0, 3), "opacities": (0,)}
    meta = {name: like.new_zeros(*shape[:2], *size) for name, size in sizes.items()}
    meta["radii"] = meta["radii"].int()
    return like.new_zeros(*shape, channels), like.new_zeros(*shape, 1), meta


def _joined(parts: tuple[Tensor, ...], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _drawable(means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor) -> tuple[Tensor, ...]:
    """The Gaussians with those that have no finite place, size or opacity made invisible.

    CUDA's min(0.999, NaN) is 0.999: gsplat would draw an infinite scale or an opacity of NaN as an opaque wall. A zero
    quaternion, which gsplat leaves out, means no rotation as in the other back-ends.
    """
    finite = opacities.isfinite()
    for tensor in (means, quats, scales):
        finite = finite & tensor.isfinite().all(-1)
    shown = finite[..., None]
    unturned = (quats == 0).all(-1, keepdim=True) | ~shown
    identity = quats.new_tensor([1.0, 0.0, 0.0, 0.0])
    return (
        torch.where(shown, means, 0.0),
        torch.where(unturned, identity, quats),
        torch.where(shown, scales, 1.0),
        torch.where(finite, opacities, 0.0),
    )


@lru_cache
def unbuilt() -> str:
    """Why gsplat's kernels cannot be used; "" where they can. The package compiles them when first asked for them."""
    try:
        from gsplat.cuda._backend import _C
    except Exception as error:  # of a compiler, of ninja, of torch's extension loader
        return " ".join(str(error).split())[:300] or type(error).__name__
    return "" if _C is not None else "no nvcc was found"
