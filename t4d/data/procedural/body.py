"""What every body plan shares: palettes, verbs that suit anything with a root joint, and the finished object."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Skeleton, Wave, X, Y, Z
from t4d.data.rig import Rig
from t4d.geometry.color import srgb_to_linear

Rng = np.random.Generator
Verb = Callable[[Rng], list[Wave]]

ONE_SHOT = ("fall",)  # verbs that happen once a clip instead of looping

DARK = np.array([0.02, 0.02, 0.025])
WHITE = np.array([0.9, 0.9, 0.9])
SIDES = (("l", 1), ("r", -1))

# Turns the design frame (front on +x) to a glTF file's after loading (front on -y).
FRONT = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass
class Body:
    """One procedural object.

    Attributes:
        rig: Mesh and skin, front on -y, z up.
        skeleton: Joints in the design frame.
        verbs: Canonical verb to the waves that act it out, with random extent.
    """

    rig: Rig
    skeleton: Skeleton
    verbs: dict[str, Verb]

    def matrices(self, waves: list[Wave], phases: np.ndarray, envelope: np.ndarray | float = 1.0) -> np.ndarray:
        """Skinning matrices [T, J, 3, 4] in the rig's frame; see `Skeleton.matrices`."""
        m = self.skeleton.matrices(waves, phases, envelope)
        return np.concatenate([FRONT @ m[..., :3] @ FRONT.T, FRONT @ m[..., 3:]], -1).astype(np.float32)


def finish(builder: Builder, name: str, noun: str, verbs: dict[str, Verb], common: tuple[str, ...] = ()) -> Body:
    """Turns a builder's parts to the front and adds the named common verbs about its joint "root".

    "fall" among them topples the body onto the ground; "crawl" among `verbs` is lowered onto it.
    """
    rig = builder.rig(name, noun)
    added = {verb: COMMON[verb] for verb in common if verb != "fall"}
    if "fall" in common:
        added["fall"] = partial(_topple, rig, builder.skeleton)
    if "crawl" in verbs:
        added["crawl"] = partial(_lowered, rig, builder.skeleton, verbs["crawl"])
    rig = Rig(name, noun, (rig.vertices @ FRONT.T).astype(np.float32), rig.faces, rig.colors, rig.joints, rig.weights)
    return Body(rig, builder.skeleton, verbs | added)


def _topple(rig: Rig, skeleton: Skeleton, r: Rng) -> list[Wave]:
    """Tips over forwards, backwards or sideways about the root joint and comes to lie on the ground it stood on."""
    axis = X if r.random() < 0.5 else Y
    tip = Wave("root", axis, sign(r) * r.uniform(78, 92), shape="fall")
    lying = rig.skin(skeleton.matrices([tip], np.array([0.999])))[0]
    sink = float(rig.vertices[:, 2].min() - lying[:, 2].min())
    return [Wave("root", Z, sink, shape="fall", kind="shift"), tip]


def _lowered(rig: Rig, skeleton: Skeleton, verb: Verb, r: Rng) -> list[Wave]:
    """A verb's waves after a constant shift that brings its lowest point to the ground the body stands on."""
    waves = verb(r)
    posed = rig.skin(skeleton.matrices(waves, np.arange(8) / 8))
    sink = float(rig.vertices[:, 2].min() - posed[..., 2].min())
    return [Wave("root", Z, 0.0, offset=sink, kind="shift"), *waves]


def color(
    rng: Rng, hue: float | None = None, saturation: float | None = None, value: float | None = None
) -> np.ndarray:
    """A linear colour from hue (0..1), saturation and value in sRGB; random pleasant ones where None."""
    h = rng.random() if hue is None else (hue + 0.03 * rng.standard_normal()) % 1
    s = rng.uniform(0.25, 0.9) if saturation is None else np.clip(saturation + 0.08 * rng.standard_normal(), 0, 1)
    v = rng.uniform(0.35, 0.95) if value is None else np.clip(value + 0.06 * rng.standard_normal(), 0.05, 1)
    k = (np.array([5.0, 3.0, 1.0]) + h * 6) % 6
    return srgb_to_linear(v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1))


