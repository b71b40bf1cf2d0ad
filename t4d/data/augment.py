"""Random changes of training objects: colours, light, proportions, mirroring."""

from dataclasses import replace

import numpy as np

from t4d.data.motion import Motion
from t4d.data.rig import Rig
from t4d.geometry.shading import LightRig


def jittered_light(rng: np.random.Generator) -> LightRig:
    """The default lights with every intensity changed by up to a quarter."""
    base = LightRig()
    names = ("key_intensity", "fill_intensity", "back_intensity", "ambient")
    return replace(base, **{name: float(getattr(base, name) * rng.uniform(0.75, 1.25)) for name in names})


def recolored(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear colours [Nv, 3] with their hues turned about the grey axis and their lightness changed."""
    a = rng.uniform(0, 2 * np.pi)
    third, root = (1 - np.cos(a)) / 3, np.sin(a) / np.sqrt(3)
    turn = np.full((3, 3), third) + root * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) + np.cos(a) * np.eye(3)
    return (np.clip(colors @ turn.T, 0, 1) ** rng.uniform(0.55, 1.2)).astype(np.float32)


def swollen(rig: Rig, rng: np.random.Generator, amount: float) -> Rig:
    """A rig whose parts are thicker or thinner: each joint's share of the surface scaled about its own middle.

    Joints keep their places, so every motion still fits. The factor is a smooth wave over the object, the same on both
    sides of its plane of symmetry x = 0: a larger head with thinner hind legs, never one thick arm.

    Args:
        rig: The rig; not changed.
        rng: Draws direction and phase of the wave.
        amount: Largest relative change, 0..0.5.
    """
    rest = rig.rest_vertices()
    stored, seen = (np.nan_to_num(rig.joint_middles(v)) for v in (rig.vertices, rest))
    at = np.concatenate([np.abs(seen[:, :1]), seen[:, 1:]], 1) / (np.ptp(rest, axis=0).max() + 1e-9)
    factor = 1 + amount * np.sin(at @ rng.normal(0, 4, 3) + rng.uniform(0, 2 * np.pi))
    middle = stored[rig.joints]  # [Nv, 4, 3]
    moved = middle + factor[rig.joints][..., None] * (rig.vertices[:, None] - middle)
    return replace(rig, vertices=(rig.weights[..., None] * moved).sum(1).astype(np.float32))


def stretched(motion: Motion, factors: np.ndarray) -> Motion:
    """A motion with all of its frames scaled along x, y and z by `factors` [3]: long, flat or tall objects."""
    return _scaled(motion, np.asarray(factors, np.float32))


def mirrored(motion: Motion) -> Motion:
    """The mirror image through x = 0 (objects face -y, so left and right change places), faces wound anew.

    Captions never name a side, so they hold unchanged.
    """
    rig = replace(motion.rig, faces=np.ascontiguousarray(motion.rig.faces[:, ::-1]))
    return _scaled(replace(motion, rig=rig), np.array([-1, 1, 1], np.float32))


def _scaled(motion: Motion, factors: np.ndarray) -> Motion:
    matrices = None if motion.matrices is None else motion.matrices * factors[:, None]
    return replace(motion, vertices=motion.vertices * factors, matrices=matrices)
