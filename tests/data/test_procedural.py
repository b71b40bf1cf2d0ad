"""Procedural bodies: sound meshes, loops, rest poses, reproducibility."""

import numpy as np
import pytest

from t4d.data.captions import VERBS
from t4d.data.procedural import PLANS, generate
from t4d.data.procedural.skeleton import Skeleton, Wave, X, Z

PHASES = np.arange(7) / 7


@pytest.mark.parametrize("plan", sorted(PLANS))
@pytest.mark.parametrize("seed", range(3))
def test_every_verb_moves_loops_and_rests(plan, seed):
    body = generate(np.random.default_rng(seed), plan, detail=0.6)
    rig = body.rig
    assert np.isfinite(rig.vertices).all() and 0 <= rig.colors.min() and rig.colors.max() <= 1
    np.testing.assert_allclose(rig.weights.sum(1), 1, atol=1e-6)
    assert rig.joints.max() < len(body.skeleton.names)
    size = np.ptp(rig.vertices, axis=0).max()
    for verb, make in body.verbs.items():
        assert verb in VERBS
        waves = make(np.random.default_rng(seed))
        resting = rig.skin(body.matrices(waves, PHASES, envelope=np.zeros(7)))
        np.testing.assert_allclose(resting, np.repeat(rig.vertices[None], 7, 0), atol=1e-5 * size)
        ends = rig.skin(body.matrices(waves, np.array([0.13, 1.13])))
        np.testing.assert_allclose(ends[0], ends[1], atol=1e-4 * size)
        posed = rig.skin(body.matrices(waves, PHASES))
        assert np.isfinite(posed).all()
        assert np.ptp(posed, axis=0).max() > 0.01 * size, f"{plan} {verb} hardly moves"


@pytest.mark.parametrize("plan", sorted(PLANS))
def test_surfaces_face_outwards(plan):
    """Every closed part has positive signed volume."""
    rig = generate(np.random.default_rng(1), plan).rig
    corners = rig.vertices[rig.faces].astype(np.float64)
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    import scipy.sparse as sp
    from scipy.sparse.csgraph import connected_components

    n = len(rig.vertices)
    edges = rig.faces[:, [0, 1, 1, 2]].reshape(-1, 2)
    # Boxes split their vertices at edges: weld by position first.
    _, weld = np.unique(np.round(rig.vertices, 5), axis=0, return_inverse=True)
    weld = weld.ravel()
    _, part = connected_components(sp.coo_matrix((np.ones(len(edges)), (weld[edges[:, 0]], weld[edges[:, 1]])), (n, n)))
    totals = np.bincount(part[weld[rig.faces[:, 0]]], volume)
    assert (totals[np.abs(totals) > 1e-9] > 0).all()


def test_every_promised_verb_and_body_exists():
    """Sensible bodies for each named motion; "stand still" is `idle`, a jelly is a jellyfish."""
    promised = {
        "walk": ("quadruped", "biped", "robot", "bird", "crawler", "dragon"),
        "run": ("quadruped", "biped", "robot", "bird", "crawler"),
        "jump": ("quadruped", "biped", "robot", "bird", "fish", "octopus", "vehicle", "toy"),
        "fly": ("bird", "insect", "dragon", "aircraft"),
        "swim": ("fish", "jellyfish", "octopus"),
        "crawl": ("crawler", "snake", "biped", "robot"),
        "wave": ("biped", "robot", "crawler", "octopus"),
        "dance": ("biped", "robot", "plant", "insect"),
        "nod": ("quadruped", "biped", "robot", "bird", "insect"),
        "attack": ("quadruped", "biped", "robot", "snake", "fish", "dragon"),
        "spin": ("quadruped", "biped", "vehicle", "plant", "jellyfish"),
        "bounce": ("plant", "vehicle", "crawler"),
        "fall": ("quadruped", "biped", "robot", "plant", "vehicle", "bird"),
        "idle": ("quadruped", "biped", "robot", "bird", "fish", "snake", "plant"),
    }
    for verb, plans in promised.items():
        for plan in plans:
            for seed in range(3):
                assert verb in generate(np.random.default_rng(seed), plan, detail=0.5).verbs, (plan, verb)
    assert {"quadruped", "biped", "bird", "fish", "snake", "insect", "robot", "plant", "vehicle"} <= set(PLANS)


def test_same_seed_same_object():
    a, b = (generate(np.random.default_rng(11)) for _ in range(2))
    assert a.rig.name == b.rig.name
    np.testing.assert_array_equal(a.rig.vertices, b.rig.vertices)
    np.testing.assert_array_equal(a.rig.colors, b.rig.colors)
    assert len({generate(np.random.default_rng(s)).rig.name for s in range(12)}) > 6


def test_joint_turns_about_its_rest_position_and_carries_children():
    skeleton = Skeleton()
    skeleton.add("root", None, (1, 0, 0))
    skeleton.add("child", "root", (2, 0, 0))
    m = skeleton.matrices([Wave("root", Z, 0, offset=90)], np.zeros(1))[0]
    point = np.array([2.0, 0, 0, 1])
    np.testing.assert_allclose(m[0] @ point, [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(m[1] @ point, [1, 1, 0], atol=1e-6)
    bent = skeleton.matrices([Wave("child", Z, 0, offset=90)], np.zeros(1))[0]
    np.testing.assert_allclose(bent[0], np.eye(3, 4), atol=1e-6)
    np.testing.assert_allclose(bent[1] @ np.array([3.0, 0, 0, 1]), [2, 1, 0], atol=1e-6)


def test_wave_shapes():
    p = np.array([0.0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(Wave("j", X, 2, offset=1).value(p), [1, 3, 1, -1], atol=1e-12)
    np.testing.assert_allclose(Wave("j", X, 2, shape="pulse").value(p), [0, 0.5, 2, 0.5], atol=1e-12)
    np.testing.assert_allclose(Wave("j", X, 1, shape="hop").value(p), [0, np.sqrt(0.5), 1, np.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(Wave("j", X, 360, cycles=2, shape="ramp").value(p), 720 * p)
    fall = Wave("j", X, 90, shape="fall").value(np.array([0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 1.0]))
    np.testing.assert_allclose(fall, [0, 0, 22.5, 90, 90 * 0.92, 90, 90, 0], atol=1e-9)
