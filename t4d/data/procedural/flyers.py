"""Winged bodies: birds that fly or walk, butterflies and bees, dragons."""

import numpy as np

from t4d.data.procedural.body import DARK, SIDES, WHITE, Body, Rng, coat, color, eyes, finish, paint
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.quadrupeds import quadruped_verbs
from t4d.data.procedural.skeleton import Wave, X, Y, Z


def flap(amount: float, cycles: int, offset: float, fold: float = 0.5) -> list[Wave]:
    """Wing strokes of joints wing_l/r (inner) and wing_l/r_tip (outer, lagging)."""
    waves = []
    for side, s in SIDES:
        waves.append(Wave(f"wing_{side}", X, s * amount, cycles, offset=s * offset))
        waves.append(Wave(f"wing_{side}_tip", X, s * amount * fold, cycles, -0.15))
    return waves


BIRDS = {  # noun: (hue, body, neck, leg, beak, tail, wing span, head)
    "bird": (None, 0.24, 0.06, 0.12, 0.1, 0.26, 0.7, 0.13),
    "duck": (0.12, 0.26, 0.16, 0.1, 0.14, 0.14, 0.5, 0.13),
    "eagle": (0.07, 0.26, 0.08, 0.12, 0.13, 0.28, 1.0, 0.13),
    "chicken": (0.06, 0.26, 0.12, 0.18, 0.08, 0.2, 0.42, 0.12),
    "flamingo": (0.95, 0.22, 0.42, 0.5, 0.12, 0.12, 0.55, 0.09),
    "penguin": (0.6, 0.3, 0.02, 0.05, 0.1, 0.1, 0.36, 0.16),
    "parrot": (0.35, 0.22, 0.05, 0.1, 0.1, 0.36, 0.6, 0.14),
    "owl": (0.08, 0.26, 0.0, 0.08, 0.06, 0.14, 0.6, 0.19),
}


