"""The motion field: offsets of every Gaussian's position, rotation and scale at any time (Eq. 6 and 7)."""

from typing import Any

import torch
from torch import Tensor, nn

from t4d.motion.hexplane import HexPlane

HIDDEN = 64


class MotionField(nn.Module):
    """Hex-plane features (Eq. 6) decoded by three heads into offsets (Eq. 7).

    The centres are the static ones, fixed for the life of the field. Time is tau in [-1, 1]; frame i of T is at
    tau = -1 + 2 i / (T - 1). Frame 0 is not the field's business: ``MotionAsset`` never asks it for tau = -1.

    Args:
        means: [N, 3] static centres, world; not part of the state dictionary.
        space, time, features, levels: of ``HexPlane``.
        seed: of the random start.
    """

    means: Tensor
    hexplane: HexPlane
    heads: nn.ModuleDict

    def __init__(
        self,
        means: Tensor,
        space: tuple[int, int, int] = (100, 100, 100),
        time: int = 8,
        features: int = 16,
        levels: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.config: dict[str, Any] = {"space": list(space), "time": time, "features": features, "levels": levels}
        self.hexplane = HexPlane(space, time, features, levels, generator)
        self.heads = nn.ModuleDict(
            {name: _head(features, size, generator) for name, size in (("means", 3), ("quats", 4), ("log_scales", 3))}
        )
        self.register_buffer("means", means.detach().clone(), persistent=False)
        self.to(means.device, means.dtype)

    def forward(
        self,
        times: Tensor,  # [T]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets at times tau.

        Returns:
            d_means [T, N, 3] (world units), d_quats [T, N, 4], d_log_scales [T, N, 3].
        """
        feature = self.hexplane(self.means, times)
        d_means, d_quats, d_log_scales = (self.heads[name](feature) for name in ("means", "quats", "log_scales"))
        return d_means, d_quats, d_log_scales


def _head(inputs: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """features -> 64 -> out; the last layer starts at zero, so that nothing moves before the fit."""
    first, last = nn.Linear(inputs, HIDDEN), nn.Linear(HIDDEN, outputs)
    bound = inputs**-0.5  # nn.Linear's own start, but from our generator
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
        for parameter in last.parameters():
            parameter.zero_()
    return nn.Sequential(first, nn.ReLU(), last)
