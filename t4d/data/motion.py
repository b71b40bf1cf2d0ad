"""Posed vertices of one clip: which frames of a motion are shown, and how a clip starts from the rest pose."""

from dataclasses import dataclass

import numpy as np

from t4d.data.procedural import Body
from t4d.data.procedural.body import ONE_SHOT
from t4d.data.rig import Rig
from t4d.data.rigpack import PackedRig
from t4d.data.timing import ease, frame_times

#: Share of the longest side of the rest pose. In the rigs of the default models loops miss their first frame by up to
#: .14 (a gallop whose last frame is left out), lids, levers and landings by .31 and more.
OPEN = 0.25
#: Verbs nearly every procedural body has are drawn this often, against 1 for the others.
RARER = {"spin": 0.5, "shake": 0.5, "breathe": 0.5, "jump": 0.5, "fall": 0.5, "idle": 0.3}


@dataclass(frozen=True)
class Motion:
    """A moving mesh before cameras and light.

    Attributes:
        rig: Its faces, colours, smoothing and noun hold for `vertices`; its skin need not.
        vertices: [T, Nv, 3] float32 world, z up, frame 0 first.
        name: Source path or generator name.
        verb: Canonical verb.
        clip: The clip's own name.
        from_rest: Whether frame 0 is the rest pose.
        matrices: [T, J, 3, 4] float32 joint matrices with which `rig.skin` gives `vertices`, where they are kept.
    """

    rig: Rig
    vertices: np.ndarray
    name: str
    verb: str
    clip: str
    from_rest: bool = False
    matrices: np.ndarray | None = None


def rig_motion(
    pack: PackedRig, clip: int, verb: str, frames: int, start: float, from_rest: bool, speed: float = 1.0
) -> Motion:
    """A clip of a packed rig.

    Args:
        pack: The rig.
        clip: Index into its clips.
        verb: Its canonical verb.
        frames: T.
        start: Where in the loop frame 0 lies, 0..1.
        from_rest: Frame 0 is the rest pose; the clip, from its beginning and without its root translation
            (`root_translation`), is blended in over frames 1 to 3.
        speed: Factor on the motion's tempo.
    """
    packed = pack.clips[clip]
    loops = closes(pack.rig, packed.matrices[[0, -1]])
    matrices = packed.at(frame_times(packed.duration, frames, 0.0 if from_rest else start, speed, loops))
    if from_rest:
        rest = np.eye(3, 4, dtype=np.float32) if pack.rig.rest is None else pack.rig.rest
        matrices[..., 3] -= root_translation(pack.rig, matrices)[:, None]
        matrices = rest + ease(frames).astype(np.float32)[:, None, None, None] * (matrices - rest)
    return Motion(pack.rig, pack.rig.skin(matrices), pack.source, verb, packed.name, from_rest, matrices)


def closes(rig: Rig, ends: np.ndarray) -> bool:
    """Whether a clip is a loop: the middle of no joint's surface is farther than `OPEN` from where it began.

    Args:
        rig: The rig.
        ends: [2, J, 3, 4] joint matrices at the clip's beginning and end.
    """
    middle = rig.joint_middles()
    used = np.flatnonzero(np.isfinite(middle).all(1))
    point = np.concatenate([middle[used], np.ones((len(used), 1))], 1)
    first, last = np.einsum("tjik,jk->tji", ends[:, used].astype(np.float64), point)
    return bool(
        np.linalg.norm(last - first, axis=-1).max(initial=0) <= OPEN * np.ptp(rig.rest_vertices(), axis=0).max()
    )


def root_translation(rig: Rig, matrices: np.ndarray) -> np.ndarray:
    """How far a motion carries a rig away from where it rests.

    Users' objects stand in their rest pose, but clips may play elsewhere or walk away. Packs know no joint tree, so the
    root is found by what it does: the joint whose surface moves most nearly along a straight line at constant speed
    (the body of a walker, the base of a lever), and of several the one that moves least. Over the ground its line is
    the root translation, so a lunge or a sway about it stays; upwards it is the smallest distance from the rest height
    that the clip comes to, so jumping and sitting down stay as they are while a clip that plays in mid-air comes down.

    Args:
        rig: The rig, with its rest pose.
        matrices: [T, J, 3, 4] joint matrices of the motion.

    Returns:
        [T, 3] float32 displacement to subtract.
    """
    middle = rig.joint_middles()
    used = np.flatnonzero(np.isfinite(middle).all(1))
    point = np.concatenate([middle[used], np.ones((len(used), 1))], 1)
    rest = np.eye(3, 4)[None] if rig.rest is None else rig.rest[used]
    moved = np.einsum("tjik,jk->tji", matrices[:, used].astype(np.float64), point)
    away = moved - (rest @ point[..., None])[..., 0]  # [T, J, 3]
    basis = np.stack([np.ones(len(away)), np.arange(len(away))], 1)
    flat = away[..., :2].reshape(len(away), -1)
    line = (basis @ np.linalg.lstsq(basis, flat, rcond=None)[0]).reshape(*away.shape[:2], 2)
    bend = np.linalg.norm(away[..., :2] - line, axis=-1).max(0)
    root = int(np.argmin(bend + 0.1 * np.linalg.norm(line, axis=-1).max(0)))
    height = away[:, root, 2]
    up = np.full((len(away), 1), height[np.argmin(np.abs(height))])
    return np.concatenate([line[:, root], up], 1).astype(np.float32)


def procedural_motion(
    rng: np.random.Generator, body: Body, frames: int, from_rest: bool, speed: float = 1.0, verb: str | None = None
) -> Motion:
    """A procedural object acting out one of its verbs for one loop.

    Args:
        rng: Draws verb, extent and, where the clip does not start from rest, phase.
        body: The object (`t4d.data.procedural.generate`).
        frames: T.
        from_rest: Frame 0 is the rest pose and the motion rises over frames 1 to 3; bodies never travel.
        speed: Factor on the motion's tempo.
        verb: A key of `body.verbs`; drawn where None.
    """
    if verb is None:
        verbs = sorted(body.verbs)
        weight = np.array([RARER.get(v, 1.0) for v in verbs])
        verb = verbs[int(rng.choice(len(verbs), p=weight / weight.sum()))]
    waves = body.verbs[verb](rng)
    phase = 0.0 if from_rest else rng.random()
    phases = phase + np.arange(frames) / frames * speed
    if verb in ONE_SHOT:  # begins once and does not start over
        phases = np.minimum(np.arange(frames) / frames * speed, 1 - 1e-6)
    # A ramp starts at 0 by itself; easing it would only slow its first frames, which is right as well.
    matrices = body.matrices(waves, phases, ease(frames) if from_rest else 1.0)
    return Motion(body.rig, body.rig.skin(matrices), body.rig.name, verb, verb, from_rest, matrices)
