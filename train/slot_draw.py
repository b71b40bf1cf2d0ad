"""Times, words and noise of a whole batch at once, on the device: what `train.draws` does clip by clip, for batches of
hundreds. The laws are the same; the numbers differ, and depend on the batch."""

import torch

from t4d.diffusion.interfaces import ClipAutoencoder
from t4d.diffusion.schedule import FirstFrameNoise, noisy_clip
from train.config import StageOneTrainConfig
from train.draws import Drawn, clean_latents
from train.objective import Noised, clip_weights
from train.runs import generator
from train.slot_clips import Shown

WORDS, NOISE = 1, 2  # purposes of random numbers


def still_loss(z: torch.Tensor, balance: float) -> torch.Tensor:
    """L_diff of predicting no motion, for a network of clean latents: what its own is to be compared with."""
    each, weight = z[:, :, 1:].float().square().flatten(1).mean(1), clip_weights(z, balance)
    return (each if weight is None else weight * each).mean()


def times(clips: int, high: float, steps: int, g: torch.Generator) -> torch.Tensor:
    """Whole diffusion times [B]: even, or with probability `high` from the noisiest sixth."""
    u, noisy = torch.rand(clips, generator=g), torch.rand(clips, generator=g) < high
    return (torch.where(noisy, 1 - u / 6, u) * steps).long().clamp(max=steps - 1)


@torch.no_grad()
def noised(
    shown: Shown,
    autoencoder: ClipAutoencoder,
    alphas_cumprod: torch.Tensor,
    config: StageOneTrainConfig,
    place: int,
    t: torch.Tensor | None = None,
) -> Noised:
    """Clean and noised latents and the conditions.

    Args:
        shown: The clips.
        autoencoder: On the clips' device.
        alphas_cumprod: Of the schedule.
        config: See `StageOneTrainConfig`.
        place: Clips trained on before these; with the seed the key of all randomness.
        t: Times [B]; None: drawn.
    """
    device, clips = shown.rgba.device, len(shown.rgba)
    g = generator(config.seed, place, WORDS)
    dropped = (torch.rand(clips, generator=g) < config.text_dropout).tolist()
    captions = ["" if drop else caption for drop, caption in zip(dropped, shown.captions)]
    drawn_times = times(clips, config.high_noise, len(alphas_cumprod), g)
    t = drawn_times if t is None else t
    keys = [(config.seed, place, i) for i in range(clips)]
    drawn = Drawn(shown.rgba, shown.flow, None, shown.cameras, captions, t, None, keys)
    z = clean_latents(autoencoder, drawn, shown.rgba).float()
    on_device = torch.Generator(device).manual_seed(generator(config.seed, place, NOISE).initial_seed())
    own = torch.randn(z.shape, generator=on_device, device=device)
    common = torch.randn(z[:, :, :1].shape, generator=on_device, device=device)
    noise = config.shared_noise**0.5 * common + (1 - config.shared_noise) ** 0.5 * own
    t = t.to(device)
    first = FirstFrameNoise() if config.first_frame_noise else None
    # Eq. 2's scale is drawn by a generator of the CPU, whatever the device
    beta = generator(config.seed, place, NOISE, 1)
    z_t = noisy_clip(z, noise, t, alphas_cumprod, first, beta)
    appearance = autoencoder.condition(shown.rgba[:, :, 0])
    return Noised(z, z_t, noise, t, shown.rgba[:, :, 0], appearance, shown.cameras, captions, None)
