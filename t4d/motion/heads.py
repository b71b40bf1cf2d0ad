"""The deformation heads: features -> offsets of position, rotation and log-scale (Eq. 7)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

ROWS = 2048  # rows of the hidden layer worked on at a time: 192 floats each, 1.5 MiB


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

    def forward(
        self,
        features: Tensor,  # [..., inputs]
        extra: Tensor | None = None,  # [..., extra]
    ) -> Tensor:
        """Offsets [..., outputs] of this head alone; ``decode`` runs several at once."""
        hidden = self.first(features)
        if extra is not None:
            hidden = hidden + linear(extra, self.extra)  # pyright: ignore[reportArgumentType]
        return self.last(hidden.relu())


def decode(
    heads: Sequence[Head],
    features: Tensor,  # [T, N, inputs]
    extra: Tensor | None,  # [T, N, extra]
) -> list[Tensor]:
    """What each head gives for the same features: one product for all first layers, one for all last ones.

    Args:
        heads: of equal inputs.
        features: of the Hex-planes.
        extra: diffusion features, without gradient, or None.

    Returns:
        Per head [T, N, its outputs].
    """
    first = torch.cat([head.first.weight for head in heads])
    last = torch.block_diag(*[head.last.weight for head in heads])
    if heads[0].first.bias is None:
        lower, upper = first.new_zeros(len(first)), last.new_zeros(len(last))
    else:
        lower, upper = (torch.cat([getattr(h, layer).bias for h in heads]) for layer in ("first", "last"))
    if extra is None:
        extra = features.new_empty(*features.shape[:2], 0)
    beside = torch.cat([first.new_empty(h.first.out_features, 0) if h.extra is None else h.extra for h in heads])
    if features.is_cuda:
        offsets = linear((linear(features, first, lower) + linear(extra, beside)).relu(), last, upper)
    else:
        offsets: Tensor = _Decode.apply(features, extra, first, beside, lower, last, upper)  # pyright: ignore
    return list(offsets.split([head.last.out_features for head in heads], dim=-1))


class _Decode(torch.autograd.Function):
    """Both layers over a few Gaussians at a time: the hidden layer stays in the processor's cache, is never stored and
    computed again in the reverse. On one core that halves the time of the plain form."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        extra: Tensor,
        first: Tensor,
        beside: Tensor,
        lower: Tensor,
        last: Tensor,
        upper: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(features, extra, first, beside, lower, last)
        times, points = features.shape[:2]
        out = features.new_empty(times, points, len(last))
        for part in _parts(times, points):
            hidden = _hidden(_rows(features, part), _rows(extra, part), first, beside, lower)
            out[:, part] = torch.addmm(upper, hidden, last.T).unflatten(0, (-1, times)).transpose(0, 1)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, extra, first, beside, lower, last = ctx.saved_tensors
        (gradient,) = gradients
        times, points = features.shape[:2]
        to_features = features.new_empty(points, times, features.shape[2]).transpose(0, 1)
        to_first, to_beside, to_lower, to_last = (torch.zeros_like(w) for w in (first, beside, lower, last))
        for part in _parts(times, points):
            x, y, g = _rows(features, part), _rows(extra, part), _rows(gradient, part)
            hidden = _hidden(x, y, first, beside, lower)
            to_last.addmm_(g.T, hidden)
            back = (g @ last).mul_(hidden.sign_())  # hidden is a ReLU's: its sign is the ReLU's derivative
            to_first.addmm_(back.T, x)
            to_beside.addmm_(back.T, y)
            to_lower.add_(back.sum(0))
            to_features[:, part] = (back @ first).unflatten(0, (-1, times)).transpose(0, 1)
        return to_features, None, to_first, to_beside, to_lower, to_last, gradient.sum((0, 1))


def _parts(times: int, points: int) -> list[slice]:
    step = max(1, ROWS // times)
    return [slice(start, start + step) for start in range(0, points, step)]


def _rows(tensor: Tensor, part: slice) -> Tensor:
    """Some Gaussians of [T, N, C] as rows [their number x T, C]."""
    return tensor[:, part].transpose(0, 1).flatten(0, 1)


def _hidden(x: Tensor, y: Tensor, first: Tensor, beside: Tensor, lower: Tensor) -> Tensor:
    return torch.addmm(lower, x, first.T).addmm_(y, beside.T).relu_()
