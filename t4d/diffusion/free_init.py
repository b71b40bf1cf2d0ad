"""FreeInit: sample again from noise whose low frequencies are those of the previous result."""

import torch
from torch import Tensor

from t4d.diffusion.schedule import add_noise


def butterworth(frames: int, height: int, width: int, stop: float = 0.25, order: int = 4) -> Tensor:
    """Low-pass weights over shifted frequencies, 1 / (1 + (d^2 / stop^2)^order), [frames, height, width].

    d^2 sums (2 i / n - 1)^2 over the three axes, each with the same stop frequency.
    """
    axes = [(2 * torch.arange(n, dtype=torch.float32) / n - 1) ** 2 for n in (frames, height, width)]
    distance = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    return 1 / (1 + (distance / stop**2) ** order)


def reinitialise(result: Tensor, noise: Tensor, alphas_cumprod: Tensor, generator: torch.Generator) -> Tensor:
    """Starting noise of the next round.

    The previous result is noised to the last time with the first round's noise; its low frequencies over (frame, y, x)
    are kept, its high ones come from fresh noise.

    Args:
        result: Latents of frames 1.. of the previous round, [B, V, T-1, C, h, w].
        noise: Noise the first round started from, same shape.
        alphas_cumprod: [steps].
        generator: Source of the fresh noise, on the CPU.

    Returns:
        Same shape.
    """
    noised = add_noise(result, noise, float(len(alphas_cumprod) - 1), alphas_cumprod).float()
    fresh = torch.randn(noise.shape, generator=generator).to(noised.device)
    axes = (2, 4, 5)
    low = butterworth(noised.shape[2], *noised.shape[-2:]).to(noised.device)[:, None]

    def spectrum(x: Tensor) -> Tensor:
        return torch.fft.fftshift(torch.fft.fftn(x, dim=axes), dim=axes)

    mixed = spectrum(noised) * low + spectrum(fresh) * (1 - low)
    return torch.fft.ifftn(torch.fft.ifftshift(mixed, dim=axes), dim=axes).real.to(result.dtype)
