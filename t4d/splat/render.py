"""Pictures of Gaussians as the rest of the project sees them: rgba over grey."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from t4d.geometry.camera import Camera, stack
from t4d.splat.gaussians import Gaussians
from t4d.splat.rasterize import Backend, RasterizeMode, rasterize


class PixelFilter(TypedDict):
    """Options of ``rasterize`` that say how a Gaussian meets a pixel."""

    eps2d: float
    rasterize_mode: RasterizeMode


# What the project draws with. A square pixel is a filter of variance 1/12 = 0.083 pixels^2, which "antialiased" blurs
# with at constant brightness. The classic 0.3 without compensation widens every outline by about a pixel: against
# supersampled pictures of the mesh that costs 3 to 5 dB at 128 pixels (eval/bench/binding.py).
PIXEL_FILTER: PixelFilter = {"eps2d": 0.1, "rasterize_mode": "antialiased"}


def render_gaussians(
    gaussians: Gaussians,
    cameras: Sequence[Camera],
    background: float = 0.5,
    backend: Backend = "auto",
) -> Tensor:
    """Draws the Gaussians with ``PIXEL_FILTER``, spherical-harmonic colours included; differentiable in all of them.

    Args:
        gaussians: with any leading batch dimensions (frames).
        cameras: V cameras of one picture size.
        background: grey level seen through, 0..1.
        backend: of ``rasterize``.

    Returns:
        [..., V, 4, H, W]: the picture one sees (colour over the background, may exceed 1 where coefficients do) and
        the coverage.

    Raises:
        ValueError: the cameras are not of one size.
    """
    if len({(c.width, c.height) for c in cameras}) != 1:
        sizes = sorted({(c.width, c.height) for c in cameras})
        raise ValueError(f"cameras have picture sizes {sizes}, expected one size for all")
    means = gaussians.means
    viewmats, Ks = (x.to(means) for x in stack(list(cameras)))  # [V, 4, 4], [V, 3, 3]
    batch = means.shape[:-2]
    viewmats = viewmats.expand(*batch, *viewmats.shape)
    Ks = Ks.expand(*batch, *Ks.shape)
    rotation, translation = viewmats[..., :3, :3], viewmats[..., :3, 3:]
    eyes = -(rotation.mT @ translation)[..., 0]  # [..., V, 3]
    colors, alphas, _ = rasterize(
        means,
        gaussians.quats,
        gaussians.scales,
        gaussians.opacities,
        gaussians.colors(eyes),
        viewmats,
        Ks,
        cameras[0].width,
        cameras[0].height,
        backend=backend,
        **PIXEL_FILTER,
    )
    return torch.cat([colors + background * (1 - alphas), alphas], dim=-1).movedim(-1, -3)
