"""Plants on bending stems."""

import numpy as np

from t4d.data.procedural.body import WHITE, Body, Rng, color, finish, sign
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z


def plant(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A flower, tulip, tree, cactus or mushroom on a bending stem; flowers carry petals on joints."""
    noun = noun or str(rng.choice(["flower", "sunflower", "tree", "palm tree", "cactus", "mushroom"]))
    b = Builder(detail)
    b.joint("root", None, (0, 0, 0))
    green = color(rng, 0.33, 0.7, rng.uniform(0.35, 0.6))
    height = rng.uniform(0.75, 1.05)
    wood = noun in ("tree", "palm tree")
    thick = {"flower": 0.025, "sunflower": 0.035, "tree": 0.09, "palm tree": 0.06, "cactus": 0.15, "mushroom": 0.12}[
        noun
    ]
    bark = color(rng, 0.08, 0.5, 0.4) if wood else (color(rng, 0.1, 0.15, 0.9) if noun == "mushroom" else green)
    if noun == "mushroom":
        height *= 0.6
    stem = [np.array([0, 0, height * s]) for s in (0.02, 0.33, 0.66, 1.0)]
    names = b.chain("stem", "root", stem)
    b.tube(names, stem, [thick * 1.15, thick, thick, thick * (1.0 if noun != "tree" else 0.7)], bark, round_ends=True)
    b.joint("top", names[-1], stem[-1])
    tips: list[tuple[str, tuple[float, float, float]]] = []
    pot = rng.random() < 0.5
    if pot and not wood:
        clay = color(rng, 0.05, 0.6, 0.6)
        b.lathe(
            "root",
            [(0, 0, z) for z in (-0.24, -0.22, 0.02, 0.03, 0.06, 0.06, 0.02)],
            [0.1, 0.15, 0.21, 0.24, 0.24, 0.19, 0.1],
            clay,
        )
    if noun in ("flower", "sunflower"):
        petal = color(rng, 0.14, 0.9, 0.95) if noun == "sunflower" else color(rng, None, 0.7, 0.95)
        count = int(rng.integers(10, 15)) if noun == "sunflower" else int(rng.integers(5, 9))
        middle = stem[-1] + (0.03, 0, 0.02)
        core = 0.17 if noun == "sunflower" else 0.09
        face = np.array([0.75, 0, 0.65]) / np.linalg.norm([0.75, 0, 0.65])
        side, upward = np.array([0.0, 1.0, 0.0]), np.cross(face, [0.0, 1.0, 0.0])
        b.ball("top", middle, (core, core, core * 0.5), color(rng, 0.08, 0.7, 0.4), forward=upward, up=face)
        for k in range(count):
            a = 2 * np.pi * k / count
            out = np.cos(a) * side + np.sin(a) * upward
            joint = b.joint(f"petal{k}", "top", middle + out * core * 0.7)
            b.leaf(
                [joint],
                middle + out * core * 0.6,
                middle + out * (core + 0.24) + 0.03 * face,
                1.5 / count + 0.05,
                0.025,
                petal,
                up=tuple(face),
                point=-0.2,
            )
            tips.append((joint, tuple(np.cross(out, face))))
        for k, (z, s) in enumerate(((0.35, 1), (0.5, -1))):
            at = np.array([0, 0, height * z])
            joint = b.joint(f"leaf{k}", names[1], at)
            b.leaf([joint], at, at + np.array([0.05, 0.3 * s, 0.1]), 0.13, 0.02, green, point=0.3)
    elif noun == "tree":
        for _ in range(int(rng.integers(4, 8))):
            at = stem[-1] + rng.uniform(-0.2, 0.2, 3) * (1, 1, 0.8) + (0, 0, 0.08)
            b.ball("top", at, rng.uniform(0.2, 0.32), green * rng.uniform(0.8, 1.2))
    elif noun == "palm tree":
        for k in range(7):
            a = 2 * np.pi * k / 7
            out = np.array([np.cos(a), np.sin(a), 0])
            points = [stem[-1] + out * r_ + np.array([0, 0, z]) for r_, z in ((0.0, 0.0), (0.25, 0.1), (0.5, -0.05))]
            leaves = b.chain(f"frond{k}_", "top", points)
            b.leaf(leaves, points[0], points[0] + out * 0.55 + (0, 0, 0.02), 0.17, 0.025, green, point=0.4)
            tips += [(n, tuple(np.cross(out, Z))) for n in leaves]
    elif noun == "cactus":
        for s in (-1, 1):
            z = height * rng.uniform(0.4, 0.6)
            arm = [np.array(p) for p in ((0, s * 0.1, z), (0, s * 0.32, z), (0, s * 0.34, z + 0.3))]
            joints = b.chain(f"arm{s}", names[1], arm)
            b.tube(joints, arm, [0.075, 0.08, 0.07], green)
            tips += [(joints[0], X)]
        b.ball("top", stem[-1] + (0, 0, thick * 0.95), (0.06, 0.06, 0.05), color(rng, 0.9, 0.7, 0.95))
    else:
        cap, dots = color(rng, 0.0, 0.8, 0.8), WHITE
        at = stem[-1]
        b.lathe(
            "top",
            [at + (0, 0, z) for z in (0.25, 0.22, 0.12, 0.0, -0.06, -0.03)],
            [0.08, 0.2, 0.33, 0.4, 0.38, 0.1],
            cap,
        )
        for k in range(6):
            a = 2 * np.pi * k / 6
            b.ball("top", at + (0.3 * np.cos(a), 0.3 * np.sin(a), 0.14), 0.055, dots)

    def bend(r: Rng, amount: float, cycles: int, axis) -> list[Wave]:
        waves = [Wave(n, axis, amount * (0.5 + 0.4 * i), cycles, -0.06 * i) for i, n in enumerate(names)]
        waves.append(Wave("top", axis, amount * 0.8, cycles, -0.25))
        return waves + [Wave(j, a, amount * 0.5, 2 * cycles, 0.1 * k) for k, (j, a) in enumerate(tips)]

    verbs = {
        "sway": lambda r: bend(r, r.uniform(6, 12), 1, X if r.random() < 0.6 else Y),
        "shake": lambda r: bend(r, r.uniform(4, 7), 4, X),
        "dance": lambda r: [*bend(r, 12, 2, X), Wave("root", Z, 25 * sign(r)), Wave("stem0", Z, 0.1, 4, kind="scale")],
        "bow": lambda r: [Wave(n, Y, r.uniform(18, 28), shape="pulse") for n in (*names, "top")],
        "grow": lambda r: [
            *(Wave("root", a, -1.3, kind="scale", shape="pulse") for a in (X, Y, Z)),
            *bend(r, 3, 1, X),
        ],
    }
    if noun in ("flower", "sunflower"):
        verbs["bloom"] = lambda r: [Wave(j, a, -r.uniform(60, 85), shape="pulse") for j, a in tips]
    if noun == "cactus":
        verbs["wave"] = lambda r: [Wave("arm10", X, 22, 3, offset=15)]
    return finish(b, f"plant-{noun}", noun, verbs, ("bounce", "spin", "idle", "fall"))
