"""torch's Muon with its Newton-Schulz iteration in float32."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Muon):
    """torch's, which iterates in bfloat16; a CPU without bfloat16 instructions emulates them.

    `eval.bench.muon` compares their times, a test their steps.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """As of torch's."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            momentum, coefficients = group["momentum"], group["ns_coefficients"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                average = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
                direction = p.grad.lerp(average, momentum) if group["nesterov"] else average
                direction = orthogonalised(direction, coefficients, group["ns_steps"], group["eps"])
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(direction, alpha=-group["lr"] * ratio(p.shape, group["adjust_lr_fn"]))
        return loss


def orthogonalised(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """A matrix of the same singular vectors whose singular values are near 1 (Jordan et al. 2024), float32 [m, n]."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.float().T if tall else matrix.float()
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def ratio(shape: torch.Size, rule: str | None) -> float:
    """Factor on the learning rate of a matrix: Jordan's, or Moonshot's that gives AdamW's step (Liu et al. 2025)."""
    rows, columns = shape
    return 0.2 * max(rows, columns) ** 0.5 if rule == "match_rms_adamw" else max(1.0, rows / columns) ** 0.5
