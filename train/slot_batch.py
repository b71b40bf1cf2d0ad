"""A batch that grows as long as it pays, judged by the steps that train anyway."""

from dataclasses import dataclass, field


@dataclass
class GrowingBatch:
    """Size of batch of one stage of training.

    Starts at `size`, is judged after `trial` timed steps, and doubles while clips a second grow by `factor` and there
    is room; the size that did not pay is taken back and the search is over.

    Attributes:
        size: Clips of the next step.
        most: Upper bound.
        factor: Least gain of doubling that counts.
        trial: Timed steps of a size.
        warm: Steps of a size before time is taken.
        settled: Whether the size is final.
        rates: Clips a second of every size that was judged.
    """

    size: int
    most: int
    factor: float = 1.15
    trial: int = 6
    warm: int = 3
    settled: bool = False
    rates: dict[int, float] = field(default_factory=dict)
    _steps: int = 0
    _seconds: float = 0.0

    def stepped(self, seconds: float, room: bool) -> None:
        """A step of the present size took so long; `room`: a batch twice as large would fit into memory."""
        if self.settled:
            return
        self._steps += 1
        if self._steps <= self.warm:
            return
        self._seconds += seconds
        if self._steps < self.warm + self.trial:
            return
        self.rates[self.size] = rate = self.size * self.trial / max(self._seconds, 1e-9)
        before = self.rates.get(self.size // 2)
        self._steps, self._seconds = 0, 0.0
        if before is not None and rate < self.factor * before:
            self.size, self.settled = self.size // 2, True
        elif self.size * 2 > self.most or not room:
            self.settled = True
        else:
            self.size *= 2

    def too_large(self, least: int) -> bool:
        """Memory ran out: half the size, for good. False where that would be below `least`."""
        if self.size // 2 < least:
            return False
        self.size, self.settled = self.size // 2, True
        self._steps, self._seconds = 0, 0.0
        return True
