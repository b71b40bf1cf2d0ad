"""How far a whole job is, and how long it will still take."""

import time
from collections.abc import Mapping


class JobClock:
    """Whole-job fraction and seconds left, from the stages' usual shares and what has been timed so far.

    Args:
        shares: share of the job's wall time by stage, in order; they need not sum to 1.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        total = sum(shares.values())
        self.shares = {name: share / total for name, share in shares.items()}
        self.started = time.perf_counter()
        self.stage = ""

    def update(self, stage: str, fraction: float) -> tuple[float, float | None]:
        """Fraction of the job and estimated seconds left (None if unknown yet) at ``fraction`` of ``stage``."""
        now = time.perf_counter()
        if stage != self.stage:
            self.stage, self.started = stage, now
        names = list(self.shares)
        share = self.shares[stage]
        before = sum(self.shares[name] for name in names[: names.index(stage)])
        after = sum(self.shares[name] for name in names[names.index(stage) + 1 :])
        done = before + share * fraction
        if fraction <= 0.02:
            return done, None
        whole_stage = (now - self.started) / fraction
        return done, whole_stage * (1 - fraction) + after * whole_stage / share
