"""Plants, vehicles, machines and plain things that still move."""

import numpy as np

from t4d.data.procedural.body import Body, Rng, coat, color, finish, paint, sign
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z
from t4d.data.procedural.walkers import DARK, WHITE, biped_verbs

GLASS = np.array([0.25, 0.45, 0.6])
SIDES = (("l", 1), ("r", -1))


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
    top = b.joint("top", names[-1], stem[-1])
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
        for k in range(int(rng.integers(4, 8))):
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
    return finish(b, f"plant-{noun}", noun, verbs, ("bounce", "spin"))


VEHICLES = ["car", "truck", "bus", "train", "tractor", "race car"]


def vehicle(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """Something on wheels."""
    noun = noun or str(rng.choice(VEHICLES))
    base, second = color(rng, None, 0.8, 0.85), color(rng)
    length = {"car": 0.9, "truck": 1.15, "bus": 1.2, "train": 1.1, "tractor": 0.8, "race car": 1.1}[noun] * rng.uniform(
        0.9, 1.1
    )
    wide, wheel = rng.uniform(0.38, 0.48), {"tractor": 0.15, "race car": 0.14}.get(noun, rng.uniform(0.1, 0.13))
    b = Builder(detail)
    b.joint("root", None, (0, 0, wheel))
    b.joint("body", "root", (0, 0, wheel * 1.2))
    floor = wheel * 1.1
    if noun in ("car", "race car"):
        low = 0.2 if noun == "car" else 0.13
        b.box("body", (0, 0, floor + low / 2), (length, wide, low), base, 0.6)
        b.box("body", (-0.05 * length, 0, floor + low + 0.075), (length * 0.5, wide * 0.86, 0.19), GLASS, 0.6)
        b.box("body", (-0.05 * length, 0, floor + low + 0.16), (length * 0.42, wide * 0.8, 0.05), base, 0.7)
        if noun == "race car":
            b.box("body", (-length * 0.47, 0, floor + 0.3), (0.14, wide, 0.03), second)
            for s in (-1, 1):
                b.box("body", (-length * 0.47, s * wide * 0.3, floor + 0.2), (0.05, 0.03, 0.2), second)
    elif noun == "bus":
        b.box("body", (0, 0, floor + 0.24), (length, wide, 0.48), base, 0.35)
        b.box("body", (0, 0, floor + 0.32), (length * 0.92, wide * 1.02, 0.16), GLASS, 0.2)
        b.box("body", (0.02, 0, floor + 0.32), (length * 0.98, wide * 0.9, 0.16), GLASS, 0.2)
    elif noun == "truck":
        b.box("body", (length * 0.34, 0, floor + 0.2), (length * 0.28, wide, 0.4), base, 0.35)
        b.box("body", (length * 0.42, 0, floor + 0.28), (length * 0.14, wide * 1.02, 0.14), GLASS, 0.3)
        b.box("body", (-length * 0.16, 0, floor + 0.27), (length * 0.66, wide * 1.05, 0.52), second, 0.12)
        b.box("body", (0, 0, floor), (length * 0.95, wide * 0.7, 0.08), DARK + 0.05)
    elif noun == "train":
        b.box("body", (0, 0, floor + 0.06), (length, wide, 0.12), second, 0.3)
        b.tube(["body"], [(-0.1 * length, 0, floor + 0.28), (length * 0.42, 0, floor + 0.28)], [0.17, 0.17], base)
        b.box("body", (-length * 0.3, 0, floor + 0.34), (length * 0.36, wide, 0.5), base, 0.2)
        b.box("body", (-length * 0.3, 0, floor + 0.62), (length * 0.42, wide * 1.12, 0.06), second, 0.5)
        b.box("body", (-length * 0.3, 0, floor + 0.44), (length * 0.22, wide * 1.03, 0.16), GLASS, 0.2)
        b.lathe(
            "body",
            [(length * 0.3, 0, z) for z in (floor + 0.4, floor + 0.5, floor + 0.55, floor + 0.62)],
            [0.06, 0.06, 0.1, 0.09],
            DARK,
        )
    else:
        b.box("body", (length * 0.2, 0, floor + 0.16), (length * 0.6, wide * 0.55, 0.24), base, 0.4)
        b.box("body", (-length * 0.2, 0, floor + 0.36), (length * 0.36, wide * 0.8, 0.4), GLASS, 0.25)
        b.box("body", (-length * 0.2, 0, floor + 0.58), (length * 0.4, wide * 0.9, 0.05), base, 0.5)
        b.tube(["body"], [(length * 0.3, 0, floor + 0.25), (length * 0.3, 0, floor + 0.5)], [0.025, 0.025], DARK)
    for s in (-1, 1):
        z = floor + (0.1 if noun != "race car" else 0.06)
        b.ball("body", (length * 0.49, s * wide * 0.3, z), (0.03, 0.05, 0.05), np.array([0.9, 0.85, 0.5]))
    wheels = []
    for x in (length * 0.31, -length * 0.31):
        big = wheel * (1.7 if noun == "tractor" and x < 0 else 1.0)
        for side, s in SIDES:
            at = np.array([x, s * (wide * 0.5 + 0.005), big])
            joint = b.joint(f"wheel_{'f' if x > 0 else 'b'}{side}", "root", at)
            b.disc(joint, at, (0, 1, 0), big, 0.11, DARK + 0.03)
            b.disc(joint, at + (0, s * 0.035, 0), (0, 1, 0), big * 0.55, 0.06, WHITE * 0.7)
            for k in range(3):  # hub marks make the turning visible
                a = 2 * np.pi * k / 3
                b.ball(
                    joint,
                    at + (big * 0.4 * np.cos(a), s * 0.07, big * 0.4 * np.sin(a)),
                    (big * 0.16, 0.015, big * 0.16),
                    second,
                )
            wheels.append(joint)

    def roll(turns: int) -> list[Wave]:
        return [Wave(w, Y, 360 * turns, shape="ramp") for w in wheels]

    front = ("wheel_fl", "wheel_fr")
    verbs = {
        "drive": lambda r: [
            *roll(int(r.integers(1, 3))),
            Wave("body", Z, 0.015, 3, kind="shift"),
            Wave("body", Y, 1.5, 2),
        ],
        "turn": lambda r: [
            *(Wave(w, Z, 22) for w in front),
            *roll(1),
            Wave("root", Z, sign(r) * r.uniform(30, 50), shape="pulse"),
            Wave("body", X, 4),
        ],
        "bounce": lambda r: [
            Wave("body", Z, r.uniform(0.08, 0.15), 2, shape="hop", kind="shift"),
            Wave("body", Y, 6, 2, 0.2),
            Wave("body", Z, 0.15, 2, -0.25, kind="scale"),
        ],
        "shake": lambda r: [Wave("body", X, r.uniform(4, 7), 4), Wave("body", Z, 0.02, 5, kind="shift")],
        "rear": lambda r: [
            Wave("root", Y, -r.uniform(20, 35), shape="pulse"),
            Wave("root", Z, 0.18, shape="pulse", kind="shift"),
            *roll(1),
        ],
    }
    return finish(b, f"vehicle-{noun}", noun, verbs, ("jump", "spin"))


def aircraft(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A helicopter, aeroplane, rocket or balloon in the air."""
    noun = noun or str(rng.choice(["helicopter", "airplane", "hot air balloon", "rocket"]))
    base, second = color(rng, None, 0.8, 0.85), color(rng)
    b = Builder(detail)
    b.joint("root", None, (0, 0, 0))
    turning: list[Wave] = []
    if noun == "helicopter":
        b.ball("root", (0.12, 0, 0), (0.36, 0.22, 0.24), base)
        b.ball("root", (0.26, 0, 0.04), (0.24, 0.19, 0.19), GLASS)
        b.tube(["root"], [(-0.1, 0, 0.06), (-0.8, 0, 0.12)], [0.09, 0.035], base)
        b.leaf(["root"], (-0.72, 0, 0.1), (-0.9, 0, 0.36), 0.16, 0.03, second, up=Y)
        for s in (-1, 1):
            b.tube(["root"], [(-0.2, s * 0.2, -0.3), (0.4, s * 0.2, -0.3)], [0.02, 0.02], DARK)
            b.tube(["root"], [(0.1, s * 0.15, -0.15), (0.1, s * 0.2, -0.3)], [0.018, 0.018], DARK)
        b.joint("rotor", "root", (0.08, 0, 0.3))
        b.tube(["rotor"], [(0.08, 0, 0.2), (0.08, 0, 0.33)], [0.03, 0.03], DARK)
        for k in range(3):
            a = 2 * np.pi * k / 3
            b.leaf(
                ["rotor"],
                (0.08, 0, 0.32),
                (0.08 + 0.68 * np.cos(a), 0.68 * np.sin(a), 0.32),
                0.1,
                0.02,
                second if k else WHITE,
            )
        turning = [Wave("rotor", Z, 360, shape="ramp")]
    elif noun == "airplane":
        b.tube(
            ["root"],
            [(-0.6, 0, 0.04), (-0.2, 0, 0), (0.3, 0, 0), (0.52, 0, -0.02)],
            [0.05, 0.12, 0.13, 0.09],
            paint(base, WHITE, "belly"),
            round_ends=True,
        )
        for s in (-1, 1):
            b.leaf(["root"], (0.1, s * 0.05, 0), (-0.02, s * 0.78, 0.05), 0.26, 0.04, second, point=0.3)
            b.leaf(["root"], (-0.55, 0, 0.05), (-0.65, s * 0.28, 0.07), 0.14, 0.03, second)
        b.leaf(["root"], (-0.52, 0, 0.05), (-0.68, 0, 0.32), 0.18, 0.03, second, up=Y)
        b.ball("root", (0.2, 0, 0.1), (0.14, 0.08, 0.08), GLASS)
        b.joint("rotor", "root", (0.62, 0, -0.02))
        b.ball("rotor", (0.61, 0, -0.02), 0.05, DARK)
        for s in (-1, 1):
            b.leaf(["rotor"], (0.63, 0, -0.02), (0.63, 0.0, -0.02 + s * 0.24), 0.06, 0.02, DARK + 0.1, up=X)
        turning = [Wave("rotor", X, 720, shape="ramp")]
    elif noun == "rocket":
        z = np.array([-0.55, -0.5, -0.2, 0.15, 0.4, 0.58, 0.68])
        b.lathe(
            "root",
            [(0, 0, v) for v in z],
            [0.1, 0.17, 0.2, 0.19, 0.14, 0.07, 0.01],
            lambda p: np.where(p[:, 2:] > 0.36, second, base),
        )
        for k in range(4):
            a = 2 * np.pi * k / 4
            out = np.array([np.cos(a), np.sin(a), 0])
            b.leaf(
                ["root"],
                out * 0.12 + (0, 0, -0.28),
                out * 0.36 + (0, 0, -0.66),
                0.2,
                0.03,
                second,
                up=tuple(np.cross(out, Z)),
            )
        b.ball("root", (0.18, 0, 0.12), (0.05, 0.08, 0.08), GLASS)
        b.joint("rotor", "root", (0, 0, -0.55))
        b.tube(
            ["rotor"], [(0, 0, -0.56), (0, 0, -0.68), (0, 0, -0.84)], [0.09, 0.07, 0.015], np.array([0.95, 0.4, 0.03])
        )
        turning = [Wave("rotor", Z, 0.6, 4, kind="scale")]
    else:
        b.ball("root", (0, 0, 0.25), (0.42, 0.42, 0.5), paint(base, second, "stripes", 2.2))
        b.lathe("root", [(0, 0, z) for z in (-0.1, -0.2, -0.26)], [0.3, 0.2, 0.13], base)
        b.joint("rotor", "root", (0, 0, -0.2))
        b.box("rotor", (0, 0, -0.56), (0.22, 0.22, 0.17), color(rng, 0.08, 0.6, 0.5), 0.3)
        for x in (-0.09, 0.09):
            for y in (-0.09, 0.09):
                b.tube(["rotor"], [(x, y, -0.5), (x * 1.5, y * 1.5, -0.24)], [0.01, 0.01], DARK)
        turning = [Wave("rotor", X, 8, 1, 0.2), Wave("rotor", Y, 6, 1)]
    verbs = {
        "fly": lambda r: [
            *turning,
            Wave("root", Z, r.uniform(0.06, 0.12), kind="shift"),
            Wave("root", X, r.uniform(6, 12), 1, 0.25),
            Wave("root", Y, 4, 2),
        ],
        "hover": lambda r: [
            *turning,
            Wave("root", Z, r.uniform(0.03, 0.07), kind="shift"),
            Wave("root", X, 2.5, 1, 0.2),
        ],
        "turn": lambda r: [
            *turning,
            Wave("root", Z, sign(r) * r.uniform(40, 70), shape="pulse"),
            Wave("root", X, 14, shape="pulse"),
        ],
        "roll": lambda r: [*turning, Wave("root", X if noun != "rocket" else Z, 360 * sign(r), shape="ramp")],
        "jump": lambda r: [*turning, Wave("root", Z, r.uniform(0.3, 0.5), shape="hop", kind="shift")],
    }
    return finish(b, f"aircraft-{noun}", noun, verbs, ("shake", "sway"))


def robot(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A robot of boxes with the limbs of a biped."""
    base, second, eye = color(rng, None, 0.35, 0.8), color(rng, None, 0.6, 0.6), color(rng, 0.5, 0.9, 0.95)
    w, d, h = rng.uniform(0.2, 0.26), rng.uniform(0.15, 0.2), rng.uniform(0.38, 0.48)
    leg, arm = rng.uniform(0.3, 0.45), rng.uniform(0.36, 0.46)
    b = Builder(detail)
    b.joint("root", None, (0, 0, leg))
    b.joint("spine", "root", (0, 0, leg + 0.08))
    b.box("spine", (0, 0, leg + h / 2 + 0.05), (2 * d, 2 * w, h), base, 0.3)
    b.box("spine", (d, 0, leg + h * 0.62), (0.04, w * 1.2, h * 0.4), second, 0.4)
    for k, y in enumerate((-0.08, 0.0, 0.08)):
        b.ball(
            "spine",
            (d + 0.03, y, leg + h * 0.62),
            0.025,
            (np.array([0.8, 0.1, 0.1]), eye, np.array([0.9, 0.7, 0.1]))[k],
        )
    top = leg + h + 0.07
    b.joint("neck", "spine", (0, 0, top))
    b.joint("head", "neck", (0, 0, top + 0.04))
    b.tube(["neck"], [(0, 0, top - 0.04), (0, 0, top + 0.08)], [0.06, 0.06], DARK + 0.1)
    size = rng.uniform(0.15, 0.2)
    c = np.array([0, 0, top + 0.05 + size])
    if rng.random() < 0.6:
        b.box("head", c, (1.7 * size, 2.1 * size, 1.7 * size), base, 0.35)
    else:
        b.ball("head", c, (size, size * 1.1, size), base)
    for s in (-1, 1):
        b.ball("head", c + (size * 0.85, s * size * 0.45, size * 0.15), size * 0.27, eye)
        b.disc("head", c + (0, s * size * 1.1, 0), (0, 1, 0), size * 0.35, 0.05, second)
    b.box("head", c + (size * 0.86, 0, -size * 0.45), (0.03, size * 0.9, size * 0.2), DARK)
    b.tube(["head"], [c + (0, 0, size * 0.8), c + (0, 0, size * 1.5)], [0.012, 0.012], DARK + 0.1)
    b.ball("head", c + (0, 0, size * 1.6), 0.04, np.array([0.85, 0.1, 0.05]))
    for side, s in SIDES:
        shoulder = np.array([0, s * (w + 0.06), leg + h * 0.88])
        elbow, hand = shoulder - (0, -s * 0.03, arm * 0.5), shoulder - (0, -s * 0.03, arm)
        up = b.joint(f"arm_{side}", "spine", shoulder)
        low = b.joint(f"arm_{side}_low", up, elbow)
        b.ball(up, shoulder, 0.075, second)
        b.tube([up], [shoulder, elbow], [0.05, 0.045], DARK + 0.12)
        b.box(low, (elbow + hand) / 2, (0.11, 0.11, arm * 0.42), base, 0.3)
        b.ball(low, hand, 0.07, second)
        hip = np.array([0, s * w * 0.55, leg])
        knee, foot = hip * (1, 1, 0.55), hip * (1, 1, 0.12)
        up = b.joint(f"leg_{side}", "root", hip)
        low = b.joint(f"leg_{side}_low", up, knee)
        b.tube([up], [hip, knee], [0.055, 0.05], DARK + 0.12)
        b.box(low, (knee + foot) / 2, (0.12, 0.12, leg * 0.36), base, 0.3)
        b.box(low, foot + (0.04, 0, 0), (0.24, 0.15, 0.08), second, 0.4)
    return finish(b, "robot", noun or "robot", biped_verbs(), ("jump", "spin", "shake"))


def toy(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A plain thing: box, ball, mug, lamp, flag, windmill, spring or snowman, acting as if alive."""
    noun = noun or str(rng.choice(["box", "ball", "mug", "lamp", "flag", "windmill", "snowman", "teapot", "clock"]))
    base, second = color(rng), color(rng)
    b = Builder(detail)
    b.joint("root", None, (0, 0, 0))
    common: tuple[str, ...] = ("jump", "spin", "bounce", "shake", "sway", "stretch")
    verbs: dict = {}
    if noun == "box":
        b.box("root", (0, 0, 0.3), rng.uniform(0.45, 0.8, 3) * (1, 1, 0.85), coat(rng, base), 0.25)
        b.box("root", (0, 0, 0.3), (0.12, 0.83, 0.3), second, 0.2)
    elif noun == "ball":
        b.ball("root", (0, 0, 0.4), 0.4, paint(base, second, "stripes", rng.uniform(1.2, 3)))
        verbs["roll"] = lambda r: [Wave("root", Y, 360 * sign(r), shape="ramp")]
    elif noun in ("mug", "teapot"):
        profile = [(0.0, 0.24), (0.02, 0.3), (0.3, 0.31), (0.55, 0.3), (0.58, 0.28), (0.56, 0.25)]
        if noun == "teapot":
            profile = [(0.0, 0.2), (0.03, 0.27), (0.2, 0.38), (0.38, 0.33), (0.48, 0.2), (0.52, 0.17)]
        b.lathe("root", [(0, 0, z) for z, _ in profile], [r for _, r in profile], coat(rng, base))
        a = np.radians([60, 20, -20, -60])
        ring = [np.array([-0.28 - 0.16 * np.cos(t), 0, 0.28 + 0.18 * np.sin(t)]) for t in a]
        b.tube(["root"], ring, [0.035] * 4, second)
        if noun == "teapot":
            b.tube(["root"], [(0.28, 0, 0.2), (0.45, 0, 0.28), (0.55, 0, 0.45)], [0.08, 0.055, 0.035], second)
            b.joint("lid", "root", (0, 0, 0.5))
            b.ball("lid", (0, 0, 0.5), (0.19, 0.19, 0.06), second)
            b.ball("lid", (0, 0, 0.58), 0.045, base)
            verbs["open"] = lambda r: [
                Wave("lid", Z, r.uniform(0.15, 0.25), shape="pulse", kind="shift"),
                Wave("lid", Y, 20, shape="pulse"),
            ]
    elif noun == "lamp":
        b.disc("root", (0, 0, 0.03), Z, 0.22, 0.06, base)
        points = [np.array(p) for p in ((0, 0, 0.05), (-0.14, 0, 0.42), (0.12, 0, 0.75))]
        names = b.chain("arm", "root", points)
        b.tube(names, points, [0.03, 0.03, 0.03], DARK + 0.1)
        b.joint("head", names[-1], points[-1])
        b.lathe(
            "head",
            [points[-1] + (0.05 * k + 0.0, 0, 0.02 - 0.05 * k) for k in range(5)],
            [0.06, 0.09, 0.14, 0.18, 0.14],
            second,
        )
        b.ball("head", points[-1] + (0.18, 0, -0.16), 0.08, np.array([0.95, 0.85, 0.45]))
        verbs["nod"] = lambda r: [Wave("head", Y, r.uniform(18, 28), 2, offset=5), Wave("arm1", Y, 5, 2)]
        verbs["look around"] = lambda r: [Wave("arm0", Z, r.uniform(25, 45)), Wave("head", Y, 10, 2)]
        verbs["bow"] = lambda r: [
            Wave("arm0", Y, 20, shape="pulse"),
            Wave("arm1", Y, 35, shape="pulse"),
            Wave("head", Y, 20, shape="pulse"),
        ]
        common = ("jump", "spin", "shake")
    elif noun == "flag":
        b.tube(["root"], [(0.0, 0.5, 0.0), (0.0, 0.5, 1.3)], [0.03, 0.025], DARK + 0.15)
        b.ball("root", (0, 0.5, 1.34), 0.05, np.array([0.9, 0.7, 0.2]))
        points = [np.array([0, y, 0.98]) for y in np.linspace(0.48, -0.6, 7)]
        names = b.chain("cloth", "root", points)
        b.tube(
            names,
            points,
            [0.024] * 7,
            paint(base, second, "stripes", 0) if rng.random() < 0.3 else _bands(base, second),
            flatten=11,
            round_ends=False,
        )
        verbs = {
            "flutter": lambda r: [
                Wave(n, Z, a, c, -0.2 * i)
                for a, c in ((r.uniform(14, 24), int(r.integers(1, 3))),)
                for i, n in enumerate(names)
            ],
            "wave": lambda r: [
                *(Wave(n, Z, 14, 2, -0.17 * i) for i, n in enumerate(names)),
                Wave("root", X, r.uniform(10, 18)),
            ],
        }
        common = ("spin", "jump")
    elif noun == "windmill":
        b.lathe("root", [(0, 0, z) for z in (0, 0.02, 0.4, 0.75, 0.8)], [0.24, 0.28, 0.22, 0.17, 0.1], base)
        b.lathe("root", [(0, 0, z) for z in (0.76, 0.8, 0.98)], [0.2, 0.2, 0.02], second)
        b.box("root", (0.24, 0, 0.14), (0.06, 0.13, 0.26), color(rng, 0.08, 0.6, 0.4), 0.2)
        hub = np.array([0.24, 0, 0.72])
        b.joint("sails", "root", hub)
        b.tube(["sails"], [hub - (0.1, 0, 0), hub + (0.05, 0, 0)], [0.04, 0.04], DARK)
        for k in range(4):
            a = np.pi / 2 * k + 0.4
            out = np.array([0, np.cos(a), np.sin(a)])
            b.leaf(
                ["sails"],
                hub + (0.04, 0, 0),
                hub + (0.04, 0, 0) + out * 0.55,
                0.16,
                0.02,
                WHITE if k else second,
                up=X,
                point=-0.2,
            )
        verbs = {"roll": lambda r: [Wave("sails", X, 360 * sign(r), shape="ramp")]}
        verbs["spin"] = verbs.pop("roll")
        common = ("sway", "bounce", "shake")
    elif noun == "snowman":
        b.joint("spine", "root", (0, 0, 0.42))
        b.joint("head", "spine", (0, 0, 0.78))
        b.ball("root", (0, 0, 0.28), 0.3, WHITE)
        b.ball("spine", (0, 0, 0.62), 0.22, WHITE)
        b.ball("head", (0, 0, 0.92), 0.16, WHITE)
        b.tube(["head"], [(0.13, 0, 0.92), (0.34, 0, 0.9)], [0.035, 0.008], np.array([0.85, 0.25, 0.02]))
        for s in (-1, 1):
            b.ball("head", (0.13, s * 0.06, 0.97), 0.025, DARK)
            joint = b.joint(f"arm{s}", "spine", (0, s * 0.2, 0.65))
            b.tube([joint], [(0, s * 0.18, 0.65), (0.03, s * 0.5, 0.8)], [0.022, 0.014], color(rng, 0.08, 0.6, 0.3))
        b.disc("head", (0, 0, 1.05), Z, 0.18, 0.03, base)
        b.disc("head", (0, 0, 1.13), Z, 0.11, 0.16, base)
        b.disc("spine", (0, 0, 0.79), Z, 0.17, 0.06, second)
        verbs = {
            "wave": lambda r: [Wave("arm1", X, r.uniform(18, 28), 3, offset=18)],
            "nod": lambda r: [Wave("head", Y, 16, 2, offset=4)],
            "look around": lambda r: [Wave("head", Z, r.uniform(35, 55))],
            "dance": lambda r: [
                Wave("spine", X, 14, 2),
                Wave("head", X, 12, 2, 0.5),
                Wave("arm1", X, 25, 2),
                Wave("arm-1", X, 25, 2),
                Wave("root", Z, 30),
            ],
        }
        common = ("jump", "spin", "bounce")
    else:
        b.disc("root", (0, 0, 0.45), X, 0.42, 0.14, base)
        b.disc("root", (0.05, 0, 0.45), X, 0.36, 0.08, WHITE)
        for k in range(12):
            a = 2 * np.pi * k / 12
            b.ball("root", (0.1, 0.3 * np.cos(a), 0.45 + 0.3 * np.sin(a)), (0.015, 0.025, 0.025), DARK)
        for name, reach, thick in (("short", 0.17, 0.028), ("long", 0.26, 0.018)):
            b.joint(name, "root", (0.1, 0, 0.45))
            b.tube(
                [name],
                [(0.115, 0, 0.45), (0.115, 0, 0.45 + reach)],
                [thick, thick * 0.6],
                DARK if name == "short" else second,
            )
        for s in (-1, 1):
            b.ball("root", (0, s * 0.2, 0.05), 0.06, second)
            b.ball("root", (0, s * 0.22, 0.88), (0.08, 0.12, 0.1), second)
        verbs = {"turn": lambda r: [Wave("long", X, -720, shape="ramp"), Wave("short", X, -360, shape="ramp")]}
        common = ("jump", "bounce", "shake", "sway")
    return finish(b, f"toy-{noun}", noun, verbs, common)


def _bands(base: np.ndarray, second: np.ndarray):
    """Three horizontal bands."""

    def at(points: np.ndarray) -> np.ndarray:
        z = points[:, 2:]
        u = (z - z.min()) / (np.ptp(z) + 1e-9)
        return np.where((u > 0.34) & (u < 0.66), second, base)

    return at
