"""The multi-view video denoiser (MV-VDM): one class for the paper's network and for mini."""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from diffusers import UNetMotionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection, TimestepEmbedding
from torch import Tensor, nn

from t4d.diffusion.checkpointing import recompute
from t4d.diffusion.install import first_up_norm, install_attention, install_strides
from t4d.diffusion.layout import Layout, LayoutSlot
from t4d.diffusion.motion_mean import MotionMean
from t4d.diffusion.weights import load_module, save_module
from t4d.errors import InputError


class MultiViewMotionUNet(UNetMotionModel):
    """SD1.5's motion U-Net with camera embedding, multi-view attention and spatiotemporal motion modules.

    It predicts noise, clean latents or velocity of V x T latents at once, from text, one picture embedding per view and
    cameras; frame 0 of every view is given clean. Parameter names and shapes are those of the public checkpoints.
    View and frame counts and the picture size are free in every call.

    Args:
        sample_size: Side of the latents it was trained on; only a record.
        in_channels: Channels of a latent.
        out_channels: Channels of the prediction.
        block_out_channels: Width of every level, top first.
        layers_per_block: Residual layers of a down block; up blocks have one more.
        norm_num_groups: Groups of the group norms.
        cross_attention_dim: Channels of a text or image token.
        num_attention_heads: Heads of the spatial transformers, one number or one per level.
        motion_num_attention_heads: Heads of the motion modules, one number or one per level.
        motion_max_seq_length: Longest clip, in frames.
        camera_embedding_dim: Length of a camera vector.
        image_embed_dim: Length of a picture embedding; None: no image prompt.
        image_tokens: Tokens made of one picture embedding.
        text_pooled_dim: Length of the pooled text vector added to the time embedding; None: not used.
        cond_concat_channels: Channels of the frame-0 appearance put beside the latent of every frame.
        strides: Downsampling from each level to the next (1 or 2).
        kv_pool: At each level, cells of this many pixels a side share one key and value in joint spatial attention.
        first_up_motion_groups: Groups of the motion-module norms of ``up_blocks.0``; the network that made the public
            weights keeps 32 there whatever norm_num_groups is (at the paper's size both are 32). None: as everywhere.
        i2v_cond_time_zero: Give frame 0, which is clean, the embedding of time 0.
        zero_init_output: Start from a prediction of exactly zero.
        motion_mean: ``width``, ``layers``, ``heads`` and ``frames`` of a :class:`MotionMean`. Its clip stands beside
            the latents in the input and is added to the output, so the network must predict clean latents; its tokens
            join every frame after the first convolution. None: there is none.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 4,
        out_channels: int = 4,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        cross_attention_dim: int = 768,
        num_attention_heads: int | Sequence[int] = 8,
        motion_num_attention_heads: int | Sequence[int] = 8,
        motion_max_seq_length: int = 32,
        camera_embedding_dim: int = 16,
        image_embed_dim: int | None = 1024,
        image_tokens: int = 4,
        text_pooled_dim: int | None = None,
        cond_concat_channels: int = 0,
        strides: Sequence[int] = (2, 2, 2),
        kv_pool: Sequence[int] = (1, 1, 1, 1),
        first_up_motion_groups: int | None = None,
        i2v_cond_time_zero: bool = False,
        zero_init_output: bool = False,
        motion_mean: Mapping[str, int] | None = None,
    ):
        levels = len(block_out_channels)
        if len(strides) != levels - 1 or len(kv_pool) != levels or any(s not in (1, 2) for s in strides):
            raise InputError(
                f"The network has {levels} levels but strides {tuple(strides)} and kv_pool {tuple(kv_pool)}; give "
                f"{levels - 1} strides of 1 or 2 and {levels} pool sizes."
            )
        for heads in (num_attention_heads, motion_num_attention_heads):
            counts = [heads] * levels if isinstance(heads, int) else list(heads)
            if len(counts) != levels or any(n < 1 or w % 2 or w % n for w, n in zip(block_out_channels, counts)):
                raise InputError(
                    f"Widths {tuple(block_out_channels)} do not go with heads {heads}; every width must be even and a "
                    "multiple of its level's heads."
                )
        # The undecorated constructor: the decorated one would write its own fields into our config.
        UNetMotionModel.__init__.__wrapped__(  # type: ignore[attr-defined]
            self,
            sample_size=sample_size,
            in_channels=in_channels + cond_concat_channels + (0 if motion_mean is None else out_channels),
            out_channels=out_channels,
            down_block_types=("CrossAttnDownBlockMotion",) * (levels - 1) + ("DownBlockMotion",),
            up_block_types=("UpBlockMotion",) + ("CrossAttnUpBlockMotion",) * (levels - 1),
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=cross_attention_dim,
            num_attention_heads=_per_level(num_attention_heads),
            motion_num_attention_heads=_per_level(motion_num_attention_heads),
            motion_max_seq_length=motion_max_seq_length,
            time_cond_proj_dim=text_pooled_dim,
        )
        width = 4 * block_out_channels[0]
        self.camera_embedding = TimestepEmbedding(camera_embedding_dim, width)
        if image_embed_dim is not None:
            projection = ImageProjection(image_embed_dim, cross_attention_dim, image_tokens)
            self.encoder_hid_proj = MultiIPAdapterImageProjection([projection])

        # not named like the field: diffusers would answer with the field
        self.expected_motion: MotionMean | None = None
        if motion_mean is not None:
            sizes = (out_channels, cond_concat_channels, cross_attention_dim, text_pooled_dim, camera_embedding_dim)
            self.expected_motion = MotionMean(*sizes, **motion_mean)
            self.expected_features = nn.Conv2d(self.expected_motion.width, block_out_channels[0], 1)
            nn.init.zeros_(self.expected_features.weight)
            nn.init.zeros_(self.expected_features.bias)  # type: ignore[arg-type]

        self._slot = LayoutSlot()
        self._total_stride = prod(strides)
        first_up_norm(self, first_up_motion_groups or norm_num_groups)
        install_strides(self, strides)
        install_attention(self, self._slot, kv_pool, cross_attention_dim, image_embed_dim, motion_max_seq_length)
        if zero_init_output:
            nn.init.zeros_(self.conv_out.weight)
            nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(  # type: ignore[override]
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        text: Tensor,
        image_embeds: Tensor | None = None,
        cameras: Tensor | None = None,
        cond_concat: Tensor | None = None,
        pooled_text: Tensor | None = None,
    ) -> Tensor:
        """Predict noise, clean latents or velocity of every frame (Eq. 3's epsilon_theta).

        Args:
            sample: Noisy latents, frame 0 of every view (nearly) clean, [B, V, T, C, h, w].
            timestep: Diffusion time 0..999: scalar, [B] or [B, V].
            text: Text tokens [B, L, D] or [B, V, L, D].
            image_embeds: Picture embedding of frame 0, [B, V, Di]; zeros are the unconditional input.
            cameras: Unit-sphere OpenGL camera-to-world matrices, row-major, [B, V, 16].
            cond_concat: Appearance of frame 0, [B, V, Cc, h, w] or [B, V, T, Cc, h, w].
            pooled_text: Pooled text [B, P].

        Returns:
            Prediction [B, V, T, C, h, w]; frame 0 of it has no meaning.
        """
        layout = Layout(*sample.shape[:3])
        self._slot.current = layout
        self._check(sample, layout, image_embeds, cameras, cond_concat, pooled_text)
        assert cameras is not None

        embedding = self._embed(sample, timestep, cameras, pooled_text, layout)
        tokens = self._tokens(text, image_embeds, layout)

        mean, features = self.mean_clip(text, cameras, cond_concat, pooled_text, layout.T)
        x = sample.flatten(0, 2).to(self.conv_in.weight.dtype)
        if cond_concat is not None:
            if cond_concat.ndim == 5:
                cond_concat = cond_concat[:, :, None].expand(-1, -1, layout.T, -1, -1, -1)
            x = torch.cat([x, cond_concat.flatten(0, 2).to(x.dtype)], dim=1)
        if mean is not None:
            x = torch.cat([x, mean.flatten(0, 2).to(x.dtype)], dim=1)
        x = self.conv_in(x.contiguous(memory_format=torch.channels_last))
        if features is not None:
            x = x + self.expected_features(features.flatten(0, 1)).repeat_interleave(layout.T, 0)

        skips = [x]
        for block in self.down_blocks:
            if hasattr(block, "attentions"):
                x, outputs = block(x, embedding, encoder_hidden_states=tokens)
            else:
                x, outputs = block(x, embedding)
            skips += outputs
        x = self.mid_block(x, embedding, encoder_hidden_states=tokens)

        # sides that the strides do not divide come back to the exact size of the skip they meet
        odd = any(side % self._total_stride for side in sample.shape[-2:])
        for block in self.up_blocks:
            count = len(block.resnets)  # type: ignore[arg-type]
            used, skips = tuple(skips[-count:]), skips[:-count]
            size = skips[-1].shape[2:] if odd and skips else None
            kwargs = {"encoder_hidden_states": tokens} if hasattr(block, "attentions") else {}
            x = block(hidden_states=x, temb=embedding, res_hidden_states_tuple=used, upsample_size=size, **kwargs)

        x = self.conv_out(self.conv_act(self.conv_norm_out(x)))  # type: ignore[misc]
        found = x.reshape(*sample.shape[:3], *x.shape[1:])
        return found if mean is None else found + mean.to(found.dtype)

    def mean_clip(
        self,
        text: Tensor,
        cameras: Tensor,
        cond_concat: Tensor | None,
        pooled_text: Tensor | None = None,
        frames: int = 16,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Mean clean latents [B, V, T, C, h, w] of ``motion_mean`` and its tokens [B, V, width, h, w]; None without it.

        Arguments as of ``forward``.

        Raises:
            InputError: The clip is longer than the motion mean's.
        """
        if self.expected_motion is None or cond_concat is None:
            return None, None
        longest = self.expected_motion.frames
        if frames > longest:
            raise InputError(
                f"A clip of {frames} frames was asked for, the network's motion mean has {longest}; ask for fewer."
            )
        dtype = self.conv_in.weight.dtype
        appearance = cond_concat if cond_concat.ndim == 5 else cond_concat[:, :, 0]
        tokens = text.flatten(1, 2) if text.ndim == 4 else text
        pooled = None if pooled_text is None else pooled_text.to(dtype)
        return self.expected_motion(appearance.to(dtype), tokens.to(dtype), cameras.to(dtype), pooled, frames)

    def _embed(
        self, sample: Tensor, timestep: Tensor | float | int, cameras: Tensor, pooled: Tensor | None, layout: Layout
    ) -> Tensor:
        """Time plus camera embedding of every row, [B*V*T, width]."""
        dtype = self.conv_in.weight.dtype
        time = torch.as_tensor(timestep, device=sample.device)
        time = time.reshape(time.shape + (1,) * (2 - time.ndim)).expand(layout.B, layout.V).reshape(-1)
        condition = None
        if pooled is not None:
            condition = pooled.to(dtype).repeat_interleave(layout.V, dim=0)
        camera = self.camera_embedding(cameras.reshape(-1, cameras.shape[-1]).to(dtype))

        def at(t: Tensor) -> Tensor:
            return self.time_embedding(self.time_proj(t).to(dtype), condition) + camera

        if not self.config["i2v_cond_time_zero"]:
            return at(time).repeat_interleave(layout.T, dim=0)
        first, later = at(torch.zeros_like(time)), at(time)
        later = later[:, None].expand(-1, layout.T - 1, -1)
        return torch.cat([first[:, None], later], dim=1).flatten(0, 1)

    def _tokens(self, text: Tensor, image_embeds: Tensor | None, layout: Layout) -> tuple[Tensor, Tensor | None]:
        """Text tokens [B or B*V, L, D] and image tokens [B*V, M, D]."""
        dtype = self.conv_in.weight.dtype  # self.dtype walks all parameters, which costs milliseconds
        if text.ndim == 4:
            text = text.flatten(0, 1)
        image = None
        if image_embeds is not None and self.encoder_hid_proj is not None:
            rows = image_embeds.reshape(layout.B * layout.V, 1, -1).to(dtype)
            image = self.encoder_hid_proj([rows])[0].flatten(1, 2)
        return text.to(dtype), image

    def _check(
        self,
        sample: Tensor,
        layout: Layout,
        image_embeds: Tensor | None,
        cameras: Tensor | None,
        cond_concat: Tensor | None,
        pooled_text: Tensor | None,
    ) -> None:
        config = self.config
        wanted = {
            "sample": (sample, (layout.B, layout.V, layout.T, config["in_channels"], *sample.shape[-2:])),
            "cameras": (cameras, (layout.B, layout.V, config["camera_embedding_dim"])),
        }
        if config["image_embed_dim"] is not None:
            wanted["image_embeds"] = (image_embeds, (layout.B, layout.V, config["image_embed_dim"]))
        if config["text_pooled_dim"] is not None:
            wanted["pooled_text"] = (pooled_text, (layout.B, config["text_pooled_dim"]))
        for name, (value, shape) in wanted.items():
            if value is None or tuple(value.shape) != shape:
                found = None if value is None else tuple(value.shape)
                raise InputError(f"The network's input {name} has shape {found}, expected {shape}; pass that shape.")
        channels = config["cond_concat_channels"]
        if (cond_concat is None) != (channels == 0) or (cond_concat is not None and cond_concat.shape[-3] != channels):
            found = None if cond_concat is None else tuple(cond_concat.shape)
            raise InputError(f"The network takes {channels} channels of cond_concat, found shape {found}; pass those.")
        if layout.T > config["motion_max_seq_length"]:
            raise InputError(
                f"A clip of {layout.T} frames was asked for, the network's limit is {config['motion_max_seq_length']}; "
                "ask for fewer frames."
            )

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Callable[..., Any] | None = None) -> None:
        """Compute residual layers, spatial transformers and motion modules again in the backward pass.

        Values and gradients stay the same; what is kept are the inputs of these parts.

        Args:
            gradient_checkpointing_func: How a part is called; None: :func:`t4d.diffusion.checkpointing.recompute`.
        """
        super().enable_gradient_checkpointing(gradient_checkpointing_func or recompute)

    def save_pretrained(self, save_directory, **kwargs) -> None:  # type: ignore[override]
        """Write config and sharded safetensors, see :func:`t4d.diffusion.weights.save_module`."""
        save_module(self, save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, folder, **kwargs) -> "MultiViewMotionUNet":  # type: ignore[override]
        """Load a folder written by :meth:`save_pretrained`; fails if any tensor is missing or left over."""
        return load_module(cls, folder, **kwargs)


def _per_level(value: int | Sequence[int]) -> int | tuple[int, ...]:
    return value if isinstance(value, int) else tuple(value)
