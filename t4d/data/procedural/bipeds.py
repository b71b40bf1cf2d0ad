"""Two-legged figures and the robot of boxes that moves as they do."""

import numpy as np

from t4d.data.procedural.body import DARK, SIDES, WHITE, Body, Rng, color, eyes, finish, paint
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z

BIPEDS = {  # noun: (skin hue, head size, arm length, leg length, torso height, torso width, kind of head)
    "person": (0.07, 0.17, 0.5, 0.6, 0.5, 0.17, "hair"),
    "child": (0.07, 0.2, 0.34, 0.36, 0.36, 0.15, "hair"),
    "astronaut": (0.6, 0.24, 0.42, 0.45, 0.45, 0.22, "helmet"),
    "monkey": (0.07, 0.18, 0.6, 0.36, 0.42, 0.17, "ears"),
    "teddy bear": (0.08, 0.25, 0.3, 0.26, 0.4, 0.24, "ears"),
    "zombie": (0.33, 0.18, 0.5, 0.52, 0.46, 0.16, "hair"),
    "gnome": (0.06, 0.22, 0.3, 0.24, 0.36, 0.22, "hat"),
    "knight": (0.6, 0.19, 0.46, 0.5, 0.46, 0.21, "helmet"),
    "alien": (0.3, 0.28, 0.44, 0.4, 0.34, 0.13, "antennas"),
}


