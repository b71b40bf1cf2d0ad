"""Batches of `train/motion_mean.py`: clips of a pool, in other colours, turned, with fewer views or without words."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from train.config import MotionMeanConfig
from train.pool import LatentPool

GREY = 0.5
DIMMEST = 0.5  # of the factors on a colour channel, up to 1.5


@dataclass(frozen=True)
class MeanBatch:
    """What the motion mean sees and is to say.

    Attributes:
        latents: [B, V, T, C, h, w] float32.
        references: Frame 0 of every view [B, V, 4, H, W] in 0..1.
        cameras: [B, V, 16].
        captions: B sentences.
    """

    latents: Tensor
    references: Tensor
    cameras: Tensor
    captions: list[str]

    def to(self, device: torch.device) -> "MeanBatch":
        """The same on a device."""
        latents, references, cameras = (x.to(device) for x in (self.latents, self.references, self.cameras))
        return MeanBatch(latents, references, cameras, self.captions)


def whole(pool: LatentPool, places: Iterable[int]) -> MeanBatch:
    """Clips as they are."""
    at = list(places)
    references = pool.references[at].float() / 255
    return MeanBatch(pool.latents[at].float(), references, pool.cameras[at], [pool.captions[i] for i in at])


def drawn(pool: LatentPool, config: MotionMeanConfig, g: torch.Generator) -> MeanBatch:
    """A random batch; everything random about it comes from `g`.

    A quarter turn moves each picture to the next camera, see `train.draws.draw`. All clips of a batch have the same
    number of views.
    """
    count = config.optim.batch
    batch = whole(pool, torch.randint(len(pool), (count,), generator=g).tolist())
    views = batch.latents.shape[1]
    latents, references, cameras, captions = [], [], [], []
    kept = views
    if float(torch.rand((), generator=g)) < config.fewer_views:
        kept = int(torch.randint(1, 3, (), generator=g))
    for i in range(count):
        turns, dropped, colored = (torch.rand(3, generator=g) < chances(config)).tolist()
        turn = int(torch.randint(1, max(views, 2), (), generator=g)) if turns else 0
        chosen = torch.randperm(views, generator=g)[:kept].sort().values
        reference = batch.references[i].roll(turn, 0)[chosen]
        latents.append(batch.latents[i].roll(turn, 0)[chosen])
        references.append(recolored(reference, g) if colored else reference)
        cameras.append(batch.cameras[i][chosen])
        captions.append("" if dropped else batch.captions[i])
    return MeanBatch(torch.stack(latents), torch.stack(references), torch.stack(cameras), captions)


def chances(config: MotionMeanConfig) -> Tensor:
    """Of a turn, of no words, of other colours."""
    return torch.tensor([config.turn_views, config.text_dropout, config.recolor])


def recolored(pictures: Tensor, g: torch.Generator) -> Tensor:
    """Pictures [V, 4, H, W] over mid-grey with their channels exchanged and each .5 to 1.5 times as bright.

    What moves is to be known by its shape: a few dozen rigs would else be known by their paint.
    """
    alpha = pictures[:, 3:]
    own = pictures[:, :3] - GREY * (1 - alpha)  # colour times coverage
    factor = DIMMEST + torch.rand(3, 1, 1, generator=g)
    own = torch.minimum(own[:, torch.randperm(3, generator=g)] * factor, alpha)
    return torch.cat([own + GREY * (1 - alpha), alpha], 1)
