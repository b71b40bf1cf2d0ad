"""The three small interfaces around the denoiser: autoencoder, text encoder, image encoder.

Everything the sampler, the trainer and 4D-SDS know about pixels and words goes through these, so that the
paper's parts (SD VAE, CLIP) and mini's own parts are exchangeable. Pictures are RGBA in 0..1: channels 0..2 are
the picture over mid-grey 0.5, channel 3 is coverage.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Generator, Tensor


@runtime_checkable
class ClipAutoencoder(Protocol):
    """Maps multi-view clips to latents of about unit standard deviation and back.

    Attributes:
        latent_channels: Channels C of a latent.
        factor: Pixels per latent cell along each side; H and W must be multiples of it.
    """

    latent_channels: int
    factor: int

    def encode(self, rgba: Tensor) -> Tensor:
        """Latents of a clip whose frame 0 is the reference.

        Args:
            rgba: [B, V, T, 4, H, W] in 0..1.

        Returns:
            [B, V, T, C, H/factor, W/factor]. A reference-conditioned autoencoder returns exact zeros for frame 0, one
            with a posterior returns its mean.
        """
        ...

    def decode(self, z: Tensor, reference_rgba: Tensor) -> Tensor:
        """Clip of given latents.

        Args:
            z: [B, V, T, C, h, w].
            reference_rgba: frame 0 of every view, [B, V, 4, H, W] in 0..1.

        Returns:
            [B, V, T, 4, H, W] in 0..1.
        """
        ...

    def condition(self, reference_rgba: Tensor) -> Tensor | None:
        """Appearance of frame 0 for the denoiser's ``cond_concat`` input.

        Args:
            reference_rgba: [B, V, 4, H, W] in 0..1.

        Returns:
            [B, V, Cc, h, w], or None where the latent of frame 0 itself shows the object (SD VAE).
        """
        ...


@runtime_checkable
class PosteriorAutoencoder(ClipAutoencoder, Protocol):
    """An autoencoder whose encoder gives a distribution (SD VAE), of which training takes samples."""

    def encode_sample(self, rgba: Tensor, generator: Generator) -> Tensor:
        """Like ``encode``, a sample instead of the mean.

        Args:
            rgba: [B, V, T, 4, H, W] in 0..1.
            generator: Of the CPU, so that the sample does not depend on the device.
        """
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Maps sentences to cross-attention tokens. The empty sentence is the unconditional input."""

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Encode sentences; differentiable where the encoder is trained with the base.

        Args:
            texts: B sentences; "" is the unconditional one.

        Returns:
            Tokens [B, L, D] and a pooled vector [B, P] for the time embedding, or None.
        """
        ...


@runtime_checkable
class ImageEncoder(Protocol):
    """Maps the reference picture of each view to one vector, from which the denoiser makes image tokens.

    The unconditional input is the zero vector, *before* the denoiser's projection.
    """

    def encode(self, rgba: Tensor) -> Tensor:
        """Encode reference pictures.

        Args:
            rgba: [B, V, 4, H, W] in 0..1.

        Returns:
            [B, V, Di].
        """
        ...
