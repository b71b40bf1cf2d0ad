"""Posed vertices of one clip: which frames of a motion are shown, and how a clip starts from the rest pose."""

from dataclasses import dataclass

import numpy as np

from t4d.data.procedural import Body
from t4d.data.procedural.body import ONE_SHOT
from t4d.data.rig import Rig
from t4d.data.rigpack import PackedRig
from t4d.data.timing import ease, frame_times

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
    """

    rig: Rig
    vertices: np.ndarray
    name: str
    verb: str
    clip: str
    from_rest: bool = False


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
    posed = pack.rig.skin(packed.at(frame_times(packed.duration, frames, 0.0 if from_rest else start, speed)))
    if from_rest:
        rest = pack.rig.rest_vertices()
        # Skinning is linear in the joint matrices, so blending vertices blends matrices and keeps limbs attached.
        mix = ease(frames).astype(np.float32)[:, None, None]
        posed = rest + mix * (posed - root_translation(posed, rest)[:, None] - rest)
    return Motion(pack.rig, posed, pack.source, verb, packed.name, from_rest)


def root_translation(posed: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """How far a motion carries the whole object away from where it rests.

    Users' objects stand in their rest pose, but clips may play elsewhere or walk away. Over the ground this is the
    straight line, in time, that fits the centroid's displacement best: a lunge or a sway about it stays. Upwards it is
    the constant that sets the clip's lowest point on the ground the rest pose stands on: a jump stays a jump.

    Args:
        posed: [T, Nv, 3].
        rest: [Nv, 3].

    Returns:
        [T, 3] displacement to subtract.
    """
    frames = len(posed)
    time = np.arange(frames, dtype=np.float64)
    basis = np.stack([np.ones(frames), time], 1)
    away = posed[..., :2].mean(1, dtype=np.float64) - rest[:, :2].mean(0, dtype=np.float64)
    line = basis @ np.linalg.lstsq(basis, away, rcond=None)[0]
    up = np.full((frames, 1), float(posed[..., 2].min()) - float(rest[:, 2].min()))
    return np.concatenate([line, up], 1).astype(np.float32)


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
    return Motion(body.rig, body.rig.skin(matrices), body.rig.name, verb, verb, from_rest)
