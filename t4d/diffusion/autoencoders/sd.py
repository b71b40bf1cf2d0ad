"""Stable Diffusion's VAE behind the autoencoder interface (the paper's latents)."""

from collections.abc import Sequence
from typing import cast

import torch
from diffusers import AutoencoderKL
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class SDAutoencoder(ModelMixin, ConfigMixin):
    """AutoencoderKL of SD1.5; each frame on its own, latents scaled to about unit deviation.

    It has no coverage: decoded alpha is 1 everywhere and masks come from a segmenter.

    Args:
        block_out_channels: Widths; the number of them sets the factor, 2^(n-1).
        layers_per_block: Residual layers a block.
        latent_channels: C.
        norm_num_groups: Groups of the norms.
        scaling_factor: Latent times this is what the denoiser sees (0.18215 for SD1.5).
        chunk: Images encoded or decoded at once, which bounds memory. Where pictures carry gradient (4D-SDS), chunks
            are encoded again in the backward pass instead of being kept.
    """

    config_name = "config.json"
    has_alpha = False

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        latent_channels: int = 4,
        norm_num_groups: int = 32,
        scaling_factor: float = 0.18215,
        chunk: int = 8,
    ):
        super().__init__()
        levels = len(block_out_channels)
        self.vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,  # type: ignore[arg-type]
            up_block_types=("UpDecoderBlock2D",) * levels,  # type: ignore[arg-type]
            block_out_channels=tuple(block_out_channels),  # type: ignore[arg-type]
            layers_per_block=layers_per_block,
            latent_channels=latent_channels,
            norm_num_groups=norm_num_groups,
            scaling_factor=scaling_factor,
        )
        self.latent_channels = latent_channels
        self.factor = 2 ** (levels - 1)
        self.scaling_factor = scaling_factor
        self.chunk = chunk

    def encode(self, rgba: Tensor) -> Tensor:
        """Latents of every frame: the posterior's mean, in training mode too.

        Args:
            rgba: [B, V, T, 4, H, W] in 0..1, colour over mid-grey; coverage is not used.

        Returns:
            [B, V, T, C, H/factor, W/factor].
        """
        return self._latents(rgba, None)

    def encode_sample(self, rgba: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of every frame: a sample of the posterior.

        Args:
            rgba: As for `encode`.
            generator: Of the CPU; the sample depends on neither the device nor `chunk`.

        Returns:
            [B, V, T, C, H/factor, W/factor].
        """
        cells = (rgba.shape[-2] // self.factor, rgba.shape[-1] // self.factor)
        noise = torch.randn(rgba.shape[:3].numel(), self.latent_channels, *cells, generator=generator)
        return self._latents(rgba, noise)

    def _latents(self, rgba: Tensor, noise: Tensor | None) -> Tensor:
        """Scaled latents of a clip; `noise` [B * V * T, C, h, w] is what a sample is off the mean, in deviations."""
        pictures = 2 * rgba[:, :, :, :3].flatten(0, 2).to(self.dtype) - 1
        keep = not pictures.requires_grad or len(pictures) <= self.chunk
        chunks = pictures.split(self.chunk)
        parts = [
            self._encode(*both) if keep else checkpoint(self._encode, *both, use_reentrant=False)
            for both in zip(chunks, [None] * len(chunks) if noise is None else noise.split(self.chunk))
        ]
        z = torch.cat(cast(list[Tensor], parts)) * self.scaling_factor
        return z.unflatten(0, rgba.shape[:3])

    def _encode(self, pictures: Tensor, noise: Tensor | None) -> Tensor:
        posterior = self.vae.encode(pictures).latent_dist  # type: ignore[union-attr]
        return posterior.mean if noise is None else posterior.mean + posterior.std * noise.to(posterior.mean)

    def decode(self, z: Tensor, reference_rgba: Tensor) -> Tensor:
        """Pictures of latents.

        Args:
            z: [B, V, T, C, h, w].
            reference_rgba: Not used; each latent holds its whole picture.

        Returns:
            [B, V, T, 4, H, W] in 0..1, alpha 1.
        """
        flat = (z.flatten(0, 2) / self.scaling_factor).to(self.dtype)
        rgb = torch.cat([self.vae.decode(part).sample for part in flat.split(self.chunk)])  # type: ignore[union-attr]
        rgb = (rgb / 2 + 0.5).clamp(0, 1)
        return torch.cat([rgb, torch.ones_like(rgb[:, :1])], dim=1).unflatten(0, z.shape[:3])

    def condition(self, reference_rgba: Tensor) -> Tensor | None:
        """None: the latent of frame 0 itself shows the object."""
        return None