def bird(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A bird with spread wings; penguins and owls stand upright."""
    noun = noun or str(rng.choice(list(BIRDS)))
    hue, body, neck, leg, beak, tail, span, head = BIRDS[noun]
    body, neck, leg, beak, tail, span, head = np.array([body, neck, leg, beak, tail, span, head]) * rng.uniform(
        0.88, 1.15, 7
    )
    base = color(rng, hue, 0.25 if noun in ("penguin",) else 0.7, 0.25 if noun == "penguin" else None)
    skin = paint(base, WHITE, "belly") if noun in ("penguin", "duck") else coat(rng, base)
    upright = noun in ("penguin", "owl")
    wing = color(rng) if noun == "parrot" else base * rng.uniform(0.5, 0.9)
    orange = color(rng, 0.1, 0.9, 0.9)
    b = Builder(detail)
    h = leg + body * (1.1 if upright else 0.75)
    b.joint("root", None, (0, 0, h))
    if upright:
        b.ball("root", (0, 0, h), (body * 0.72, body * 0.75, body * 1.15), skin)
        b.ball("root", (body * 0.22, 0, h - body * 0.1), (body * 0.56, body * 0.6, body * 0.9), WHITE * 0.85)
        n0 = np.array([0.02, 0, h + body * 0.85])
    else:
        b.ball("root", (0, 0, h), (body * 1.25, body * 0.75, body * 0.75), skin, forward=(1, 0, 0.25), up=(-0.25, 0, 1))
        n0 = np.array([body * 0.85, 0, h + body * 0.4])
    n1 = n0 + neck * np.array([0.35, 0, 1.0])
    b.joint("neck", "root", n0)
    b.joint("head", "neck", n1)
    if neck > 0.05:
        b.tube(["neck", "neck"], [n0 - (0.06, 0, 0.08), (n0 + n1) / 2, n1], [body * 0.42, head * 0.6, head * 0.6], base)
    c = n1 + np.array([0.2 * head, 0, 0.5 * head])
    b.ball("head", c, head, skin if noun != "eagle" else WHITE)
    b.tube(
        ["head"],
        [c + (0.7 * head, 0, -0.1 * head), c + (head + beak, 0, -0.2 * head)],
        [head * 0.36, head * 0.1],
        orange,
    )
    eyes(b, "head", c + head * np.array([0.68, 0, 0.35]), 0.5 * head, 0.18 * head)
    if noun == "chicken":
        for x in (-0.2, 0.15, 0.5):
            b.ball(
                "head",
                c + head * np.array([x, 0, 0.95]),
                (0.25 * head, 0.12 * head, 0.35 * head),
                np.array([0.75, 0.02, 0.02]),
            )
    t0 = np.array([-body * (0.5 if upright else 1.0), 0, h - (body * 0.8 if upright else -0.05)])
    b.joint("tail", "root", t0)
    b.leaf(
        ["tail"],
        t0 + (0.06, 0, 0),
        t0 + tail * np.array([-1, 0, -0.1 if not upright else -0.2]),
        body * 0.8,
        0.05,
        wing,
        point=-0.3,
    )
    for side, s in SIDES:
        root = np.array([0.0 if upright else body * 0.2, s * body * 0.55, h + body * (0.5 if upright else 0.35)])
        reach = np.array([-0.25, s * 1.0, 0.0]) if not upright else np.array([-0.1, s * 0.55, -0.75])
        tip = root + span * reach / np.linalg.norm(reach)
        b.joint(f"wing_{side}", "root", root)
        b.joint(f"wing_{side}_tip", f"wing_{side}", root + 0.5 * (tip - root))
        up = (0, 0, 1) if not upright else (0, s, 0.3)
        b.leaf(
            [f"wing_{side}", f"wing_{side}_tip"],
            root - 0.1 * (tip - root),
            tip,
            body * 1.05,
            0.05,
            paint(wing, base * 0.5, "tip"),
            up=up,
            point=0.35,
        )
        hip = np.array([0.0, s * body * 0.35, h - body * (0.9 if upright else 0.5)])
        foot = np.array([0.02, s * body * 0.35, 0.02])
        b.joint(f"leg_{side}", "root", hip)
        b.tube([f"leg_{side}"], [hip, foot], [0.028, 0.02], orange)
        b.ball(f"leg_{side}", foot + (0.05, 0, 0), (0.1, 0.06, 0.022), orange)

    def strut(r: Rng, swing: float, cycles: int) -> list[Wave]:
        return [
            *(Wave(f"leg_{side}", Y, swing, cycles, 0.0 if s > 0 else 0.5) for side, s in SIDES),
            Wave("root", X, 7 if upright else 3, cycles),
            Wave("neck", Y, r.uniform(8, 14), 2 * cycles),
            Wave("head", Y, -8, 2 * cycles),
        ]

    tuck = [Wave(f"leg_{side}", Y, 0, offset=50) for side, _ in SIDES]
    lift = -35 if upright else 8
    verbs = {
        "fly": lambda r: [
            *flap(r.uniform(35, 50), 2, lift if upright else 6),
            *tuck,
            Wave("root", Z, r.uniform(0.04, 0.09), 2, 0.4, kind="shift"),
        ],
        "walk": lambda r: strut(r, r.uniform(22, 32), 1),
        "run": lambda r: [*strut(r, r.uniform(35, 48), 2), *flap(10, 2, 15)],
        "hover": lambda r: [*flap(r.uniform(40, 55), 3, 5), Wave("root", Z, 0.05, kind="shift")],
        "eat": lambda r: [
            Wave("root", Y, 35, 2, shape="pulse"),
            Wave("neck", Y, 30, 2, shape="pulse"),
            Wave("head", Y, 8, 4),
        ],
        "nod": lambda r: [Wave("neck", Y, r.uniform(10, 16), 2), Wave("head", Y, 14, 2, -0.1)],
        "look around": lambda r: [Wave("head", Z, r.uniform(40, 65)), Wave("neck", Z, 8)],
        "wave": lambda r: [Wave("wing_l", X, 22, 3, offset=35), Wave("wing_l_tip", X, 15, 3, -0.1)],
        "wag": lambda r: [Wave("tail", Z, r.uniform(18, 28), 3), Wave("root", Z, 5, 3, 0.5)],
    }
    return finish(b, f"bird-{noun}", noun, verbs, ("jump", "spin", "breathe", "idle", "fall"))


def insect(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A butterfly, bee or dragonfly in the air."""
    noun = noun or str(rng.choice(["butterfly", "bee", "dragonfly"]))
    b = Builder(detail)
    base = color(rng, 0.13 if noun == "bee" else None, 0.9 if noun == "bee" else None)
    length, fat = {"butterfly": (0.55, 0.055), "bee": (0.55, 0.19), "dragonfly": (0.9, 0.055)}[noun]
    fat *= rng.uniform(0.85, 1.2)
    b.joint("root", None, (0, 0, 0))
    b.joint("tail", "root", (-0.05, 0, 0))
    b.joint("head", "root", (length * 0.38, 0, 0))
    skin = paint(base, DARK, "stripes", 3.4) if noun == "bee" else base * 0.6
    xs = np.array([0.4, 0.15, -0.1, -0.35, -0.55]) * length
    b.tube(
        ["root", "root", "tail", "tail"],
        [(x, 0, 0) for x in xs],
        list(fat * np.array([0.8, 1.0, 1.0, 0.9, 0.35])),
        skin,
    )
    c = np.array([length * 0.5, 0, fat * 0.25])
    b.ball("head", c, fat * 0.9 + 0.02, base * 0.7)
    eyes(b, "head", c + np.array([fat * 0.6, 0, fat * 0.3]), fat * 0.6, fat * 0.35 + 0.01)
    for s in (-1, 1):
        b.tube(["head"], [c + (0, s * 0.03, fat * 0.7), c + (0.14, s * 0.1, fat + 0.14)], [0.012, 0.008], DARK)
    bright, edge = color(rng, None, 0.85, 0.9), color(rng, value=0.4)
    pale = np.array([0.65, 0.75, 0.85])
    for side, s in SIDES:
        b.joint(f"wing_{side}", "root", (0.06, s * fat * 0.6, fat * 0.6))
        b.joint(f"wing_{side}_tip", f"wing_{side}", (0.06, s * 0.32, fat * 0.6))
        root = np.array([0.05, s * fat * 0.4, fat * 0.6])
        pairs = {
            "butterfly": [((0.3, 0.68, 0.06), 0.46), ((-0.36, 0.5, 0.04), 0.42)],
            "bee": [((0.1, 0.5, 0.12), 0.24), ((-0.16, 0.4, 0.1), 0.18)],
            "dragonfly": [((0.18, 0.75, 0.03), 0.15), ((-0.1, 0.72, 0.03), 0.15)],
        }[noun]
        for reach, width in pairs:
            tip = root + np.array(reach) * (1, s, 1) * rng.uniform(0.95, 1.05)
            look = paint(bright, edge, "tip") if noun == "butterfly" else pale
            b.leaf([f"wing_{side}", f"wing_{side}_tip"], root, tip, width, 0.025, look, point=-0.35)
            if noun == "butterfly":
                spot = root + 0.62 * (tip - root)
                b.ball(f"wing_{side}_tip", spot, (0.07, 0.07, 0.022), edge)

    verbs = {
        "fly": lambda r: [
            *flap(r.uniform(38, 55), 2, 12, 0.3),
            Wave("root", Z, 0.07, 2, 0.4, kind="shift"),
            Wave("tail", Y, 8, 2),
        ],
        "hover": lambda r: [*flap(r.uniform(30, 45), 3, 10, 0.3), Wave("root", Z, r.uniform(0.06, 0.12), kind="shift")],
        "attack": lambda r: [
            *flap(40, 3, 10),
            Wave("root", X, 0.25, 1, shape="pulse", kind="shift"),
            Wave("tail", Y, -40, shape="pulse"),
        ],
        "open": lambda r: [Wave(f"wing_{side}", X, s * r.uniform(55, 75), shape="pulse") for side, s in SIDES],
        "dance": lambda r: [*flap(35, 2, 10), Wave("root", X, 25, 1), Wave("root", Z, 30, 1, 0.25)],
        "nod": lambda r: [Wave("head", Y, 20, 2, offset=5), *flap(8, 1, 0)],
    }
    return finish(b, f"insect-{noun}", noun, verbs, ("spin", "shake"))


def dragon(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A winged reptile on four legs."""
    base = color(rng, rng.choice([0.33, 0.0, 0.6, 0.75, 0.09]))
    skin = paint(base, color(rng, 0.13, 0.5, 0.9), "belly")
    b = Builder(detail)
    h = 0.42
    b.joint("root", None, (0, 0, h))
    b.tube(["root", "root"], [(-0.3, 0, h), (0, 0, h + 0.02), (0.28, 0, h + 0.05)], [0.17, 0.2, 0.16], skin)
    neck = [np.array(p) for p in ((0.28, 0, h + 0.1), (0.42, 0, h + 0.27), (0.5, 0, h + 0.45), (0.55, 0, h + 0.55))]
    names = b.chain("neck", "root", neck)
    b.tube(names, neck, [0.13, 0.1, 0.085, 0.09], skin)
    b.joint("head", names[-1], neck[-1])
    c = neck[-1] + (0.06, 0, 0.03)
    b.ball("head", c, (0.15, 0.12, 0.11), base)
    b.tube(["head"], [c, c + (0.2, 0, -0.04)], [0.085, 0.06], base)
    eyes(b, "head", c + np.array([0.08, 0, 0.07]), 0.075, 0.028)
    for s in (-1, 1):
        b.tube(["head"], [c + (-0.05, s * 0.06, 0.08), c + (-0.2, s * 0.09, 0.2)], [0.03, 0.008], WHITE * 0.8)
    tail = [np.array(p) for p in ((-0.3, 0, h), (-0.52, 0, h - 0.06), (-0.74, 0, h - 0.1), (-0.95, 0, h - 0.04))]
    tails = b.chain("tail", "root", tail)
    b.tube(tails, tail, [0.14, 0.1, 0.06, 0.02], skin)
    for end, x in (("f", 0.22), ("b", -0.25)):
        for side, s in SIDES:
            hip, knee, foot = (
                (x, s * 0.14, h - 0.02),
                (x + (0.05 if end == "b" else -0.03), s * 0.17, 0.22),
                (x, s * 0.17, 0.03),
            )
            up = b.joint(f"{end}{side}", "root", hip)
            low = b.joint(f"{end}{side}_low", up, knee)
            b.tube([up, low], [hip, knee, foot], [0.085, 0.06, 0.05], base)
            b.ball(low, (x + 0.05, s * 0.17, 0.03), (0.09, 0.06, 0.03), base * 0.6)
    membrane = color(rng)
    for side, s in SIDES:
        root, tip = np.array([0.08, s * 0.12, h + 0.18]), np.array([-0.18, s * 0.85, h + 0.42])
        b.joint(f"wing_{side}", "root", root)
        b.joint(f"wing_{side}_tip", f"wing_{side}", (root + tip) / 2)
        b.leaf(
            [f"wing_{side}", f"wing_{side}_tip"],
            root - 0.05 * (tip - root),
            tip,
            0.48,
            0.03,
            membrane,
            up=(0, -s * 0.3, 1),
            point=0.2,
        )
        b.tube(
            [f"wing_{side}", f"wing_{side}_tip"],
            [root, (root + tip) / 2 + (0.12, 0, 0.03), tip],
            [0.035, 0.028, 0.015],
            base,
        )
    walk = quadruped_verbs()["walk"]
    verbs = {
        "fly": lambda r: [
            *flap(r.uniform(35, 48), 2, 0),
            Wave("root", Z, 0.08, 2, 0.4, kind="shift"),
            *(Wave(f"{e}{side}", Y, 6, 2, offset=30) for e in "fb" for side, _ in SIDES),
            *(Wave(n, Y, 6, 2, -0.1 * i) for i, n in enumerate(tails)),
        ],
        "walk": lambda r: [w for w in walk(r) if w.joint != "neck"] + [Wave("neck0", Y, 5, 2)],
        "attack": lambda r: [
            *(Wave(n, Y, 22, 2, -0.06 * i, shape="pulse") for i, n in enumerate(names)),
            *flap(12, 2, 10),
        ],
        "look around": lambda r: [
            Wave(n, Z, r.uniform(12, 20), phase=-0.05 * i) for i, n in enumerate([*names, "head"])
        ],
        "wag": lambda r: [Wave(n, Z, r.uniform(15, 24), 2, -0.12 * i) for i, n in enumerate(tails)],
        "open": lambda r: flap(r.uniform(40, 60), 1, 0),
    }
    return finish(b, "dragon", noun or "dragon", verbs, ("jump", "spin", "breathe", "idle", "fall"))
