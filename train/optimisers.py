"""Several optimisers as one, for checkpoints."""

from typing import Any

import torch
from torch import nn

from train.muon import Muon


class Optimisers:
    """Muon (Jordan et al. 2024) for the matrices inside transformer blocks, AdamW for everything else.

    Muon takes matrices only. `eval/results/mini_trials.md` has what it gains here.

    Args:
        module: Whose trained parameters are optimised.
        inner: Name parts of the matrices that Muon takes.
        weight_decay: Of both.
        share: AdamW's learning rate over Muon's.
    """

    def __init__(self, module: nn.Module, inner: str, weight_decay: float, share: float):
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        matrices = [p for name, p in trained.items() if inner in name and p.ndim == 2]
        known = {id(p) for p in matrices}
        others = [p for p in trained.values() if id(p) not in known]
        self.share = share
        self.muon = Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(others, betas=(0.9, 0.99), weight_decay=weight_decay)

    def step(self, lr: float) -> None:
        """One step at Muon's learning rate `lr`; gradients are dropped after it."""
        for optimiser, factor in ((self.muon, 1.0), (self.adamw, self.share)):
            for group in optimiser.param_groups:
                group["lr"] = lr * factor
            optimiser.step()
            optimiser.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """States of both."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of `state_dict`."""
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
