"""Training loss of the denoiser."""

import torch
from torch import Tensor

from t4d.diffusion.schedule import PredictionType, target_of


def diffusion_loss(
    prediction: Tensor,
    z0: Tensor,
    noise: Tensor,
    t: Tensor,
    alphas_cumprod: Tensor,
    kind: PredictionType = "epsilon",
    weight: Tensor | None = None,
) -> Tensor:
    """L_diff of Eq. 3: mean squared error of the prediction over frames 1..T-1, in float32.

    Frame 0 is the condition: it carries no Eq. 1 noise, so the prediction for it is discarded.

    Args:
        prediction: Network output [B, V, T, C, h, w].
        z0: Clean latents, same shape.
        noise: The noise z_t was made of, same shape.
        t: Time of each object, [B].
        alphas_cumprod: [steps].
        kind: What the network predicts; the paper's is "epsilon".
        weight: Factor per object [B] (such as min-SNR), or per element broadcastable to [B, V, T-1, C, h, w].

    Returns:
        Scalar.
    """
    later = (slice(None), slice(None), slice(1, None))
    target = target_of(z0[later].float(), noise[later].float(), t, alphas_cumprod, kind)
    squared = (prediction[later].float() - target).square()
    if weight is not None:
        if weight.ndim == 1:
            weight = weight.reshape(-1, *[1] * (squared.ndim - 1))
        squared = squared * weight.to(squared.dtype)
    return torch.mean(squared)
