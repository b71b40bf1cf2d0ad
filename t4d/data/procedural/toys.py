"""Plain things that act as if alive."""

import numpy as np

from t4d.data.procedural.body import DARK, WHITE, Body, Rng, coat, color, finish, paint, sign
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z


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
        common = ("jump", "spin", "shake", "fall")
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
        common = ("jump", "spin", "bounce", "idle", "fall")
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
        common = ("jump", "bounce", "shake", "sway", "fall")
    return finish(b, f"toy-{noun}", noun, verbs, common)


def _bands(base: np.ndarray, second: np.ndarray):
    """Three horizontal bands."""

    def at(points: np.ndarray) -> np.ndarray:
        z = points[:, 2:]
        u = (z - z.min()) / (np.ptp(z) + 1e-9)
        return np.where((u > 0.34) & (u < 0.66), second, base)

    return at
