"""Synthetic user studies with known effects: to test the analysis, and to plan how many raters a study needs."""

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from t4d.errors import InputError
from t4d.metrics.ratings_table import RatingTable


@dataclass(frozen=True)
class Spread:
    """Standard deviations behind a latent opinion, in scale points.

    The defaults give 20 raters x 28 items x 3 methods an ordinal alpha near .13, an ICC(A,1) near .15 and an ICC(A,k)
    near .78, as ratings of generated objects are expected to.

    Attributes:
        rater: Leniency.
        item: Some objects come out better under every method.
        rater_method: Taste: raters differ in which method they like.
        item_method: Objects differ in which method suits them.
        noise: One rating.
    """

    rater: float = 0.45
    item: float = 0.35
    rater_method: float = 0.15
    item_method: float = 0.2
    noise: float = 0.8

    @property
    def total(self) -> float:
        """Of one rating."""
        parts = (self.rater, self.item, self.rater_method, self.item_method, self.noise)
        return float(np.sqrt(sum(part**2 for part in parts)))


@dataclass(frozen=True)
class Scenario:
    """A study to simulate.

    Attributes:
        raters, items: Numbers of them.
        means: Latent mean of every method, scale points.
        criteria: Criteria, independent of one another, with the same means.
        items_per_rater: None: everyone rates everything; else a block of that many items, balanced over raters.
        spread: Sizes of what varies.
        levels: Points of the scale.
    """

    raters: int = 20
    items: int = 20
    means: tuple[float, ...] = (3.4, 3.5, 3.6)
    criteria: int = 1
    items_per_rater: int | None = None
    spread: Spread = field(default_factory=Spread)
    levels: int = 5

    def __post_init__(self) -> None:
        """Refuses studies that cannot be.

        Raises:
            InputError: Nobody, nothing or less than one method to rate, or a block that is empty or too large.
        """
        if min(self.raters, self.items, len(self.means), self.criteria) < 1:
            raise InputError("A study needs at least one rater, item, method and criterion.")
        if self.items_per_rater is not None and not 1 <= self.items_per_rater <= self.items:
            raise InputError(f"{self.items_per_rater} items per rater; expected 1 to {self.items}, the study's items.")


def expected_score(mean: float, spread: float, levels: int = 5) -> float:
    """Mean score when a normal latent opinion is rounded to the scale 1..levels (the ends take everything beyond)."""
    return float(1 + stats.norm.sf((np.arange(1, levels) + 0.5 - mean) / spread).sum())


def simulate(scenario: Scenario, rng: np.random.Generator) -> RatingTable:
    """One study: latent opinion = method + rater + item + rater x method + item x method + noise, rounded to the scale.

    Returns:
        Methods "m0", "m1", .. in the order of `scenario.means`, criteria "c0", ...
    """
    shape = (scenario.raters, scenario.items, len(scenario.means), scenario.criteria)
    spread = scenario.spread
    axes = {"rater": (0,), "item": (1,), "rater_method": (0, 2), "item_method": (1, 2), "noise": (0, 1, 2)}
    latent = np.array(scenario.means)[:, None] + np.zeros(shape)
    for name, over in axes.items():
        size = [length if axis in (*over, 3) else 1 for axis, length in enumerate(shape)]
        latent += getattr(spread, name) * rng.normal(size=size)
    scores = np.clip(np.round(latent), 1, scenario.levels)
    if scenario.items_per_rater is not None:
        # consecutive items on a shuffled ring: every item is rated as often as every other, within one
        order = rng.permutation(scenario.items)
        for rater in range(scenario.raters):
            start = rater * scenario.items_per_rater
            block = order[(start + np.arange(scenario.items_per_rater)) % scenario.items]
            scores[rater, np.setdiff1d(np.arange(scenario.items), block)] = np.nan
    names = [tuple(f"{letter}{i}" for i in range(length)) for letter, length in zip("rimc", shape)]
    return RatingTable(scores, *names, levels=scenario.levels)