def biped(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A two-legged figure with clothes."""
    noun = noun or str(rng.choice(list(BIPEDS)))
    hue, head, arm, leg, torso, wide, top = BIPEDS[noun]
    head, arm, leg, torso, wide = np.array([head, arm, leg, torso, wide]) * rng.uniform(0.9, 1.12, 5)
    furry = noun in ("monkey", "teddy bear", "alien")
    skin = color(rng, hue, 0.45 if hue == 0.07 else 0.3, rng.uniform(0.5, 0.92))
    shirt, trousers = (skin, skin * 0.85) if furry else (color(rng), color(rng, value=0.45))
    b = Builder(detail)
    b.joint("root", None, (0, 0, leg))
    b.joint("spine", "root", (0, 0, leg + torso * 0.3))
    b.joint("neck", "spine", (0, 0, leg + torso))
    b.joint("head", "neck", (0, 0, leg + torso + 0.05))
    b.tube(
        ["root", "spine"],
        [(0, 0, leg - 0.02), (0, 0, leg + torso * 0.45), (0, 0, leg + torso * 0.9)],
        [wide * 0.85, wide * 0.85, wide * 0.95],
        paint(shirt, WHITE, "stripes" if rng.random() < 0.2 else "plain", 6),
        flatten=0.75,
    )
    c = np.array([0.0, 0.0, leg + torso + head * 1.05])
    b.tube(["neck"], [(0, 0, leg + torso * 0.85), c], [wide * 0.35, wide * 0.35], skin)
    b.ball("head", c, (head * 0.95, head * 0.9, head), WHITE * 0.8 if top == "helmet" else skin)
    face = c + head * np.array([0.5, 0, 0])
    if top == "helmet":
        b.ball("head", face, (head * 0.55, head * 0.68, head * 0.55), color(rng, 0.6, 0.7, 0.3))
    else:
        eyes(b, "head", c + head * np.array([0.84, 0, 0.15]), 0.34 * head, 0.13 * head)
        b.ball("head", c + head * np.array([0.96, 0, -0.12]), 0.13 * head, skin * 0.8)
    if top == "hair":
        b.ball(
            "head",
            c + head * np.array([-0.2, 0, 0.25]),
            (head * 0.95, head * 0.98, head * 0.9),
            color(rng, 0.07, 0.6, rng.uniform(0.1, 0.7)),
        )
    elif top == "ears":
        for side in (-1, 1):
            b.ball("head", c + head * np.array([0, 0.85 * side, 0.55]), head * 0.36, skin * 0.8)
    elif top == "hat":
        b.lathe(
            "head",
            [c + head * np.array([0, 0, z]) for z in (0.35, 0.45, 1.2, 2.2)],
            [head * 1.1, head * 0.95, head * 0.5, 0.02],
            color(rng),
        )
    elif top == "antennas":
        for side in (-1, 1):
            tip = c + head * np.array([0, 0.5 * side, 1.6])
            b.tube(["head"], [c + head * np.array([0, 0.3 * side, 0.8]), tip], [0.02, 0.02], skin)
            b.ball("head", tip, 0.05, color(rng))
    for side, s in (("l", 1), ("r", -1)):
        shoulder = np.array([0, s * (wide + 0.03), leg + torso * 0.85])
        down = np.array([0.0, s * rng.uniform(0.1, 0.5), -1.0])
        down /= np.linalg.norm(down)
        elbow, hand = shoulder + down * arm * 0.5, shoulder + down * arm
        up = b.joint(f"arm_{side}", "spine", shoulder)
        low = b.joint(f"arm_{side}_low", up, elbow)
        b.tube([up, low], [shoulder, elbow, hand], [0.075, 0.06, 0.055], shirt)
        b.ball(low, hand, 0.075, skin)
        hip = np.array([0, s * wide * 0.55, leg])
        knee, foot = hip * (1, 1, 0.52), hip * (1, 1, 0.08)
        up = b.joint(f"leg_{side}", "root", hip)
        low = b.joint(f"leg_{side}_low", up, knee)
        b.tube([up, low], [hip, knee, foot], [0.1, 0.08, 0.07], trousers)
        b.ball(low, foot + (0.05, 0, -0.01), (0.13, 0.075, 0.06), color(rng, value=0.3))
    return finish(b, f"biped-{noun}", noun, biped_verbs(), ("jump", "spin", "breathe", "fall"))


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
    return finish(b, "robot", noun or "robot", biped_verbs(), ("jump", "spin", "shake", "fall"))


def biped_verbs() -> dict:
    """Verbs of two-legged figures: arms "arm_l/r(_low)", legs "leg_l/r(_low)", "spine", "neck", "head"."""

    def stride(r: Rng, swing: float, elbow: float, cycles: int, lift: float) -> list[Wave]:
        waves = [Wave("root", Z, lift, 2 * cycles, kind="shift"), Wave("spine", Z, swing * 0.2, cycles)]
        for side, phase in (("l", 0.0), ("r", 0.5)):
            waves += [
                Wave(f"leg_{side}", Y, swing, cycles, phase),
                Wave(f"leg_{side}_low", Y, swing * 0.6, cycles, phase + 0.27, offset=swing * 0.6),
                Wave(f"arm_{side}", Y, swing * 0.9, cycles, phase + 0.5),
                Wave(f"arm_{side}_low", Y, swing * 0.15, cycles, phase + 0.5, offset=-elbow),
            ]
        return waves

    def raised(side: str, r: Rng) -> list[Wave]:
        s = 1 if side == "l" else -1
        return [
            Wave(f"arm_{side}", X, 8, 3, offset=s * r.uniform(115, 140)),
            Wave(f"arm_{side}_low", X, r.uniform(22, 36), 3, 0.1),
        ]

    def dance(r: Rng) -> list[Wave]:
        a = r.uniform(0.7, 1.2)
        return [
            Wave("root", Z, 0.05, 4, shape="hop", kind="shift"),
            Wave("root", Z, 22 * a, 1),
            Wave("spine", X, 12 * a, 2),
            Wave("head", X, 12 * a, 2, 0.5),
            Wave("arm_l", X, 35 * a, 2, offset=70),
            Wave("arm_r", X, 35 * a, 2, offset=-70),
            Wave("arm_l_low", Y, 30, 2, 0.25, offset=-40),
            Wave("arm_r_low", Y, 30, 2, 0.75, offset=-40),
            Wave("leg_l", Y, 25 * a, 2, offset=-12),
            Wave("leg_r", Y, 25 * a, 2, 0.5, offset=-12),
            Wave("leg_l_low", Y, 25 * a, 2, 0.5, offset=25),
            Wave("leg_r_low", Y, 25 * a, 2, offset=25),
        ]

    def squat(r: Rng) -> list[Wave]:
        a = r.uniform(55, 75)
        down = [
            Wave("root", Z, -0.2, shape="pulse", kind="shift", cycles=2),
            Wave("spine", Y, a * 0.3, 2, shape="pulse"),
        ]
        for s in "lr":
            down += [
                Wave(f"leg_{s}", Y, -a, 2, shape="pulse"),
                Wave(f"leg_{s}_low", Y, 1.7 * a, 2, shape="pulse"),
                Wave(f"arm_{s}", Y, -a, 2, shape="pulse"),
            ]
        return down

    def attack(r: Rng) -> list[Wave]:
        side = "l" if r.random() < 0.5 else "r"
        s = -1 if side == "l" else 1
        return [
            Wave(f"arm_{side}", Y, -r.uniform(75, 95), 2, shape="pulse"),
            Wave(f"arm_{side}_low", Y, 45, 2, 0.3, offset=-50),
            Wave("spine", Z, s * r.uniform(20, 35), 2, shape="pulse"),
            Wave("root", X, 0.08, 2, shape="pulse", kind="shift"),
        ]

    def crawl(r: Rng) -> list[Wave]:
        lean, step = r.uniform(74, 84), r.uniform(16, 24)
        waves = [Wave("root", Y, 0, offset=lean), Wave("head", Y, 4, 2, offset=-45), Wave("spine", X, 4, 1)]
        for side, phase in (("l", 0.0), ("r", 0.5)):
            waves += [
                Wave(f"leg_{side}", Y, step, 1, phase, offset=-lean),
                Wave(f"leg_{side}_low", Y, step * 0.4, 1, phase + 0.25, offset=86),
                Wave(f"arm_{side}", Y, step, 1, phase + 0.5, offset=-lean),
                Wave(f"arm_{side}_low", Y, step * 0.5, 1, phase + 0.75, offset=-step * 0.5),
            ]
        return waves

    return {
        "crawl": crawl,
        "idle": lambda r: [
            Wave("spine", Y, r.uniform(1, 2)),
            Wave("head", Z, r.uniform(4, 8), phase=r.random()),
            Wave("arm_l", X, r.uniform(2, 4), offset=3),
            Wave("arm_r", X, -r.uniform(2, 4), offset=-3),
        ],
        "walk": lambda r: stride(r, r.uniform(22, 32), r.uniform(5, 20), 1, 0.015),
        "run": lambda r: [*stride(r, r.uniform(42, 56), r.uniform(60, 85), 2, 0.05), Wave("spine", Y, 2, 2, offset=12)],
        "wave": lambda r: raised("l" if r.random() < 0.5 else "r", r),
        "cheer": lambda r: [*raised("l", r), *raised("r", r), Wave("root", Z, 0.1, 2, shape="hop", kind="shift")],
        "dance": dance,
        "squat": squat,
        "attack": attack,
        "nod": lambda r: [Wave("head", Y, r.uniform(14, 24), 2, offset=5)],
        "look around": lambda r: [Wave("head", Z, r.uniform(35, 55)), Wave("spine", Z, r.uniform(5, 15))],
        "bow": lambda r: [Wave("spine", Y, r.uniform(45, 70), shape="pulse"), Wave("head", Y, 15, shape="pulse")],
        "kick": lambda r: [
            Wave(f"leg_{'l' if r.random() < 0.5 else 'r'}", Y, -r.uniform(55, 80), shape="pulse"),
            Wave("spine", Y, -12, shape="pulse"),
            Wave("arm_l", X, 35, shape="pulse"),
            Wave("arm_r", X, -35, shape="pulse"),
        ],
    }
