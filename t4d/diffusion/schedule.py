"""Noise of the forward process, of the first frame, and the three ways to say what the network predicts."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

PredictionType = Literal["epsilon", "sample", "v_prediction"]

# AnimateDiff's schedule (linear, not Stable Diffusion's scaled_linear), used by Animate3D in training and sampling.
TRAIN_STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012
PAPER_SCHEDULE = {
    "num_train_timesteps": TRAIN_STEPS,
    "beta_start": BETA_START,
    "beta_end": BETA_END,
    "beta_schedule": "linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "prediction_type": "epsilon",
}


def linear_alphas_cumprod(steps: int = TRAIN_STEPS, start: float = BETA_START, end: float = BETA_END) -> Tensor:
    """Cumulative signal power alpha-bar of a linear beta schedule, [steps] float32."""
    return torch.cumprod(1.0 - torch.linspace(start, end, steps, dtype=torch.float32), dim=0)


def alpha_bar(t: Tensor | float, alphas_cumprod: Tensor) -> Tensor:
    """alpha-bar at a time; between whole steps sigma = sqrt((1 - a) / a) is linear, as diffusers' schedulers have it.

    Args:
        t: Time or times in 0..steps-1, whole or not.
        alphas_cumprod: [steps].

    Returns:
        Tensor of t's shape.
    """
    t = torch.as_tensor(t, dtype=torch.float32, device=alphas_cumprod.device)
    low = t.floor().long().clamp(0, len(alphas_cumprod) - 1)
    high = (low + 1).clamp(max=len(alphas_cumprod) - 1)
    sigma = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()
    mixed = torch.lerp(sigma[low], sigma[high], t - low)
    return torch.where(t == low, alphas_cumprod[low], 1 / (1 + mixed**2))


def _signal_noise(t: Tensor | float, alphas_cumprod: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha-bar), sqrt(1 - alpha-bar), shaped to multiply ``like`` [B, ...]."""
    a = alpha_bar(t, alphas_cumprod.to(like.device))
    if a.ndim:
        a = a.reshape(-1, *[1] * (like.ndim - 1))
    return a.sqrt().to(like.dtype), (1 - a).sqrt().to(like.dtype)


def add_noise(z: Tensor, noise: Tensor, t: Tensor | float, alphas_cumprod: Tensor) -> Tensor:
    """Forward process of Eq. 1: z_t = sqrt(a_t) z + sqrt(1 - a_t) eps.

    Args:
        z: Clean latents [B, ...].
        noise: Standard normal, same shape.
        t: Time, scalar or [B].
        alphas_cumprod: [steps].

    Returns:
        z_t, same shape.
    """
    signal, sigma = _signal_noise(t, alphas_cumprod, z)
    return signal * z + sigma * noise


@dataclass(frozen=True)
class FirstFrameNoise:
    """Scale beta_t of the noise that training adds to the clean first frame (Eq. 2).

    It is large at large t, so that the network does not rest on a clean copy. The paper leaves the form open.

    Attributes:
        form: "sigmoid": beta_max * sigmoid(n + 2 (t/1000)^power - 1) with n ~ N(0, 1) per object, as in the cited
            conditional-leakage work's public code; "power": beta_max * (t/1000)^power; "off": zero.
        beta_max: Largest scale, in units of the latents' standard deviation.
        power: Exponent.
        steps: Length of the schedule.
    """

    form: Literal["sigmoid", "power", "off"] = "sigmoid"
    beta_max: float = 1.0
    power: float = 5.0
    steps: int = TRAIN_STEPS

    def beta(self, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scale for each time of t [B]; random in the sigmoid form."""
        progress = (t.to(torch.float32) / self.steps) ** self.power
        if self.form == "off":
            return torch.zeros_like(progress)
        if self.form == "power":
            return self.beta_max * progress
        n = torch.randn(progress.shape, generator=generator, dtype=torch.float32).to(progress.device)
        return self.beta_max * torch.sigmoid(n + 2 * progress - 1)

    def mean_beta(self, t: float) -> float:
        """Expectation of :meth:`beta` over n, for sampling with ``first_frame="mean_beta"``."""
        progress = (float(t) / self.steps) ** self.power
        if self.form == "off":
            return 0.0
        if self.form == "power":
            return self.beta_max * progress
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        values = 1 / (1 + np.exp(-(nodes + 2 * progress - 1)))
        return float(self.beta_max * (weights * values).sum() / weights.sum())


def first_frame_noise(z0: Tensor, noise: Tensor, beta: Tensor | float) -> Tensor:
    """Conditional latent of Eq. 2: z_t^1 = z_0^1 + beta_t eps'.

    Args:
        z0: Latents of frame 0, [B, ...].
        noise: Standard normal, same shape.
        beta: Scale, scalar or [B].

    Returns:
        Same shape.
    """
    beta = torch.as_tensor(beta, dtype=z0.dtype, device=z0.device)
    if beta.ndim:
        beta = beta.reshape(-1, *[1] * (z0.ndim - 1))
    return z0 + beta * noise


def noisy_clip(
    z0: Tensor,
    noise: Tensor,
    t: Tensor,
    alphas_cumprod: Tensor,
    first_frame: FirstFrameNoise | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Network input in training: Eq. 1 on frames 1.., Eq. 2 on frame 0.

    Args:
        z0: Clean latents [B, V, T, C, h, w].
        noise: Standard normal, same shape; its frame 0 is eps'.
        t: One time per object, [B].
        alphas_cumprod: [steps].
        first_frame: Form of beta_t; None keeps frame 0 clean.
        generator: Source of the sigmoid form's n.

    Returns:
        z_t [B, V, T, C, h, w].
    """
    later = add_noise(z0[:, :, 1:], noise[:, :, 1:], t, alphas_cumprod)
    first = z0[:, :, :1]
    if first_frame is not None:
        beta = first_frame.beta(t, generator).to(z0.device)
        first = first_frame_noise(first, noise[:, :, :1], beta)
    return torch.cat([first, later], dim=2)


def target_of(z0: Tensor, noise: Tensor, t: Tensor | float, alphas_cumprod: Tensor, kind: PredictionType) -> Tensor:
    """What a network of this prediction type should return for z_t made of z0 and noise."""
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return z0
    signal, sigma = _signal_noise(t, alphas_cumprod, z0)
    return signal * noise - sigma * z0


def to_x0(prediction: Tensor, z_t: Tensor, t: Tensor | float, alphas_cumprod: Tensor, kind: PredictionType) -> Tensor:
    """Clean latents that a prediction at z_t implies."""
    if kind == "sample":
        return prediction
    signal, sigma = _signal_noise(t, alphas_cumprod, z_t)
    if kind == "epsilon":
        return (z_t - sigma * prediction) / signal
    return signal * z_t - sigma * prediction


def from_x0(x0: Tensor, z_t: Tensor, t: Tensor | float, alphas_cumprod: Tensor, kind: PredictionType) -> Tensor:
    """Inverse of :func:`to_x0`: the prediction that implies these clean latents."""
    if kind == "sample":
        return x0
    signal, sigma = _signal_noise(t, alphas_cumprod, z_t)
    if kind == "epsilon":
        return (z_t - signal * x0) / sigma
    return (signal * z_t - x0) / sigma
