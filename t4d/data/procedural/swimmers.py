"""Bodies of water: fish, jellyfish, octopus, snake, turtle."""

import numpy as np

from t4d.data.procedural.body import DARK, WHITE, Body, Rng, coat, color, eyes, finish, paint, sign
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z

FISH = {  # noun: (hue or None, length, height, width, tail size, dorsal size, snout)
    "fish": (None, 1.0, 0.27, 0.13, 0.3, 0.16, 0.0),
    "goldfish": (0.07, 0.85, 0.3, 0.2, 0.45, 0.2, 0.0),
    "shark": (0.58, 1.3, 0.22, 0.18, 0.38, 0.28, 0.1),
    "dolphin": (0.58, 1.2, 0.22, 0.19, 0.3, 0.2, 0.25),
    "whale": (0.6, 1.2, 0.34, 0.34, 0.4, 0.08, 0.0),
    "puffer fish": (0.13, 0.7, 0.32, 0.3, 0.2, 0.1, 0.0),
    "eel": (0.25, 1.5, 0.1, 0.09, 0.12, 0.08, 0.0),
}


def fish(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A fish; dolphins and whales beat their tails up and down."""
    noun = noun or str(rng.choice(list(FISH)))
    hue, length, high, wide, tail, dorsal, snout = FISH[noun]
    length, high, wide, tail, dorsal = np.array([length, high, wide, tail, dorsal]) * rng.uniform(0.85, 1.18, 5)
    mammal = noun in ("dolphin", "whale")
    base = color(rng, hue, 0.45 if hue == 0.58 or hue == 0.6 else 0.75)
    skin = paint(base, WHITE * 0.8, "belly") if noun in ("shark", "dolphin", "whale") else coat(rng, base)
    fin = color(rng) if noun in ("fish", "goldfish") and rng.random() < 0.5 else base * 0.75
    b = Builder(detail)
    b.joint("root", None, (0, 0, 0))
    xs = length * np.array([0.12, -0.13, -0.32, -0.46, -0.56])
    b.joint("head", "root", (0.12 * length, 0, 0))
    spine = b.chain("spine", "root", [(x, 0, 0) for x in xs])
    # One tube from nose to tail: joints head, then the spine.
    points = [(length * s, 0, 0) for s in (0.5 + snout * 0.3, 0.3, 0.1, -0.1, -0.3, -0.5)]
    radii = np.array([0.25 if snout else 0.4, 0.86, 1.0, 0.85, 0.5, 0.2]) * wide
    b.tube(["head", "root", *spine[:3]], points, list(radii), skin, flatten=high / wide)
    eyes(b, "head", np.array([length * 0.36, 0, high * 0.22]), wide * 0.78, 0.16 * high + 0.015)
    end = np.array([-length * 0.47, 0, 0])
    for s in (-1, 1):
        spread = np.array([-0.85, 0.75 * s, 0]) if mammal else np.array([-0.85, 0, 0.75 * s])
        b.leaf([spine[3]], end, end + tail * spread, tail * 0.5, 0.03, fin, up=Z if mammal else Y, point=0.5)
    top = np.array([0.0, 0, high * 0.8])
    b.leaf(["root"], top, top + dorsal * np.array([-0.55, 0, 1.2]), dorsal * 1.5, 0.03, fin, up=Y, point=0.6)
    for side, s in (("l", 1), ("r", -1)):
        root = np.array([0.18 * length, s * wide * 0.75, -0.3 * high])
        b.joint(f"fin_{side}", "head", root)
        b.leaf(
            [f"fin_{side}"],
            root,
            root + np.array([-0.16, s * 0.2, -0.09]) * length * 0.9,
            0.16 * length,
            0.02,
            fin,
            point=0.4,
        )
    bend = Y if mammal else Z

    def swim(r: Rng, amount: float, cycles: int) -> list[Wave]:
        waves = [Wave(f"spine{i}", bend, amount * (0.5 + 0.35 * i), cycles, -0.13 * i) for i in range(4)]
        waves += [Wave("head", bend, amount * 0.35, cycles, 0.3), Wave("root", bend, amount * 0.3, cycles, 0.4)]
        return [*waves, *(Wave(f"fin_{side}", X, s * 18, cycles, 0.2) for side, s in (("l", 1), ("r", -1)))]

    verbs = {
        "swim": lambda r: swim(r, r.uniform(10, 18), int(r.integers(1, 3))),
        "idle": lambda r: [
            *swim(r, 4, 1),
            Wave("root", Z, 0.03, kind="shift"),
            *(Wave(f"fin_{side}", X, s * 25, 2) for side, s in (("l", 1), ("r", -1))),
        ],
        "attack": lambda r: [*swim(r, 14, 2), Wave("root", X, r.uniform(0.15, 0.3), 1, shape="pulse", kind="shift")],
        "jump": lambda r: [
            *swim(r, 10, 2),
            Wave("root", Z, r.uniform(0.3, 0.5), shape="hop", kind="shift"),
            Wave("root", Y, -r.uniform(25, 40), 1, 0.25),
        ],
        "roll": lambda r: [*swim(r, 8, 2), Wave("root", X, 360 * sign(r), shape="ramp")],
        "turn": lambda r: [*swim(r, 10, 2), Wave("root", Z, sign(r) * r.uniform(40, 70), shape="pulse")],
    }
    return finish(b, f"fish-{noun}", noun, verbs, ("shake", "spin"))


def jellyfish(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A bell with trailing tentacles."""
    base = color(rng)
    b = Builder(detail)
    b.joint("root", None, (0, 0, 0.3))
    b.joint("bell", "root", (0, 0, 0.3))
    r = rng.uniform(0.32, 0.42)
    rim = color(rng)
    b.lathe(
        "bell",
        [(0, 0, 0.3 + r * z) for z in (0.98, 0.9, 0.65, 0.3, 0.0, -0.15, -0.1, 0.1)],
        [r * s for s in (0.15, 0.45, 0.8, 0.98, 1.03, 0.95, 0.7, 0.2)],
        lambda p: base + np.clip((0.3 - p[:, 2:]) * 6, 0, 1) * (rim - base),
    )
    count = int(rng.integers(5, 9))
    waves_of = []
    for k in range(count):
        a = 2 * np.pi * k / count
        out = np.array([np.cos(a), np.sin(a), 0])
        length = rng.uniform(0.5, 0.8)
        points = [np.array([0, 0, 0.3]) + out * r * 0.7 - np.array([0, 0, length * s]) for s in (0, 0.33, 0.67, 1.0)]
        names = b.chain(f"t{k}_", "bell", points)
        b.tube(names, points, [0.035, 0.03, 0.022, 0.01], rim)
        waves_of.append((names, tuple(np.cross(out, (0, 0, 1)))))

    def trail(amount: float, cycles: int, lag: float, together: bool) -> list[Wave]:
        return [
            Wave(n, axis, amount, cycles, -lag * i + (0 if together else 0.13 * k), offset=-amount * 0.3)
            for k, (names, axis) in enumerate(waves_of)
            for i, n in enumerate(names)
        ]

    def pulse(r: Rng, cycles: int) -> list[Wave]:
        squeeze = r.uniform(0.25, 0.4)
        return [
            Wave("bell", X, -squeeze, cycles, kind="scale"),
            Wave("bell", Y, -squeeze, cycles, kind="scale"),
            Wave("bell", Z, squeeze, cycles, kind="scale"),
            Wave("root", Z, 0.1, cycles, -0.2, kind="shift"),
            *trail(12, cycles, 0.15, True),
        ]

    verbs = {
        "pulse": lambda r: pulse(r, 2),
        "swim": lambda r: [*pulse(r, 2), Wave("root", Z, r.uniform(0.2, 0.35), 1, shape="hop", kind="shift")],
        "hover": lambda r: [Wave("root", Z, 0.08, kind="shift"), *trail(r.uniform(6, 10), 1, 0.12, False)],
    }
    return finish(b, "jellyfish", noun or "jellyfish", verbs, ("spin", "sway"))


def octopus(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A head on eight arms, each a chain of four joints."""
    base = color(rng, rng.choice([0.0, 0.05, 0.85, 0.55, 0.75]))
    skin, under = coat(rng, base), color(rng, None, 0.3, 0.9)
    b = Builder(detail)
    b.joint("root", None, (0, 0, 0.25))
    b.joint("head", "root", (0, 0, 0.3))
    r = rng.uniform(0.23, 0.3)
    b.ball("head", (-0.06, 0, 0.34 + r * 0.9), (r * 1.05, r * 0.95, r * 1.2), skin)
    b.ball("root", (0, 0, 0.28), (r * 0.85, r * 0.85, r * 0.5), base)
    for s in (-1, 1):
        b.ball("head", (r * 0.7, s * r * 0.45, 0.34 + r * 0.75), r * 0.27, WHITE)
        b.ball("head", (r * 0.88, s * r * 0.5, 0.34 + r * 0.77), r * 0.14, DARK)
    arms = []
    for k in range(8):
        a = 2 * np.pi * (k + 0.5) / 8
        out = np.array([np.cos(a), np.sin(a), 0])
        reach = rng.uniform(0.75, 0.95)
        points = [
            np.array([0, 0, z]) + out * reach * s
            for s, z in ((0.15, 0.24), (0.38, 0.16), (0.62, 0.05), (0.84, 0.04), (1.0, 0.12))
        ]
        names = b.chain(f"a{k}_", "root", points)
        b.tube(names, points, [0.09, 0.075, 0.06, 0.04, 0.018], lambda p: np.where(p[:, 2:] < 0.03, under, base))
        arms.append((names, tuple(np.cross(out, (0, 0, 1)))))

    def ripple(up: float, side: float, cycles: int, spread: float) -> list[Wave]:
        waves = []
        for k, (names, axis) in enumerate(arms):
            for i, n in enumerate(names):
                waves += [
                    Wave(n, axis, up, cycles, spread * k - 0.15 * i),
                    Wave(n, Z, side, cycles, spread * k - 0.15 * i + 0.25),
                ]
        return waves

    def curl(amount: float) -> list[Wave]:
        return [Wave(n, axis, amount, shape="pulse") for names, axis in arms for n in names]

    verbs = {
        "swim": lambda r: [
            *ripple(r.uniform(18, 26), 0, 2, 0.0),
            Wave("root", Z, 0.15, 2, -0.25, kind="shift"),
            Wave("head", Z, 0.15, 2, kind="scale"),
        ],
        "walk": lambda r: ripple(r.uniform(9, 14), r.uniform(8, 14), 2, 0.37),
        "wave": lambda r: [
            Wave(n, arms[0][1], 22, 1, shape="pulse", offset=0)
            if i == 0
            else Wave(n, arms[0][1], 24, 3, -0.12 * i, offset=20)
            for i, n in enumerate(arms[0][0])
        ],
        "dance": lambda r: [*ripple(14, 12, 2, 0.5), Wave("head", X, 14, 2), Wave("root", Z, 25 * sign(r))],
        "curl": lambda r: curl(r.uniform(28, 40)),
        "breathe": lambda r: [
            Wave("head", Z, 0.18, kind="scale"),
            Wave("head", Y, 0.12, kind="scale"),
            *ripple(4, 3, 1, 0.2),
        ],
    }
    return finish(b, "octopus", noun or "octopus", verbs, ("jump", "spin", "shake"))


def snake(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A snake, worm or caterpillar lying along x."""
    noun = noun or str(rng.choice(["snake", "worm", "caterpillar"]))
    fat = {"snake": 0.075, "worm": 0.08, "caterpillar": 0.13}[noun] * rng.uniform(0.85, 1.2)
    base = color(rng, {"snake": 0.3, "worm": 0.02}.get(noun))
    skin = paint(base, color(rng), "stripes" if rng.random() < 0.7 else "spots", rng.uniform(2, 4))
    b = Builder(detail)
    count = 9
    b.joint("root", None, (0, 0, fat))
    xs = np.linspace(0.6, -0.75, count + 1)
    names = b.chain("s", "root", [(x, 0, fat) for x in xs])
    radii = fat * np.array([0.9, *[1.05] * (count - 4), 0.95, 0.8, 0.55, 0.2])
    if noun != "snake":
        radii = fat * np.array([*[1.0] * count, 0.7])
    b.tube(names, [(x, 0, fat) for x in xs], list(radii), skin)
    head = np.array([0.68, 0, fat * 1.15])
    b.ball(names[0], head, (fat * 1.7, fat * 1.25, fat * 1.0), base)
    eyes(b, names[0], head + fat * np.array([0.9, 0, 0.6]), 0.65 * fat, 0.3 * fat)
    if noun == "caterpillar":
        for i, x in enumerate(xs[1:-1]):
            for s in (-1, 1):
                b.ball(names[i], (x, s * fat * 0.6, fat * 0.2), fat * 0.3, base * 0.4)
    else:
        b.tube(
            [names[0]],
            [head + (fat, 0, -0.02), head + (fat * 2.6, 0, -0.03)],
            [0.012, 0.008],
            np.array([0.7, 0.02, 0.03]),
        )

    def serpent(axis, amount: float, cycles: int, waves: float, offset: float = 0.0) -> list[Wave]:
        return [Wave(n, axis, amount, cycles, -waves * i / count, offset=offset) for i, n in enumerate(names)]

    def inch(amount: float) -> list[Wave]:
        """One upright wave along the body, turned back at the root so that the body stays level on average."""
        mean = np.cumsum(np.exp(-2j * np.pi * np.arange(count) / count)).mean()
        level = Wave("root", Y, -amount * float(np.abs(mean)), phase=float(np.angle(mean)) / (2 * np.pi))
        return [level, *serpent(Y, amount, 1, 1.0)]

    verbs = {
        "slither": lambda r: serpent(Z, r.uniform(20, 32), int(r.integers(1, 3)), r.uniform(1.0, 1.6)),
        "walk": lambda r: [*serpent(Y, r.uniform(16, 24), 1, 1.5), Wave("root", Z, 0.04, 1, kind="shift")],
        "idle": lambda r: [Wave(n, Z, a * r.uniform(2, 4)) for n, a in zip(names, (1, 0.5, -0.5, -1))],
        "crawl": lambda r: (
            serpent(Z, r.uniform(12, 20), 1, r.uniform(1.0, 1.5)) if noun == "snake" else inch(r.uniform(20, 28))
        ),
        "curl": lambda r: [Wave(n, Z, sign_ * 38, shape="pulse") for sign_ in (sign(r),) for n in names],
        "attack": lambda r: [
            *(Wave(n, Y, a * 0.9, shape="pulse") for n, a in zip(names[:4], (40, 15, -12, -25))),
            Wave("root", X, 0.2, 2, shape="pulse", kind="shift"),
        ],
        "look around": lambda r: [
            Wave(n, Z, a) for n, a in zip(names, r.uniform(0.8, 1.2) * np.array([35, 10, -18, -27]))
        ],
    }
    return finish(b, f"snake-{noun}", noun, verbs, ("spin", "shake"))
