"""What Stage One logs of its losses: means over all processes, and the pull of each term."""

from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor


class Means:
    """Means of per-step values over steps; every process holds its own share of a value, and shares add up."""

    def __init__(self, device: torch.device):
        self.device, self.sums, self.steps = device, {}, {}

    def add(self, **shares: Tensor) -> None:
        """Shares of values of this micro-step; see `step`."""
        for name, share in shares.items():
            self.sums[name] = self.sums.get(name, 0) + share.detach().float()

    def step(self, **counted: bool) -> None:
        """Ends a step; names of values that had something to measure in it."""
        for name, yes in counted.items():
            self.steps[name] = self.steps.get(name, 0) + yes

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """Means since the last call; a value that nothing was counted for is left out. Every process calls it."""
        names = [name for name in self.sums if self.steps.get(name)]
        found = torch.stack([torch.as_tensor(self.sums[n], device=self.device) for n in names])
        total = accelerator.reduce(found, "sum")
        means = {name: float(value) / self.steps[name] for name, value in zip(names, total)}
        self.sums, self.steps = {}, {}
        return means


class TermNorms:
    """Gradient norms of each loss term over the global batch of one step: with respect to the trained parameters, and
    to the tapped features, where the terms meet.

    Args:
        parameters: Trained ones; none where they are split over processes, then only features are measured.
    """

    def __init__(self, parameters: list[torch.nn.Parameter]):
        self.parameters, self.sums, self.tapped = parameters, {}, {}

    def add(self, terms: dict[str, Tensor], tapped: Tensor | None) -> None:
        """The terms' shares of one micro-step; their graph stays for the backward pass."""
        assert tapped is not None, "no forward pass was made"
        for name, term in terms.items():
            found = torch.autograd.grad(term, [tapped, *self.parameters], retain_graph=True, allow_unused=True)
            first = found[0]
            own = torch.zeros((), device=term.device) if first is None else first.float().square().sum()
            self.tapped[name] = self.tapped.get(name, 0) + own
            flat = [torch.zeros_like(p) if g is None else g for g, p in zip(found[1:], self.parameters)]
            if name not in self.sums:
                self.sums[name] = flat
            elif flat:
                torch._foreach_add_(self.sums[name], flat)

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """grad_NAME and grad_NAME_tap; every process calls it."""
        found = {}
        for name, gradients in self.sums.items():
            found[f"grad_{name}_tap"] = float(cast(Tensor, accelerator.reduce(self.tapped[name], "sum")).sqrt())
            if gradients:
                total = accelerator.reduce(torch.cat([g.flatten().float() for g in gradients]), "sum")
                found[f"grad_{name}"] = float(cast(Tensor, total).norm())
        return found
