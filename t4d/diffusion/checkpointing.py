"""Gradient checkpointing: activations of a part are not kept but computed again in the backward pass."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint


def recompute(part: Callable[..., Any], *args: Any) -> Any:
    """Call a part, keeping its arguments only; everything inside it is computed again in the backward pass.

    The second pass runs under the attention kernels that were allowed in the first, as it may run long after the block
    that chose them has ended, and other kernels keep other tensors. Autocast is kept by torch. Random numbers are not
    replayed: no part of the denoiser draws any.

    Args:
        part: A module, or a function of tensors. One that checkpoints itself (``gradient_checkpointing`` is set on it)
            is called plainly, so that nothing is computed three times.
        *args: Its positional arguments.

    Returns:
        What the part returns.
    """
    if isinstance(part, nn.Module) and getattr(part, "gradient_checkpointing", False):
        return part(*args)
    kernels = _allowed_kernels()

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _Kernels(kernels)

    return checkpoint(part, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)


class _Kernels(AbstractContextManager):
    """`sdpa_kernel` that can be entered again: every loss term that is differentiated by itself computes anew."""

    def __init__(self, kernels: list[SDPBackend]):
        self.kernels, self.entered = kernels, []

    def __enter__(self) -> None:
        self.entered.append(sdpa_kernel(self.kernels))
        self.entered[-1].__enter__()

    def __exit__(self, *error: Any) -> None:
        self.entered.pop().__exit__(*error)


def _allowed_kernels() -> list[SDPBackend]:
    """The attention kernels that may be used now, whatever the device."""
    allowed = {
        SDPBackend.FLASH_ATTENTION: torch.backends.cuda.flash_sdp_enabled(),
        SDPBackend.EFFICIENT_ATTENTION: torch.backends.cuda.mem_efficient_sdp_enabled(),
        SDPBackend.CUDNN_ATTENTION: torch.backends.cuda.cudnn_sdp_enabled(),
        SDPBackend.MATH: torch.backends.cuda.math_sdp_enabled(),
    }
    return [kernel for kernel, on in allowed.items() if on]
