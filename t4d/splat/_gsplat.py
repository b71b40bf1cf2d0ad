"""The ``gsplat`` back-end: gsplat's CUDA kernels behind the same arguments."""

import importlib.util
from typing import Any

import torch
from torch import Tensor


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

    Raises:
        ModuleNotFoundError: gsplat is not installed.
        ValueError: tensors are not float32.
    """
    if importlib.util.find_spec("gsplat") is None:
        raise ModuleNotFoundError(
            "Gaussians on a CUDA device are drawn by gsplat, which is not installed: pip install gsplat==1.5.3, "
            "or move the tensors to the CPU"
        )
    from gsplat.rendering import rasterization

    if means.dtype != torch.float32:
        raise ValueError(f"gsplat draws float32, means is {means.dtype}; convert it or use backend='reference'")
    # packed=False: nearly every Gaussian of one object is seen by every camera, and gsplat's packed path
    # needs contiguous, expanded tensors when there are batch dimensions.
    pictures, alphas, meta = rasterization(
        means=means.contiguous(),
        quats=quats.contiguous(),
        scales=scales.contiguous(),
        opacities=opacities.contiguous(),
        colors=means if colors is None else colors.contiguous(),
        viewmats=viewmats.contiguous(),
        Ks=Ks.contiguous(),
        width=width,
        height=height,
        near_plane=near_plane,
        far_plane=far_plane,
        radius_clip=radius_clip,
        eps2d=eps2d,
        packed=False,
        render_mode="RGB" if not append_depth else ("D" if colors is None else "RGB+D"),
        rasterize_mode="antialiased" if antialiased else "classic",
    )
    return pictures, alphas, {k: meta[k] for k in ("radii", "means2d", "depths", "conics", "opacities")}
