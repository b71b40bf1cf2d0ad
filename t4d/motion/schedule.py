"""When a fit sees which frames, at which size and learning rate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4d.geometry.camera import Camera


@dataclass(frozen=True)
class Schedule:
    """The iterations of a fit: first reconstruction, in whose first part the frames enter one by one, then refinement.

    Attributes:
        frames: T of the clip; frame 0 is never chosen.
        reconstruction: iterations of the first phase.
        refinement: iterations of the second, over all frames at the final learning rates: it perturbs what is found.
        progressive: share of the first phase in which frames enter.
        final_rate: share of their start to which the learning rates fall, by a cosine over the last half of the phase.
    """

    frames: int
    reconstruction: int
    refinement: int
    progressive: float
    final_rate: float = 0.1

    @property
    def total(self) -> int:
        """Iterations of both phases."""
        return self.reconstruction + self.refinement

    @property
    def entered(self) -> int:
        """Iterations shared among the entering frames 1..T-1."""
        return max(1, round(self.progressive * self.reconstruction))

    def refining(self, iteration: int) -> bool:
        """Whether an iteration belongs to the second phase."""
        return iteration >= self.reconstruction

    def newest(self, iteration: int) -> int:
        """The latest frame that has entered; the inverse of ``entry``."""
        return min(self.frames - 1, 1 + iteration * (self.frames - 1) // self.entered)

    def entry(self, frame: int) -> int:
        """The iteration in which a frame enters."""
        return -(-(frame - 1) * self.entered // (self.frames - 1))

    def choose(self, iteration: int, count: int, generator: torch.Generator) -> list[int]:
        """Distinct frames in 1..newest, ascending, at most `count`; the newest is among them while frames enter."""
        newest = self.newest(iteration)
        order = (torch.randperm(newest, generator=generator) + 1).tolist()
        if iteration < self.entered:
            order.remove(newest)
            order.insert(0, newest)
        return sorted(order[:count])

    def rate(self, iteration: int) -> float:
        """Factor of the learning rates: 1, then a cosine from the middle of the first phase to ``final_rate``."""
        late = min(1.0, max(0.0, 2 * iteration / self.reconstruction - 1))
        return self.final_rate + (1 - self.final_rate) * (1 + math.cos(math.pi * late)) / 2

    def untrained_time(self, iteration: int, samples: int) -> int | None:
        """The last trained time sample of a plane, if a frame enters now that reads a later, untrained one."""
        newest = self.newest(iteration)
        if iteration != self.entry(newest):
            return None
        last, needed = (-(-frame * (samples - 1) // (self.frames - 1)) for frame in (newest - 1, newest))
        return last if needed > last else None


def half_size(cameras: list[Camera], rgb: Tensor, mask: Tensor) -> tuple[list[Camera], Tensor, Tensor]:
    """A clip [V, T, ...] at half its picture size; colour is averaged inside the mask only."""
    height, width = rgb.shape[-2:]
    size = (max(1, height // 2), max(1, width // 2))
    weight = interpolate(mask.flatten(0, 1), size, mode="area")
    color = interpolate((rgb * mask).flatten(0, 1), size, mode="area") / weight.clamp(min=1e-6)
    lead = rgb.shape[:2]
    return [camera.resized(size[1], size[0]) for camera in cameras], color.unflatten(0, lead), weight.unflatten(0, lead)
