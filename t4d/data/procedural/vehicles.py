"""Things on wheels and in the air."""

import numpy as np

from t4d.data.procedural.body import DARK, SIDES, WHITE, Body, Rng, color, finish, paint, sign
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z

GLASS = np.array([0.25, 0.45, 0.6])


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
    return finish(b, f"vehicle-{noun}", noun, verbs, ("jump", "spin", "fall"))


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
