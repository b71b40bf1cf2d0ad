"""Verbs of clip names and the wording of captions."""

import numpy as np
import pytest

from t4d.data.captions import VERBS, caption, plain_caption, verb_of


@pytest.mark.parametrize(
    ("clip", "verb"),
    [
        ("AnimalArmature|Gallop", "run"),
        ("AnimalArmature|Gallop_Jump", "leap"),
        ("Swimming_Fast", "swim"),
        ("TRex_Run", "run"),
        ("Out_Of_Water", "flop"),
        ("Idle_HitReact_Left", "get hit"),
        ("Attack.001", "attack"),
        ("Idle_2_HeadLow", "idle"),
        ("Tank_TurningLeft", "turn"),
        ("Yes", "nod"),
        ("Flying_Idle", "fly"),
        ("Armature|mixamo.com", None),
    ],
)
def test_verbs_of_clip_names(clip, verb):
    assert verb_of(clip) == verb


def test_held_out_wordings_never_occur_in_training():
    rng = np.random.default_rng(0)
    for verb in VERBS:
        training = {caption("fox", verb, rng) for _ in range(120)}
        evaluation = {caption("fox", verb, rng, held_out=True) for _ in range(40)}
        assert len(training) >= 3 and evaluation
        assert not training & evaluation
        tails = {s.split("fox ", 1)[1] for s in training}
        assert not any(s.split("fox ", 1)[1] in tails for s in evaluation)
        assert plain_caption("fox", verb) in training


def test_articles():
    assert plain_caption("octopus", "swim") == "an octopus is swimming"
    assert plain_caption("fox", "run") == "a fox is running"
