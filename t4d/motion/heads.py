"""The deformation heads: features -> offsets of position, rotation and log-scale (Eq. 7)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear


class Head(nn.Module):
    """features -> hidden -> out with one ReLU; the last layer starts at zero, so that nothing moves before the fit.

    Diffusion features (second half of Eq. 6) have first-layer weights of their own, `extra`, which start at zero: the
    fit begins as if they were absent, and they come in as far as they lower the loss.

    Args:
        inputs: width of the Hex-plane features.
        extra: width of the diffusion features, 0 for none.
        hidden: width of the hidden layer.
        outputs: width of the offset.
        bias: whether both layers have one.
        generator: of the random start.
    """

    extra: nn.Parameter | None

    def __init__(
        self, inputs: int, extra: int, hidden: int, outputs: int, bias: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden, bias)
        self.last = nn.Linear(hidden, outputs, bias)
        self.extra = nn.Parameter(torch.zeros(hidden, extra)) if extra else None
        bound = inputs**-0.5  # nn.Linear's own start, but from our generator
        with torch.no_grad():
            for parameter in self.first.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
            for parameter in self.last.parameters():
                parameter.zero_()

    def weight(self) -> Tensor:
        """First-layer weights over both kinds of features, [hidden, inputs + extra]."""
        return self.first.weight if self.extra is None else torch.cat([self.first.weight, self.extra], dim=1)

    def forward(
        self,
        features: Tensor,  # [..., inputs + extra]
    ) -> Tensor:
        """Offsets [..., outputs] of this head alone; ``decode`` runs several at once."""
        # leaky_relu of slope 0 is ReLU, several times faster than torch's relu on the CPU.
        return self.last(leaky_relu(linear(features, self.weight(), self.first.bias), 0.0))


def decode(
    heads: list[Head],
    features: Tensor,  # [..., inputs + extra]
) -> list[Tensor]:
    """What each head gives for the same features: one product for all first layers, one for all last ones.

    Returns:
        Per head [..., its outputs].
    """
    first = torch.cat([head.weight() for head in heads])
    last = torch.block_diag(*[head.last.weight for head in heads])
    biases = [(head.first.bias, head.last.bias) for head in heads]
    lower, upper = (torch.cat(column) if column[0] is not None else None for column in zip(*biases))
    offsets = linear(leaky_relu(linear(features, first, lower), 0.0), last, upper)
    return list(offsets.split([head.last.out_features for head in heads], dim=-1))
