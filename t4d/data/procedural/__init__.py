"""Endless rigged objects with verbs, made from a seed."""

import numpy as np

from t4d.data.procedural.bipeds import biped, robot
from t4d.data.procedural.body import Body
from t4d.data.procedural.crawlers import crawler
from t4d.data.procedural.flyers import bird, dragon, insect
from t4d.data.procedural.plants import plant
from t4d.data.procedural.quadrupeds import quadruped
from t4d.data.procedural.swimmers import fish, jellyfish, octopus, snake
from t4d.data.procedural.toys import toy
from t4d.data.procedural.vehicles import aircraft, vehicle

PLANS = {
    "quadruped": quadruped,
    "biped": biped,
    "crawler": crawler,
    "fish": fish,
    "jellyfish": jellyfish,
    "octopus": octopus,
    "snake": snake,
    "bird": bird,
    "insect": insect,
    "dragon": dragon,
    "plant": plant,
    "vehicle": vehicle,
    "aircraft": aircraft,
    "robot": robot,
    "toy": toy,
}


def generate(rng: np.random.Generator, plan: str | None = None, noun: str | None = None, detail: float = 1.0) -> Body:
    """A random object.

    Args:
        rng: Decides plan, proportions, colours.
        plan: A key of `PLANS`; drawn where None.
        noun: One of the plan's nouns; drawn where None.
        detail: Multiplies mesh resolution.
    """
    return PLANS[plan or str(rng.choice(list(PLANS)))](rng, noun, detail)
