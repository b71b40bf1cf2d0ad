"""Turns diffusers' motion U-Net into ours: strides, norms, transformers and attention processors, chosen by name."""

from collections.abc import Sequence

import torch
from diffusers import UNetMotionModel
from diffusers.models.downsampling import Downsample2D
from diffusers.models.upsampling import Upsample2D
from torch import nn

from t4d.diffusion.attention import MultiViewAttention, SpatioTemporalAttention, TextImageAttention
from t4d.diffusion.layout import LayoutSlot
from t4d.diffusion.transformers import MotionTransformer, SpatialTransformer
from t4d.errors import InputError


def first_up_norm(unet: UNetMotionModel, groups: int) -> None:
    """Set the number of groups of the motion-module norms of ``up_blocks.0``."""
    for module in unet.up_blocks[0].motion_modules:  # type: ignore[union-attr]
        norm = module.norm
        assert isinstance(norm, nn.GroupNorm)
        if norm.num_channels % groups:
            raise InputError(
                f"The {norm.num_channels} channels of up_blocks.0 cannot be normed in {groups} groups; change "
                "first_up_motion_groups to a divisor."
            )
        norm.num_groups = groups


def install_strides(unet: UNetMotionModel, strides: Sequence[int]) -> None:
    """Make level i to i+1 a step of ``strides[i]``, down and up; the 3x3 convolutions stay where a step is 1."""
    last = len(strides)
    for level, stride in enumerate(strides):
        down = unet.down_blocks[level].downsamplers[0]  # type: ignore[index]
        up = unet.up_blocks[last - level - 1].upsamplers[0]  # type: ignore[index]
        assert isinstance(down, Downsample2D) and isinstance(up, Upsample2D)
        assert isinstance(down.conv, nn.Conv2d)
        down.conv.stride = (stride, stride)
        up.interpolate = stride == 2


def install_attention(
    unet: UNetMotionModel,
    slot: LayoutSlot,
    kv_pool: Sequence[int],
    token_channels: int,
    image_embed_dim: int | None,
    max_frames: int,
) -> None:
    """Replace every transformer of the blocks by ours and give each attention its processor.

    Spatial attn1 gets multi-view attention with the adapter, spatial attn2 cross-attention to text and image, both
    attentions of a motion module spatiotemporal attention.

    Args:
        unet: Network to change.
        slot: Where the transformers read the layout of the running pass.
        kv_pool: Pool size of each level.
        token_channels: Channels of text and image tokens.
        image_embed_dim: None where there is no image prompt.
        max_frames: Longest clip.
    """
    levels = len(kv_pool)
    blocks = [(block, kv_pool[level]) for level, block in enumerate(unet.down_blocks)]
    blocks += [(block, kv_pool[levels - 1 - index]) for index, block in enumerate(unet.up_blocks)]
    blocks.append((unet.mid_block, kv_pool[-1]))
    for block, pool in blocks:
        if hasattr(block, "attentions"):
            for index, parts in enumerate(block.attentions):  # type: ignore[arg-type]
                for inner in parts.transformer_blocks:
                    channels = inner.attn1.query_dim
                    inner.attn1.set_processor(MultiViewAttention(channels, pool))
                    inner.attn2.set_processor(TextImageAttention(channels, token_channels, image_embed_dim is not None))
                block.attentions[index] = SpatialTransformer(parts, slot)  # type: ignore[index, operator]
        for index, parts in enumerate(block.motion_modules):  # type: ignore[arg-type]
            for inner in parts.transformer_blocks:
                inner.pos_embed = None  # the processors add their own codes
                for attention in (inner.attn1, inner.attn2):
                    channels = attention.query_dim
                    attention.set_processor(SpatioTemporalAttention(channels, max_frames, pool))
            block.motion_modules[index] = MotionTransformer(parts, slot)  # type: ignore[index, operator]
    start_adapter_from_attention(unet)


@torch.no_grad()
def start_adapter_from_attention(unet: nn.Module) -> None:
    """Start every adapter as the attention it extends: queries copied from to_q, output zero."""
    for module in unet.modules():
        processor = getattr(module, "processor", None)
        if isinstance(processor, MultiViewAttention):
            processor.to_q_i2v.weight.copy_(module.to_q.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(processor.to_out_i2v.weight)
            nn.init.zeros_(processor.to_out_i2v.bias)
