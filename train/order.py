"""Which clip comes when: a function of seed and step alone, so that nothing about it needs storing to resume."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch

from t4d.errors import InputError
from train.config import Curriculum, StageOneTrainConfig


@dataclass(frozen=True)
class Order:
    """Clips by their place in the whole training.

    Attributes:
        seed: Of the permutations.
        count: Clips of a finite set, which is gone through again and again; None: endless, clip i comes at place i.
        shuffle: A new permutation, from seed and epoch, in every epoch.
    """

    seed: int
    count: int | None = None
    shuffle: bool = True

    def clip(self, place: int) -> int:
        """Index of the clip at a place (0-based)."""
        if self.count is None:
            return place
        epoch, i = divmod(place, self.count)
        return int(_permutation(self.seed, epoch, self.count)[i]) if self.shuffle else i


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> torch.Tensor:
    # not `generator`'s keys: an epoch's order must not depend on what else is drawn from the seed
    return torch.randperm(count, generator=torch.Generator().manual_seed((seed << 20) + epoch))


def with_steps(config: StageOneTrainConfig, count: int | None, processes: int) -> StageOneTrainConfig:
    """The configuration with `optim.steps` set: epochs of a finite set become steps of the global batch.

    Args:
        config: With steps or epochs.
        count: Clips of the set; None: endless.
        processes: How many train.

    Raises:
        InputError: Epochs of an endless set.
    """
    o = config.optim
    if o.epochs is None:
        return config
    if count is None:
        raise InputError(
            "optim.epochs is set but the clips are rendered without end; set optim.steps, or data.clips for an epoch."
        )
    batch, since = 0.0, 0.0
    for stage in config.curriculum:
        batch, since = batch + (stage.until - since) * stage.batch, stage.until
    batch = (batch + (1 - since) * o.batch) * processes * o.accumulate
    steps = max(math.ceil(o.epochs * count / batch - 1e-9), 1)
    return config.model_copy(update={"optim": o.model_copy(update={"steps": steps, "epochs": None})})


def stage_at(step: int, config: StageOneTrainConfig) -> Curriculum:
    """Clip size of a step."""
    assert config.optim.steps is not None
    for stage in config.curriculum:
        if step < stage.until * config.optim.steps:
            return stage
    return Curriculum(until=1, views=config.data.views, frames=config.data.frames, batch=config.optim.batch)


def first_place(step: int, config: StageOneTrainConfig, processes: int) -> int:
    """Clips that all steps before this one take together."""
    return sum(stage_at(s, config).batch for s in range(step)) * processes * config.optim.accumulate


def positions(micro: int, batch: int, rank: int, processes: int) -> range:
    """Places within a step's global batch that a process has in one of the micro-steps."""
    first = (micro * processes + rank) * batch
    return range(first, first + batch)


def micro_batches(
    start: int, config: StageOneTrainConfig, order: Order, rank: int, processes: int
) -> Iterator[list[int]]:
    """Clip indices of every micro-step of a process, from step `start` on.

    The global batch of a step is the same set in the same order however it is split over processes and micro-steps.
    """
    assert config.optim.steps is not None
    first = first_place(start, config, processes)
    for step in range(start, config.optim.steps):
        batch = stage_at(step, config).batch
        for micro in range(config.optim.accumulate):
            yield [order.clip(first + p) for p in positions(micro, batch, rank, processes)]
        first += batch * processes * config.optim.accumulate
