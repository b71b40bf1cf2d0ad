"""What the fit asks of a guidance: one unweighted loss per step, differentiable in the moving asset."""

from typing import Protocol

import torch
from torch import Tensor

from t4d.motion.asset import MotionAsset


class Guidance(Protocol):
    """A prior on how the asset looks while it moves, 4D-SDS (Eq. 11) for one."""

    def __call__(self, asset: MotionAsset, generator: torch.Generator) -> Tensor:
        """Scalar loss with gradient to the asset's field and appearance, drawn anew from `generator` (on the CPU)."""
        ...