def paint(base: np.ndarray, second: np.ndarray, kind: str, scale: float = 8.0) -> Callable[[np.ndarray], np.ndarray]:
    """A colour per point of the design frame: `belly` (second below), `stripes`, `spots`, `tip` (second far out)."""

    def at(points: np.ndarray) -> np.ndarray:
        if kind == "belly":
            low, high = points[:, 2].min(), points[:, 2].max()
            mix = np.clip((0.45 - (points[:, 2] - low) / (high - low + 1e-9)) * 8, 0, 1)
        elif kind == "stripes":
            mix = np.clip(3 * np.sin(scale * (points[:, 0] + 0.35 * points[:, 2]) * 2 * np.pi), 0, 1)
        elif kind == "spots":
            p = points * scale
            mix = np.clip(
                6 * (np.sin(5 * p[:, 0]) * np.sin(5.3 * p[:, 1] + 1) * np.sin(4.7 * p[:, 2] + 2) - 0.15), 0, 1
            )
        elif kind == "tip":
            reach = np.linalg.norm(points - points.mean(0), axis=1)
            mix = np.clip(reach / (reach.max() + 1e-9) * 4 - 3, 0, 1)
        else:
            mix = np.zeros(len(points))
        return base + mix[:, None] * (second - base)

    return at


def coat(rng: Rng, base: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A random pattern over a base colour."""
    kind = rng.choice(["plain", "belly", "belly", "stripes", "spots"])
    return paint(base, color(rng, value=0.85 if kind == "belly" else None), str(kind), rng.uniform(2.5, 6))


def sign(rng: Rng) -> float:
    """-1 or 1."""
    return 1.0 if rng.random() < 0.5 else -1.0


def eyes(b: Builder, joint: str, center: np.ndarray, spread: float, size: float) -> None:
    """Two dark eyes with a white glint, looking forward from `center`."""
    for side in (-1, 1):
        at = center + np.array([0, side * spread, 0])
        b.ball(joint, at, size, DARK)
        b.ball(joint, at + size * np.array([0.55, 0.2 * side, 0.55]), 0.4 * size, WHITE)


COMMON: dict[str, Verb] = {
    "spin": lambda r: [Wave("root", Z, 360 * sign(r), shape="ramp")],
    "bounce": lambda r: [
        Wave("root", Z, r.uniform(0.15, 0.4), cycles=2, shape="hop", kind="shift"),
        Wave("root", Z, r.uniform(0.1, 0.3), cycles=2, phase=-0.25, kind="scale"),
    ],
    "jump": lambda r: [
        Wave("root", Z, r.uniform(0.3, 0.55), shape="hop", kind="shift"),
        Wave("root", Z, r.uniform(0.15, 0.35), phase=-0.25, kind="scale"),
    ],
    "shake": lambda r: [Wave("root", Z, r.uniform(10, 25), cycles=int(r.integers(3, 5)))],
    "sway": lambda r: [Wave("root", X if r.random() < 0.6 else Y, r.uniform(8, 20), phase=r.random())],
    "stretch": lambda r: [Wave("root", Z, r.uniform(0.25, 0.5), kind="scale", phase=-0.25, offset=0.2)],
    "breathe": lambda r: [
        Wave("root", Z, r.uniform(0.05, 0.12), kind="scale"),
        Wave("root", Y, r.uniform(0.03, 0.08), kind="scale", phase=0.1),
    ],
    "idle": lambda r: [
        Wave("root", Z, r.uniform(0.02, 0.04), kind="scale"),
        Wave("root", Y, r.uniform(0.02, 0.04), kind="scale", phase=0.1),
        Wave("root", X, r.uniform(0.8, 1.6), phase=r.random()),
    ],
    "hover": lambda r: [
        Wave("root", Z, r.uniform(0.06, 0.18), kind="shift", phase=r.random()),
        Wave("root", X, r.uniform(3, 8), phase=r.random()),
    ],
}
