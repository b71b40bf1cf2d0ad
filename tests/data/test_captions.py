"""Verbs of clip names and the wording of captions."""

import numpy as np
import pytest

from t4d.data.captions import VERBS, caption, plain_caption, verb_of
from t4d.data.dataset import ClipDataset


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
        ("Crawl_Forward", "crawl"),
        ("Falling_Idle", "fall"),
        ("CharacterArmature|Jump_Fall", "jump"),
        ("Chest_Open", "open"),
        ("Chest_Close", "close"),
        ("Lever_Off", "close"),
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


def test_captions_are_a_function_of_seed_and_index():
    """Also across processes, and made of the clip's own noun and verb."""
    import subprocess
    import sys

    code = (
        "from t4d.data.dataset import ClipDataset\n"
        "data = ClipDataset(None, procedural_fraction=1.0, side=16, views=1, frames=2, seed=9)\n"
        "print('|'.join(data[i]['caption'] for i in (4, 0, 11)))"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    data = ClipDataset(None, procedural_fraction=1.0, side=16, views=1, frames=2, seed=9)
    items = [data[i] for i in (4, 0, 11)]
    assert told.split("|") == [i["caption"] for i in items] and len({i["caption"] for i in items}) == 3
    for item in items:
        third, ing, more, _ = VERBS[item["verb"]]
        assert any(item["caption"].endswith(f"{item['noun']} {t}") for t in (third, ing, f"is {ing}", *more))
