"""Moving assets made of a formula."""

import math
from collections.abc import Callable

import torch

from t4d.splat.gaussians import Gaussians


def wobbling_ellipsoid(count: int, frames: int, sh_count: int = 1) -> Callable[[int], Gaussians]:
    """`at(frame)` of an ellipsoid of flat Gaussians whose surface waves along z; frame 0 differs from every other."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    rest = directions * torch.tensor([0.7, 0.3, 0.4])
    sh = torch.randn(count, sh_count, 3, generator=generator) * 0.3
    sh[:, 0] = directions
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)

    def at(frame: int) -> Gaussians:
        means = rest.clone()
        means[:, 2] += 0.25 * torch.sin(2 * math.pi * frame / frames + 3 * rest[:, 0])
        return Gaussians(
            means=means,
            quats=quats,
            log_scales=torch.tensor([0.06, 0.04, 0.01]).log().expand(count, 3).clone(),
            opacity_logits=torch.linspace(1.0, 4.0, count),
            sh=sh.clone(),
        )

    return at
