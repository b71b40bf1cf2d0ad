"""Small stand-ins with known answers for the networks around the sampler."""

import torch
from torch import Tensor, nn

from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import PAPER_SCHEDULE, from_x0, linear_alphas_cumprod
from t4d.diffusion.unet import MultiViewMotionUNet


class Oracle(nn.Module):
    """A denoiser that always knows the clean latents and answers in the asked prediction type."""

    def __init__(self, x0: Tensor, kind: str = "epsilon"):
        super().__init__()
        self.x0, self.kind = x0, kind
        self.anchor = nn.Parameter(torch.zeros(()))
        self.calls: list[dict] = []

    def forward(self, sample, timestep, **inputs):
        self.calls.append({"sample": sample.clone(), "timestep": timestep.clone(), **inputs})
        x0 = self.x0.expand_as(sample)
        t = timestep.float()
        return from_x0(x0, sample, t, linear_alphas_cumprod(), self.kind)  # type: ignore[arg-type]


class Blocks(nn.Module):
    """An autoencoder that averages 4 x 4 pixels and repeats them back; exact on blocky clips."""

    latent_channels, factor = 4, 4

    def encode(self, rgba: Tensor) -> Tensor:
        flat = nn.functional.avg_pool2d(rgba.flatten(0, 2), 4)
        return 2 * flat.unflatten(0, rgba.shape[:3]) - 1

    def decode(self, z: Tensor, reference_rgba: Tensor) -> Tensor:
        big = z.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)
        return (big + 1) / 2

    def condition(self, reference_rgba: Tensor) -> Tensor | None:
        return None


class Letters(nn.Module):
    """Tokens that depend on the sentence only."""

    def encode(self, texts):
        tokens = torch.stack([torch.tensor([[float(len(text)), 1.0]] * 3) for text in texts])
        return tokens, None


class Pixel(nn.Module):
    """Mean colour of the picture."""

    def encode(self, rgba: Tensor) -> Tensor:
        return rgba.mean(dim=(-1, -2))


def oracle_model(x0: Tensor, kind: str = "epsilon", **meta) -> VideoModel:
    """A model around :class:`Oracle` with the paper's schedule."""
    config = {**PAPER_SCHEDULE, "prediction_type": kind}
    return VideoModel(Oracle(x0, kind), Blocks(), Letters(), Pixel(), config, "dummy", {"guidance": 1.0, **meta})


def small_unet(**changes) -> MultiViewMotionUNet:
    """A mini-like network of some ten thousand parameters."""
    config = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 8, 16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": 12,
        "num_attention_heads": (1, 1, 2, 2),
        "motion_num_attention_heads": (1, 2, 2, 2),
        "image_embed_dim": 6,
        "image_tokens": 2,
        "text_pooled_dim": 10,
        "cond_concat_channels": 3,
        "strides": (1, 1, 2),
        "kv_pool": (2, 1, 1, 1),
        "first_up_motion_groups": None,
    }
    return MultiViewMotionUNet(**{**config, **changes})


def unet_inputs(B: int = 1, V: int = 3, T: int = 5, h: int = 6, w: int = 8, seed: int = 0, C: int = 4) -> dict:
    """Inputs that fit :func:`small_unet`; V != T and h != w."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    return {
        "sample": draw(B, V, T, C, h, w),
        "timestep": torch.randint(0, 1000, (B,), generator=g),
        "text": draw(B, 7, 12),
        "image_embeds": draw(B, V, 6),
        "cameras": draw(B, V, 16),
        "cond_concat": draw(B, V, 3, h, w),
        "pooled_text": draw(B, 10),
    }
