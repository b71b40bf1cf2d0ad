"""Scenes and independent oracles for the rasteriser's tests."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from t4d.splat.rasterize import rasterize

NAMES = ("means", "quats", "scales", "opacities", "colors", "viewmats")


def look_at(azimuth: float, elevation: float = 0.26, distance: float = 3.0) -> Tensor:
    """World-to-camera [4, 4] float64, OpenCV, looking at the origin; written apart from t4d.geometry."""
    eye = distance * np.array(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    forward = -eye / np.linalg.norm(eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    view[:3, 3] = -view[:3, :3] @ eye
    return torch.from_numpy(view)


def scene(
    n: int,
    cameras: int = 2,
    width: int = 40,
    height: int = 52,
    channels: int = 3,
    batch: tuple[int, ...] = (),
    seed: int = 0,
    scale: tuple[float, float] = (0.03, 0.2),
    dtype: torch.dtype = torch.float64,
) -> tuple[list[Tensor], Tensor]:
    """Random anisotropic Gaussians in a ball of radius 0.7 and cameras around it.

    Returns:
        [means, quats, scales, opacities, colors, viewmats] and Ks, each with the leading batch dimensions.
    """
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=g, dtype=torch.float64)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*batch, *shape, generator=g, dtype=torch.float64)

    means = normal(n, 3)
    means = 0.7 * means / means.norm(dim=-1, keepdim=True) * uniform(0.2, 1, n, 1)
    viewmats = torch.stack([look_at(0.3 + 1.4 * k) for k in range(cameras)]).expand(*batch, cameras, 4, 4)
    viewmats = viewmats.clone()
    viewmats[..., :3, 3] += 0.02 * normal(cameras, 3)
    focal = height / 2 / math.tan(math.radians(20))
    K = torch.tensor([[focal, 0, width / 2 + 1.3], [0, 1.1 * focal, height / 2 - 0.7], [0, 0, 1]], dtype=torch.float64)
    tensors = [
        means,
        normal(n, 4),
        uniform(*scale, n, 3),
        uniform(0.05, 1.0, n),
        uniform(0, 1, n, channels),
        viewmats,
    ]
    return [t.to(dtype) for t in tensors], K.expand(*batch, cameras, 3, 3).to(dtype)


def draw(args: Sequence[Tensor], K: Tensor, width: int, height: int, **options: Any) -> tuple[Tensor, Tensor, dict]:
    """``rasterize`` of a scene's list of tensors."""
    means, quats, scales, opacities, colors, viewmats = args
    return rasterize(means, quats, scales, opacities, colors, viewmats, K, width, height, **options)


def brute_force(
    args: list[Tensor],
    K: Tensor,
    width: int,
    height: int,
    antialiased: bool = False,
    eps2d: float = 0.3,
    background: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One camera in float64, Gaussian after Gaussian over every pixel of the whole picture.

    Shares nothing with the package: the covariance is R S S R^T spelled with the exponential of a skew matrix, the
    Jacobian is taken by autograd of the projection itself, the conic by ``torch.inverse``, no boxes, no tiles.
    (Valid while no Gaussian lies more than 15 % outside the picture, where gsplat holds the Jacobian.)

    Returns:
        colours [H, W, D], alphas [H, W], accumulated depth [H, W].
    """
    means, quats, scales, opacities, colors, view = args
    ys, xs = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    pixels = torch.stack([xs, ys], -1)

    def pixel_of(p: Tensor) -> Tensor:
        q = K @ p
        return q[:2] / q[2]

    in_camera = means @ view[:3, :3].T + view[:3, 3]
    light = torch.ones(height, width, dtype=torch.float64)
    open_ = torch.ones(height, width, dtype=torch.bool)
    picture = torch.zeros(height, width, colors.shape[-1], dtype=torch.float64)
    depth = torch.zeros(height, width, dtype=torch.float64)
    for n in torch.argsort(in_camera[:, 2].detach(), stable=True).tolist():
        p = in_camera[n]
        if not 0.01 <= p[2]:
            continue
        q = quats[n] / quats[n].norm()
        angle = 2 * torch.atan2(q[1:].norm(), q[0])
        axis = q[1:] / q[1:].norm()
        zero = torch.zeros((), dtype=torch.float64)
        skew = torch.stack([zero, -axis[2], axis[1], axis[2], zero, -axis[0], -axis[1], axis[0], zero]).reshape(3, 3)
        R = torch.matrix_exp(angle * skew)
        cov = view[:3, :3] @ R @ torch.diag(scales[n] ** 2) @ R.T @ view[:3, :3].T
        J = torch.autograd.functional.jacobian(pixel_of, p, create_graph=True)
        sharp = J @ cov @ J.T
        blurred = sharp + eps2d * torch.eye(2, dtype=torch.float64)
        o = opacities[n]
        if antialiased:
            o = o * torch.sqrt(torch.det(sharp) / torch.det(blurred))
        d = pixels - pixel_of(p)
        alpha = o * torch.exp(-0.5 * torch.einsum("hwi,ij,hwj->hw", d, torch.inverse(blurred), d))
        alpha = alpha.clamp(max=0.999)
        hit = (alpha >= 1 / 255) & open_
        after = light * (1 - alpha)
        open_ = open_ & ~(hit & (after <= 1e-4))
        drawn = hit & open_
        weight = torch.where(drawn, alpha * light, torch.zeros_like(alpha))
        picture = picture + weight[..., None] * colors[n]
        depth = depth + weight * p[2]
        light = torch.where(drawn, after, light)
    if background is not None:
        picture = picture + light[..., None] * background
    return picture, 1 - light, depth


def gradients(outputs: tuple[Tensor, ...], inputs: list[Tensor], seed: int = 7) -> list[Tensor]:
    """Gradients of the outputs against random cotangents that do not depend on dtype."""
    g = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(o.dtype) for o in outputs]
    return list(torch.autograd.grad(outputs, inputs, weights))


def mismatch(a: Tensor, b: Tensor, atol: float, rtol: float = 0.0) -> float:
    """Share of elements that differ by more than atol + rtol |b|; non-finite elements count as different."""
    a, b = a.detach().double(), b.detach().double()
    assert a.shape == b.shape, (a.shape, b.shape)
    return ((~((a - b).abs() <= atol + rtol * b.abs())).sum() / max(1, a.numel())).item()


def assert_gradient_close(a: Tensor, b: Tensor, name: str, relative: float = 2e-3) -> None:
    """Gradients agree in direction and size (relative L2), are finite and not all zero."""
    a, b = a.detach().double().flatten(), b.detach().double().flatten()
    assert torch.isfinite(a).all(), name
    assert b.norm() > 0, f"{name}: the expected gradient is zero, the test says nothing"
    error = ((a - b).norm() / b.norm()).item()
    assert error <= relative, f"{name}: relative L2 error {error:.2e}"
