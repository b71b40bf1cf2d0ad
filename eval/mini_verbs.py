"""Gate 4: does a clip's motion say which verb was asked for?

Real clips of the six verbs (near, far, real3d; all variants, from rest) train a classifier that never saw the rig it is
asked about. Its accuracy on the real clips of the unseen rigs is the ceiling; on generated clips of the same rigs and
verbs it is what is gated, as a share of the way from chance to that ceiling.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from eval.mini_cases import VERBS, Case
from eval.mini_clips import Studio, picture_digest, pixel_distance
from eval.mini_gates import Gate, interval, over_objects
from t4d.metrics.motion_verbs import classify, leave_one_group_out

CHANCE = 1 / len(VERBS)


def verb_gates(studio: Studio, made: Sequence[tuple[Case, int]]) -> tuple[list[Gate], dict[str, dict[str, str]]]:
    """Gate 4 of what was sampled.

    Args:
        studio: Holds the clips.
        made: (case, seed) of all samples.

    Returns:
        The gates, and {case: {"real": guess, "made": guess}} for every judged clip.
    """
    known = studio.world.verb_cases()
    vectors = np.stack([studio.real_descriptor(case).numpy() for case in known])
    labels, groups = [case.verb for case in known], [case.object for case in known]
    guesses = leave_one_group_out(vectors, labels, groups)
    first = made[0][1]
    asked = [c for c, seed in made if seed == first and c.rest and c.real and c.verb in VERBS and c.group != "near"]
    told: dict[str, dict[str, str]] = {}
    right: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in asked:
        others = [i for i, group in enumerate(groups) if group != case.object]
        vector = studio.descriptor(case, first).numpy()[None]
        guess = classify(vectors[others], [labels[i] for i in others], vector)[0]
        same = [i for i, other in enumerate(known) if other.object == case.object and other.verb == case.verb]
        real = [guesses[i] for i in same]
        told[case.name] = {"real": "/".join(real), "made": guess}
        ceiling = float(np.mean([each == case.verb for each in real]))
        right[case.object].append((float(guess == case.verb), ceiling))
    means = np.array([np.mean(pairs, axis=0) for pairs in right.values()]).reshape(-1, 2)
    clips = len(asked)

    def share(generated: np.ndarray, real: np.ndarray) -> float:
        above = float(np.mean(real)) - CHANCE
        return (float(np.mean(generated)) - CHANCE) / above if above > 0.02 else 0.0

    value, low, high = interval([means[:, 0], means[:, 1]], share)
    accuracy = means.mean(0) if len(means) else np.full(2, math.nan)
    asked_of = Counter(case.verb for case in asked)
    named = Counter(case.verb for case in asked if told[case.name]["made"] == case.verb)
    each = ", ".join(f"{verb} {named[verb]}/{count}" for verb, count in sorted(asked_of.items()))
    note = f"accuracy {accuracy[0]:.2f}, ceiling {accuracy[1]:.2f}, chance {CHANCE:.2f}, one answer to all "
    note += f"{constant(asked):.2f}, {len(known)} real clips; right: {each}"
    gates = [
        Gate(
            "4a", "verbs: share of chance to ceiling", value, low, high, (0.5, math.inf), len(means), clips, True, note
        )
    ]
    return [*gates, *effects(studio, made)], told


def constant(asked: Sequence[Case]) -> float:
    """Accuracy, a mean over objects as that of the gate, of giving every clip the verb that is right most often."""
    by_object: dict[str, list[str]] = defaultdict(list)
    for case in asked:
        by_object[case.object].append(case.verb)
    shares = [np.mean([found.count(verb) / len(found) for found in by_object.values()]) for verb in VERBS]
    return float(max(shares)) if asked else math.nan


def effects(studio: Studio, made: Sequence[tuple[Case, int]]) -> list[Gate]:
    """Gate 4b: distance between clips of two verbs and one noise, over that of one verb and two noises, per object.

    Both distances are taken around the same clips: those that were sampled with two noises. Verbs for which the object
    had to be drawn smaller (a high jump) are left out: two pictures with one noise say nothing of the words.
    """
    first, clips = made[0][1], {(case, seed) for case, seed in made if case.rest}
    shown = {case: picture_digest(studio.world.truth(case).reference) for case in {case for case, _ in clips}}
    apart: dict[str, list[tuple[str, float]]] = {"descriptor": [], "pixels": []}
    for case, seed in sorted(clips, key=lambda pair: (pair[0].name, pair[1])):
        if seed == first:
            continue
        others = [o for o, s in clips if s == first and o.object == case.object and o.verb != case.verb]
        others = [o for o in others if shown[o] == shown[case]]
        if not others:
            continue
        for kind in apart:
            noise = _distance(studio, kind, (case, first), (case, seed))
            verbs = [_distance(studio, kind, (case, first), (other, first)) for other in others]
            apart[kind].append((case.object, float(np.mean(verbs)) / max(noise, 1e-9)))
    inf = math.inf
    return [
        over_objects("4b", "two verbs / two noises, descriptors", apart["descriptor"], (1, inf), log=True),
        over_objects("4b", "the same in pixels", apart["pixels"], (1, inf), log=True, binding=False),
    ]


def _distance(studio: Studio, kind: str, a: tuple[Case, int], b: tuple[Case, int]) -> float:
    if kind == "pixels":
        return pixel_distance(studio.clip(*a), studio.clip(*b))
    return float(torch.linalg.vector_norm(studio.descriptor(*a) - studio.descriptor(*b)))
