"""The two transformers of the network's blocks, rebuilt from diffusers' parts on token-major memory.

They keep diffusers' parameter names but never permute: feature maps travel channels-last, so "rows of tokens" is a
view of them. Both can be checkpointed as a whole.
"""

from abc import ABC, abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t4d.diffusion.checkpointing import recompute
from t4d.diffusion.layout import Layout, LayoutSlot


def to_tokens(maps: Tensor) -> Tensor:
    """Tokens [R, H*W, C] of maps [R, C, H, W]; a view where the maps are channels-last."""
    rows, channels, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(rows, height * width, channels)


def to_maps(tokens: Tensor, height: int, width: int) -> Tensor:
    """Maps [R, C, H, W], channels-last, of tokens [R, H*W, C]."""
    return tokens.view(-1, height, width, tokens.shape[-1]).permute(0, 3, 1, 2)


def project(layer: nn.Module, tokens: Tensor) -> Tensor:
    """Apply a linear layer or 1x1 convolution to tokens [..., C]."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return F.linear(tokens, weight.flatten(1), layer.bias)  # type: ignore[arg-type]


class _Transformer(nn.Module, ABC):
    """Shared frame: the parts of a diffusers transformer, the layout slot, and checkpointing."""

    def __init__(self, parts: nn.Module, slot: LayoutSlot):
        super().__init__()
        self.norm = cast(nn.Module, parts.norm)
        self.proj_in = cast(nn.Module, parts.proj_in)
        self.transformer_blocks = cast(nn.ModuleList, parts.transformer_blocks)
        self.proj_out = cast(nn.Module, parts.proj_out)
        self.slot = slot
        self.gradient_checkpointing = False

    def _call(self, hidden_states: Tensor, *args) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            # the layout is an argument: by the backward pass the slot may hold another pass's
            out = recompute(self._run, hidden_states, *args)
            assert isinstance(out, Tensor)
            return out
        return self._run(hidden_states, *args)

    @abstractmethod
    def _run(self, hidden_states: Tensor, *args) -> Tensor:
        """The transformer itself, without checkpointing."""


class SpatialTransformer(_Transformer):
    """Multi-view attention with the MV2V adapter, then cross-attention to text and image, then feed-forward."""

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: tuple[Tensor, Tensor | None], **_: object
    ) -> tuple[Tensor]:
        """Transform maps.

        Args:
            hidden_states: [B*V*T, C, H, W].
            encoder_hidden_states: Text and image tokens, see ``TextImageAttention``.
            **_: What diffusers' blocks pass besides (masks, return_dict); not used here.

        Returns:
            A tuple of one [B*V*T, C, H, W], as diffusers' blocks expect.
        """
        return (self._call(hidden_states, *encoder_hidden_states, self.slot.get()),)

    def _run(self, hidden_states: Tensor, text: Tensor, image: Tensor | None, layout: Layout) -> Tensor:
        height, width = hidden_states.shape[-2:]
        tokens = project(self.proj_in, to_tokens(self.norm(hidden_states)))
        kwargs = {"layout": layout, "height": height, "width": width}
        for block in self.transformer_blocks:
            tokens = block(tokens, encoder_hidden_states=(text, image), cross_attention_kwargs=kwargs)
        return to_maps(project(self.proj_out, tokens), height, width) + hidden_states


class MotionTransformer(_Transformer):
    """Two spatiotemporal attentions and a feed-forward; its norm pools statistics over all frames of one view."""

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """Transform maps.

        Args:
            hidden_states: [B*V*T, C, H, W].
            *_: What diffusers' blocks pass besides; not used here.
            **__: The same, by name (num_frames: the layout has it).

        Returns:
            [B*V*T, C, H, W].
        """
        return self._call(hidden_states, self.slot.get())

    def _run(self, hidden_states: Tensor, layout: Layout) -> Tensor:
        height, width = hidden_states.shape[-2:]
        # [B*V, C, T, H*W]: one view's frames become the rows of one map, so a 2D norm pools over them
        tokens = to_tokens(hidden_states)
        channels = tokens.shape[-1]
        clip = tokens.view(layout.B * layout.V, layout.T, height * width, channels).permute(0, 3, 1, 2)
        clip = self.norm(clip).permute(0, 2, 3, 1).reshape(layout.B * layout.V, -1, channels)
        clip = project(self.proj_in, clip)
        kwargs = {"layout": layout, "height": height, "width": width}
        for block in self.transformer_blocks:
            clip = block(clip, cross_attention_kwargs=kwargs)
        out = project(self.proj_out, clip).view_as(tokens) + tokens
        return to_maps(out, height, width)
