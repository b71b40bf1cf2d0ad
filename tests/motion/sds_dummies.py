"""Small networks, encoders and a moving object for the tests of 4D-SDS; H != W and V != T."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import PAPER_SCHEDULE, from_x0, linear_alphas_cumprod
from t4d.motion.sds import VideoGuidance
from t4d.splat.gaussians import Gaussians

V, T, H, W, N = 3, 5, 24, 32, 60
PROMPT = "a bar is bending"


class Blocks(nn.Module):
    """An autoencoder: 4 x 4 pixels to one cell, with a parameter that must not be trained."""

    latent_channels, factor = 4, 4

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2.0))

    def encode(self, rgba: Tensor) -> Tensor:
        flat = nn.functional.avg_pool2d(rgba.flatten(0, 2), 4)
        return self.gain * flat.unflatten(0, rgba.shape[:3]) - 1

    def condition(self, reference_rgba: Tensor) -> Tensor | None:
        return None


class Letters(nn.Module):
    """Tokens that depend on the sentence only."""

    def encode(self, texts: list[str]) -> tuple[Tensor, None]:
        return torch.stack([torch.tensor([[float(len(text)), 1.0]] * 3) for text in texts]), None


class Pixel(nn.Module):
    """Mean colour of the picture."""

    def encode(self, rgba: Tensor) -> Tensor:
        return rgba.mean(dim=(-1, -2))


class Mixer(nn.Module):
    """A random network that heeds all it is told; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Conv3d(4, 4, 3, padding=1)
        self.told = nn.Linear(2 + 4 + 16 + 1, 4)
        self.calls: list[dict] = []

    def forward(self, sample: Tensor, timestep: Tensor, *, text, image_embeds, cameras, **_: object) -> Tensor:
        self.calls.append({"sample": sample, "timestep": timestep, "text": text, "image": image_embeds})
        b, v = sample.shape[:2]
        mixed = self.mix(sample.flatten(0, 1).transpose(1, 2)).transpose(1, 2).unflatten(0, (b, v))
        words = text.mean(1)[:, None].expand(b, v, -1)
        time = (timestep / 1000)[:, None, None].expand(b, v, 1)
        told = self.told(torch.cat([words / 10, image_embeds, cameras, time], dim=-1))
        return 0.5 * sample + mixed + 0.2 * told[:, :, None, :, None, None]


class Told(nn.Module):
    """Answers what it is given as clean latents, in its prediction type."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.x0 = kind, torch.zeros(())

    def forward(self, sample: Tensor, timestep: Tensor, **_: object) -> Tensor:
        x0 = self.x0.expand_as(sample)
        return from_x0(x0, sample, timestep.float(), linear_alphas_cumprod(), self.kind)  # type: ignore[arg-type]


@dataclass
class Table:
    """A moving object whose centres and rotations are free in every frame but 0; what `VideoGuidance` needs of one."""

    gaussians: Gaussians
    means: Tensor  # [T-1, N, 3]
    quats: Tensor  # [T-1, N, 4]

    @property
    def frames(self) -> int:
        return len(self.means) + 1

    def at(self, frame: float) -> Gaussians:
        assert frame == 0
        return self.gaussians

    def batch(self, frames: Tensor) -> Gaussians:
        rows = frames.long() - 1
        assert bool((rows >= 0).all())
        still = self.gaussians.map(lambda x: x.expand(len(rows), *x.shape).contiguous())
        return still.replace(means=self.means[rows], quats=self.quats[rows])


def moving(frames: int = T, amount: float = 0.15) -> Any:
    """A coloured bar that bends more and more, as a `Table`; centres and rotations are leaves."""
    g = torch.Generator().manual_seed(0)
    means = (torch.rand(N, 3, generator=g) - 0.5) * torch.tensor([1.0, 0.4, 0.4])
    still = Gaussians(
        means,
        torch.randn(N, 4, generator=g),
        torch.tensor([0.14, 0.08, 0.05]).log().expand(N, 3),
        torch.full((N,), 2.0),
        torch.randn(N, 1, 3, generator=g),
    )
    lift = torch.stack([0 * means[:, 0], 0 * means[:, 0] + 0.3, 4 * means[:, 0] ** 2], dim=-1)
    steps = torch.arange(1, frames) / (frames - 1)
    moved = means + amount * steps[:, None, None] * lift
    quats = still.quats.expand(frames - 1, -1, -1).clone()
    return Table(still, moved.requires_grad_(), quats.requires_grad_())


def model(kind: str = "epsilon", network: nn.Module | None = None, **meta: object) -> VideoModel:
    config = {**PAPER_SCHEDULE, "prediction_type": kind}
    return VideoModel(network or Mixer(), Blocks(), Letters(), Pixel(), config, "dummy", meta)  # type: ignore[arg-type]


def guidance(found: VideoModel, **options) -> VideoGuidance:
    return VideoGuidance(found, PROMPT, **{"size": (H, W), "frames": T, "views": V, **options})


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
