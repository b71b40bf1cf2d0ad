"""The residual block of mini's convolutional parts."""

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3x3 convolutions with a skip; the second's weights start at zero so that depth costs nothing at first.

    Args:
        channels: Of input and output, a multiple of 8.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same."""
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))
