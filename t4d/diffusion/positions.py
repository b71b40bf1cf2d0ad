"""Sine codes of pixels and frames, added to the inputs of the spatiotemporal attention."""

import math
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=64)
def spatial_code(height: int, width: int, channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Normalised 2D sine code, the same for every view and frame.

    Rows and columns count from 1 and are scaled to 2 pi; channel j of either half has divisor
    10000^(2 floor(j/2) / (channels/2)), sine where j is even and cosine where it is odd.

    Args:
        height: Rows of the feature map.
        width: Columns of the feature map.
        channels: Length of the code, an even number; the first half codes y, the second x.
        device: Where the code is wanted.
        dtype: Its type.

    Returns:
        [height * width, channels], row-major pixels.
    """
    half = channels // 2
    if channels % 2:
        raise ValueError(f"a 2D position code needs an even number of channels, not {channels}")
    # cached tensors must be usable in autograd even when first asked for during inference
    with torch.inference_mode(False), torch.no_grad():
        index = torch.arange(half, dtype=torch.float32)
        divisor = 10000.0 ** (2.0 * torch.div(index, 2, rounding_mode="floor") / half)

        def axis(count: int) -> Tensor:
            place = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1e-6) * (2.0 * math.pi)
            angle = place[:, None] / divisor
            return torch.where(index.long() % 2 == 0, angle.sin(), angle.cos())

        rows = axis(height)[:, None].expand(height, width, half)
        columns = axis(width)[None].expand(height, width, half)
        code = torch.cat([rows, columns], dim=-1).reshape(height * width, channels)
        return code.to(device=device, dtype=dtype)
