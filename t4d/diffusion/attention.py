"""The three attention processors of the multi-view video network.

All take tokens in the network's own row order "(b v t) l c" (or "(b v) (t l) c" in motion modules) and return the
same. Attention of many tokens runs through torch's scaled_dot_product_attention, so memory stays linear in them.
"""

from typing import cast

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from torch import Tensor, nn

from t4d.diffusion.layout import Layout
from t4d.diffusion.positions import spatial_code

WRITTEN_OUT = 2**17  # scores of a head up to which training on a CPU writes attention out; above it memory would count


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(C)) V over the last two dimensions, [..., Lq, C] and twice [..., Lk, C] giving [..., Lq, C].

    Where a small network trains on a CPU it is written out: there torch's fused kernel takes twice as long in its
    backward pass and its fallback a quarter longer over all (`python -m eval.bench.attention`).
    """
    if query.device.type != "cpu" or not torch.is_grad_enabled() or query.shape[-2] * key.shape[-2] > WRITTEN_OUT:
        return F.scaled_dot_product_attention(query, key, value)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return torch.softmax(scores, -1) @ value


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention of [R, Lq, C] queries over [R, Lk, C] keys and values, giving [R, Lq, C]."""
    rows, length, channels = query.shape
    query, key, value = (x.view(rows, -1, heads, channels // heads).transpose(1, 2) for x in (query, key, value))
    out = attention(query, key, value)
    return out.transpose(1, 2).reshape(rows, length, channels)


def projections(attn: Attention) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
    """to_q, to_k, to_v and the linear layer of to_out of an attention."""
    return cast(tuple[nn.Module, nn.Module, nn.Module, nn.Module], (attn.to_q, attn.to_k, attn.to_v, attn.to_out[0]))  # type: ignore[index]


def pool_tokens(x: Tensor, height: int, width: int, factor: int) -> Tensor:
    """Average the tokens [R, height * width, C] of a map over factor x factor cells; identity for factor 1."""
    if factor == 1:
        return x
    maps = x.reshape(x.shape[0], height, width, x.shape[-1]).permute(0, 3, 1, 2)
    return F.avg_pool2d(maps, factor, ceil_mode=True).flatten(2).transpose(1, 2)


class MultiViewAttention(nn.Module):
    """Joint attention over all views of a frame, plus the MV2V adapter that looks at frame 0.

    The adapter has its own queries and output but shares keys and values with the attention it extends; those of
    frame 0, all views, serve every frame. It starts as the identity: queries copied, output zero.

    Attributes:
        kv_pool: Cells of kv_pool x kv_pool pixels share one key and value (1: every pixel has its own).
    """

    def __init__(self, channels: int, kv_pool: int = 1):
        super().__init__()
        self.kv_pool = kv_pool
        self.to_q_i2v = nn.Linear(channels, channels, bias=False)
        self.to_out_i2v = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out_i2v.weight)
        nn.init.zeros_(self.to_out_i2v.bias)

    def __call__(  # diffusers reads the signature of __call__ to decide what to pass
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        layout: Layout,
        height: int,
        width: int,
    ) -> Tensor:
        """Attend.

        Args:
            attn: The frozen attention that owns to_q, to_k, to_v and to_out.
            hidden_states: Normed tokens "(b v t) l c", [B*V*T, height*width, C].
            encoder_hidden_states: Unused; self-attention.
            attention_mask: Unused; every token sees every token of its frame.
            layout: Counts of the batch.
            height: Rows of the feature map.
            width: Columns of the feature map.

        Returns:
            [B*V*T, height*width, C], without the residual.
        """
        to_q, to_k, to_v, to_out = projections(attn)
        x = layout.gather_views(hidden_states)
        pooled = x
        if self.kv_pool > 1:
            pooled = layout.gather_views(pool_tokens(hidden_states, height, width, self.kv_pool))
        query, key, value = to_q(x), to_k(pooled), to_v(pooled)
        out = attend(query, key, value, attn.heads)

        # Every frame asks the same keys, so frames fold into the query length instead of repeating keys T times.
        first = (layout.B, layout.T, *key.shape[1:])
        key0, value0 = key.view(first)[:, 0], value.view(first)[:, 0]
        query0 = self.to_q_i2v(x).view(layout.B, -1, x.shape[-1])
        out = out + self.to_out_i2v(attend(query0, key0, value0, attn.heads)).view_as(out)
        return layout.scatter_views(to_out(out))


class TextImageAttention(nn.Module):
    """Cross-attention to text tokens plus, where the network has an image prompt, to image tokens (IP-Adapter)."""

    def __init__(self, channels: int, token_channels: int, image: bool):
        super().__init__()
        if image:
            self.to_k_ip = nn.ModuleList([nn.Linear(token_channels, channels, bias=False)])
            self.to_v_ip = nn.ModuleList([nn.Linear(token_channels, channels, bias=False)])
        self.image = image

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: tuple[Tensor, Tensor | None] | None = None,
        attention_mask: Tensor | None = None,
        layout: Layout | None = None,
        height: int = 0,
        width: int = 0,
    ) -> Tensor:
        """Attend.

        Args:
            attn: The attention that owns to_q, to_k, to_v and to_out.
            hidden_states: Normed tokens "(b v t) l c".
            encoder_hidden_states: Text tokens [B or B*V, L, D] and image tokens [B*V, M, D] or None. Rows are not
                repeated over frames: the frames of a row fold into its query length.
            attention_mask: Unused.
            layout: Unused; a diffusers block gives both its attentions the same arguments.
            height: Unused.
            width: Unused.

        Returns:
            Tokens "(b v t) l c", without the residual.
        """
        if encoder_hidden_states is None:
            raise ValueError("cross-attention needs text tokens")
        text, image = encoder_hidden_states
        to_q, to_k, to_v, to_out = projections(attn)
        query = to_q(hidden_states)
        out = self._read(query, to_k(text), to_v(text), attn.heads)
        if self.image and image is not None:
            out = out + self._read(query, self.to_k_ip[0](image), self.to_v_ip[0](image), attn.heads)
        return to_out(out)

    @staticmethod
    def _read(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
        return attend(query.view(key.shape[0], -1, query.shape[-1]), key, value, heads).view_as(query)


class AlphaBlender(nn.Module):
    """One learned scalar that mixes the spatial and the temporal branch; 0 gives half and half."""

    def __init__(self):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        """sigmoid(mix) * spatial + (1 - sigmoid(mix)) * temporal, for tensors of one shape."""
        return torch.lerp(temporal, spatial, torch.sigmoid(self.mix_factor).to(temporal.dtype))


class SpatioTemporalAttention(nn.Module):
    """Attention of a motion module: over the frames of a pixel, blended with attention over a frame's pixels.

    The temporal branch is AnimateDiff's own projections with a 1D sine code. The spatial branch has new projections
    and a 2D sine code and sees all views of a frame together.

    Attributes:
        kv_pool: Cells of kv_pool x kv_pool pixels share one key and value in the spatial branch.
    """

    def __init__(self, channels: int, max_frames: int, kv_pool: int = 1):
        super().__init__()
        self.kv_pool = kv_pool
        self.to_q_sp = nn.Linear(channels, channels, bias=False)
        self.to_k_sp = nn.Linear(channels, channels, bias=False)
        self.to_v_sp = nn.Linear(channels, channels, bias=False)
        self.to_out_sp = nn.Linear(channels, channels)
        self.alpha_blender = AlphaBlender()
        self.time_pos_embed = SinusoidalPositionalEmbedding(channels, max_seq_length=max_frames)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        layout: Layout,
        height: int,
        width: int,
    ) -> Tensor:
        """Attend.

        Args:
            attn: The temporal attention that owns to_q, to_k, to_v and to_out.
            hidden_states: Normed tokens "(b v) (t l) c", [B*V, T*height*width, C].
            encoder_hidden_states: Unused; self-attention.
            attention_mask: Unused; time is not causal and frame 0 takes part.
            layout: Counts of the batch.
            height: Rows of the feature map.
            width: Columns of the feature map.

        Returns:
            [B*V, T*height*width, C], without the residual.
        """
        spatial = self._spatial(hidden_states, attn.heads, layout, height, width)
        temporal = self._temporal(attn, hidden_states, layout, height * width)
        return self.alpha_blender(spatial, temporal)

    def _spatial(self, x: Tensor, heads: int, layout: Layout, height: int, width: int) -> Tensor:
        shape, channels = x.shape, x.shape[-1]
        code = spatial_code(height, width, channels, x.device, x.dtype)
        x = x.view(layout.rows, height * width, channels) + code
        pooled = None
        if self.kv_pool > 1:
            pooled = layout.gather_views(pool_tokens(x, height, width, self.kv_pool))
        x = layout.gather_views(x)
        pooled = x if pooled is None else pooled
        out = attend(self.to_q_sp(x), self.to_k_sp(pooled), self.to_v_sp(pooled), heads)
        return layout.scatter_views(self.to_out_sp(out)).view(shape)

    def _temporal(self, attn: Attention, x: Tensor, layout: Layout, length: int) -> Tensor:
        shape, channels = x.shape, x.shape[-1]
        code = cast(Tensor, self.time_pos_embed.pe)[0, : layout.T].to(x.dtype)
        to_q, to_k, to_v, to_out = projections(attn)
        x = x.view(layout.B * layout.V, layout.T, length, channels) + code[:, None]
        # Pixels and heads are adjacent, so "one sequence of T per pixel and head" is a view, not a copy.
        split = (layout.B * layout.V, layout.T, length * attn.heads, channels // attn.heads)
        query, key, value = (project(x).view(split).transpose(1, 2) for project in (to_q, to_k, to_v))
        out = attention(query, key, value)
        return to_out(out.transpose(1, 2).reshape(shape))
