"""Four-legged, two-legged and many-legged bodies."""

import numpy as np

from t4d.data.procedural.body import Body, Rng, coat, color, finish, paint, sign
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z

DARK = np.array([0.02, 0.02, 0.025])
WHITE = np.array([0.9, 0.9, 0.9])


def eyes(b: Builder, joint: str, center: np.ndarray, spread: float, size: float) -> None:
    """Two dark eyes with a white glint, looking forward from `center`."""
    for side in (-1, 1):
        at = center + np.array([0, side * spread, 0])
        b.ball(joint, at, size, DARK)
        b.ball(joint, at + size * np.array([0.55, 0.2 * side, 0.55]), 0.4 * size, WHITE)


QUADRUPEDS = {  # noun: (hue or None, body length, leg length, neck length, neck lift, head size, ear, tail length, bulk)
    "dog": (0.08, 0.62, 0.36, 0.16, 0.6, 0.16, "flop", 0.3, 0.17),
    "cat": (0.07, 0.55, 0.3, 0.08, 0.5, 0.16, "point", 0.5, 0.14),
    "fox": (0.06, 0.58, 0.3, 0.1, 0.5, 0.15, "point", 0.5, 0.14),
    "horse": (0.07, 0.7, 0.55, 0.36, 0.9, 0.14, "point", 0.4, 0.18),
    "cow": (0.06, 0.75, 0.38, 0.14, 0.4, 0.18, "flop", 0.36, 0.23),
    "giraffe": (0.11, 0.55, 0.6, 0.75, 1.3, 0.13, "point", 0.3, 0.16),
    "elephant": (0.6, 0.7, 0.4, 0.1, 0.3, 0.22, "fan", 0.3, 0.28),
    "sheep": (0.12, 0.55, 0.28, 0.1, 0.5, 0.14, "flop", 0.1, 0.23),
    "bear": (0.07, 0.65, 0.3, 0.1, 0.3, 0.19, "round", 0.08, 0.25),
    "mouse": (0.08, 0.42, 0.14, 0.04, 0.3, 0.15, "round", 0.5, 0.15),
    "tiger": (0.08, 0.7, 0.34, 0.12, 0.4, 0.18, "round", 0.5, 0.18),
    "deer": (0.07, 0.58, 0.5, 0.3, 1.0, 0.12, "point", 0.1, 0.15),
    "lizard": (0.3, 0.6, 0.16, 0.1, 0.1, 0.13, "none", 0.7, 0.12),
    "dinosaur": (0.35, 0.7, 0.42, 0.5, 0.8, 0.14, "none", 0.8, 0.24),
}


def quadruped(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A four-legged animal; proportions jittered about those of its noun."""
    noun = noun or str(rng.choice(list(QUADRUPEDS)))
    hue, length, leg, neck, lift, head, ear, tail, bulk = QUADRUPEDS[noun]
    jitter = rng.uniform(0.88, 1.14, 6)
    length, leg, neck, head, tail, bulk = np.array([length, leg, neck, head, tail, bulk]) * jitter
    saturation = {"elephant": 0.1, "sheep": 0.12, "mouse": 0.2}.get(noun, 0.65)
    base = color(rng, hue if rng.random() < 0.7 else None, saturation, 0.88 if noun == "sheep" else None)
    skin = coat(rng, base) if noun != "tiger" else paint(base, DARK, "stripes", rng.uniform(4, 6))
    limb = base * rng.uniform(0.4, 1.0)
    b = Builder(detail)
    h = leg + bulk * 0.5
    b.joint("root", None, (0, 0, h))
    b.joint("hips", "root", (-0.1 * length, 0, h))
    b.joint("chest", "root", (0.1 * length, 0, h))
    b.tube(
        ["hips", "chest"],
        [(-length / 2, 0, h), (0, 0, h + 0.03), (length / 2, 0, h + 0.02)],
        [bulk * 0.92, bulk, bulk * 0.95],
        skin,
    )
    n0 = np.array([length / 2 - 0.02, 0, h + bulk * 0.35])
    n1 = n0 + neck * np.array([np.cos(lift), 0, np.sin(lift)])
    b.joint("neck", "chest", n0)
    b.joint("head", "neck", n1)
    b.tube(["neck", "neck"], [n0 - 0.06, (n0 + n1) / 2, n1], [bulk * 0.62, bulk * 0.5, head * 0.75], skin)
    c = n1 + np.array([0.35 * head, 0, 0.15 * head])
    b.ball("head", c, (head * 1.05, head * 0.9, head * 0.9), skin)
    if noun == "elephant":
        trunk = [c + head * np.array(p) for p in ((0.7, 0, -0.2), (1.3, 0, -0.8), (1.4, 0, -1.7), (1.7, 0, -2.3))]
        b.tube(b.chain("trunk", "head", trunk), trunk, [head * 0.4, head * 0.3, head * 0.24, head * 0.2], base)
    else:
        snout = rng.uniform(0.75, 1.15)
        b.tube(
            ["head"], [c, c + head * np.array([snout, 0, -0.25])], [head * 0.6, head * 0.42], color(rng, hue, 0.3, 0.85)
        )
        b.ball("head", c + head * np.array([snout + 0.42, 0, -0.18]), head * 0.16, DARK)
    eyes(b, "head", c + head * np.array([0.72, 0, 0.38]), 0.42 * head, 0.17 * head)
    ears(b, c, head, ear, base)
    t0 = np.array([-length / 2 - bulk * 0.5, 0, h + bulk * 0.45])
    droop = rng.uniform(-0.6, 0.5)
    points = [t0 + tail * s * np.array([-np.cos(droop * s), 0, np.sin(droop * s)]) for s in (0, 0.33, 0.66, 1)]
    fat = bulk * (0.6 if noun in ("lizard", "dinosaur") else (0.45 if noun == "fox" else 0.22))
    b.tube(
        b.chain("tail", "hips", points),
        points,
        [fat, fat * 0.85, fat * (0.9 if noun == "fox" else 0.6), fat * 0.25],
        paint(base, WHITE, "tip"),
    )
    thick = bulk * rng.uniform(0.3, 0.4) * (1.5 if noun in ("elephant", "bear") else 1)
    for end, x in (("f", length * 0.42), ("b", -length * 0.42)):
        for side, y in (("l", bulk * 0.62), ("r", -bulk * 0.62)):
            hip, knee, foot = (x, y, h - 0.1 * bulk), (x + (0.02 if end == "f" else -0.04), y, leg * 0.5), (x, y, 0.03)
            up = b.joint(f"{end}{side}", "chest" if end == "f" else "hips", hip)
            low = b.joint(f"{end}{side}_low", up, knee)
            b.tube([up, low], [hip, knee, foot], [thick * 1.35, thick, thick * 0.85], limb)
            b.ball(low, (x + thick * 0.4, y, thick * 0.5), (thick * 1.3, thick, thick * 0.6), limb * 0.6)
    return finish(b, f"quadruped-{noun}", noun, quadruped_verbs(), ("jump", "spin", "shake", "breathe"))


def ears(b: Builder, c: np.ndarray, head: float, kind: str, base: np.ndarray) -> None:
    """A pair of ears on joints "ear1" (left) and "ear-1"."""
    for side in (-1, 1):
        root = c + head * np.array([-0.05, side * 0.5, 0.7])
        joint = b.joint(f"ear{side}", "head", root)
        reach = {
            "point": (0, 0.25, 0.95),
            "flop": (-0.1, 0.75, -0.45),
            "fan": (-0.3, 1.5, -0.2),
            "round": (0, 0.15, 0.35),
        }
        if kind == "none":
            continue
        tip = root + head * np.array(reach[kind]) * np.array([1, side, 1])
        width = head * {"point": 0.55, "flop": 0.5, "fan": 1.5, "round": 0.6}[kind]
        b.leaf(
            [joint],
            root - 0.3 * (tip - root),
            tip,
            width,
            head * 0.2,
            base * 0.8,
            up=(1, 0, 0),
            point=0.7 if kind == "point" else 0.2,
        )


def gait(r: Rng, swing: float, cycles: int, offsets: dict[str, float]) -> list[Wave]:
    """Leg swings with knees that fold while a leg comes forward."""
    waves = []
    for leg, phase in offsets.items():
        waves.append(Wave(leg, Y, swing, cycles, phase))
        waves.append(Wave(f"{leg}_low", Y, swing * 0.55, cycles, phase + 0.27, offset=swing * 0.45))
    return waves


def quadruped_verbs() -> dict:
    """Verbs of four-legged bodies."""
    wag = lambda r: [Wave(f"tail{i}", Z, r.uniform(8, 16), 2, -0.08 * i) for i in range(3)]  # noqa: E731

    def walk(r: Rng) -> list[Wave]:
        step = gait(r, r.uniform(20, 30), 1, {"fl": 0.0, "br": 0.1, "fr": 0.5, "bl": 0.6})
        return [*step, *wag(r), Wave("neck", Y, r.uniform(3, 7), 2), Wave("root", Z, 0.015, 2, kind="shift")]

    def run(r: Rng) -> list[Wave]:
        cycles = 2
        step = gait(r, r.uniform(35, 48), cycles, {"fl": 0.0, "fr": 0.1, "bl": 0.5, "br": 0.6})
        back = r.uniform(8, 14)
        return [
            *step,
            Wave("hips", Y, back, cycles, 0.5),
            Wave("chest", Y, back, cycles),
            Wave("root", Z, r.uniform(0.06, 0.12), cycles, kind="shift", phase=0.2),
            Wave("neck", Y, back, cycles, 0.55),
            Wave("tail0", Y, 15, cycles, 0.3, offset=-15),
        ]

    def sit(r: Rng) -> list[Wave]:
        a = r.uniform(28, 40)
        return [
            Wave("root", Y, -a, shape="pulse"),
            Wave("root", Z, -0.12, shape="pulse", kind="shift"),
            *(Wave(f"b{s}", Y, a * 0.2 - 60, shape="pulse") for s in "lr"),
            *(Wave(f"b{s}_low", Y, 75, shape="pulse") for s in "lr"),
            *(Wave(f"f{s}", Y, a, shape="pulse") for s in "lr"),
            Wave("neck", Y, a, shape="pulse"),
        ]

    return {
        "walk": walk,
        "run": run,
        "sit": sit,
        "wag": lambda r: [Wave(f"tail{i}", Z, r.uniform(22, 34), int(r.integers(2, 4)), -0.1 * i) for i in range(3)],
        "nod": lambda r: [Wave("neck", Y, r.uniform(12, 22), 2, offset=6), Wave("head", Y, r.uniform(12, 20), 2, -0.1)],
        "look around": lambda r: [Wave("neck", Z, r.uniform(20, 32)), Wave("head", Z, r.uniform(20, 35), phase=-0.05)],
        "eat": lambda r: [
            Wave("neck", Y, r.uniform(45, 60), shape="pulse"),
            Wave("head", Y, r.uniform(10, 25), shape="pulse"),
            Wave("head", Y, 8, 4),
            *(Wave(f"f{s}", Y, 10, shape="pulse") for s in "lr"),
        ],
        "rear": lambda r: [
            Wave("root", Y, -r.uniform(35, 50), shape="pulse"),
            Wave("root", Z, 0.2, shape="pulse", kind="shift"),
            *(Wave(f"b{s}", Y, 40, shape="pulse") for s in "lr"),
            *(Wave(f"f{s}", Y, -25, shape="pulse") for s in "lr"),
            *(Wave(f"f{s}_low", Y, 25, 2, offset=25, phase=0.25) for s in "lr"),
        ],
        "attack": lambda r: [
            Wave("root", X, r.uniform(0.1, 0.2), 2, shape="pulse", kind="shift"),
            Wave("neck", Y, -r.uniform(20, 35), 2, -0.25, offset=10),
            Wave("head", Y, r.uniform(15, 30), 2, -0.1),
            *(Wave(f"f{s}", Y, -20, 2, shape="pulse") for s in "lr"),
        ],
    }


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
    return finish(b, f"biped-{noun}", noun, biped_verbs(), ("jump", "spin", "breathe"))


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

    return {
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


def crawler(rng: Rng, noun: str | None = None, detail: float = 1.0) -> Body:
    """A spider, ant, beetle or crab: a low body on three or four pairs of legs."""
    noun = noun or str(rng.choice(["spider", "ant", "beetle", "crab"]))
    pairs = {"spider": 4, "ant": 3, "beetle": 3, "crab": 4}[noun]
    base = color(rng, {"crab": 0.02, "ant": 0.03}.get(noun))
    skin, limb = coat(rng, base), base * rng.uniform(0.35, 0.9)
    h, body = rng.uniform(0.22, 0.34), rng.uniform(0.2, 0.28) * (1.25 if noun == "crab" else 1.0)
    b = Builder(detail)
    b.joint("root", None, (0, 0, h))
    wide = {"crab": 1.6, "beetle": 0.95, "ant": 0.6, "spider": 0.85}[noun]
    b.ball("root", (0, 0, h), (body, body * wide, body * 0.62), skin)
    b.joint("head", "root", (body * 0.8, 0, h))
    if noun == "crab":
        head_at = np.array([body * 0.75, 0, h + body * 0.45])
    else:
        head_at = np.array([body * 1.25, 0, h + 0.02])
        b.ball("head", head_at, body * 0.45, base * 0.8)
    eyes(b, "head", head_at + body * np.array([0.32, 0, 0.22]), 0.2 * body, 0.11 * body)
    b.joint("tail", "root", (-body * 0.8, 0, h))
    if noun in ("spider", "ant"):
        b.ball("tail", (-body * 1.7, 0, h + 0.06), (body * 1.05, body * 0.85, body * 0.8), skin)
    for i in range(pairs):
        along = body * np.interp(i, [0, pairs - 1], [0.65, -0.65])
        for side, s in (("l", 1), ("r", -1)):
            splay = np.interp(i, [0, pairs - 1], [0.7, -0.7])
            out = np.array([np.sin(splay), s * np.cos(splay), 0])
            hip = np.array([along, s * body * wide * 0.7, h])
            knee = hip + out * rng.uniform(0.26, 0.3) + np.array([0, 0, 0.16])
            foot = (hip + out * rng.uniform(0.5, 0.56)) * (1, 1, 0)
            up = b.joint(f"leg{i}{side}", "root", hip)
            low = b.joint(f"leg{i}{side}_low", up, knee)
            b.tube([up, low], [hip, knee, foot], [0.045, 0.035, 0.018], limb)
    for side, s in (("l", 1), ("r", -1)):
        root = head_at + np.array([0, s * body * 0.35, 0])
        claw = b.joint(f"claw_{side}", "head" if noun != "crab" else "root", root)
        if noun == "crab":
            root = root + np.array([-0.05, s * body * 0.5, -0.1])
            elbow, hand = root + np.array([0.14, s * 0.24, 0.02]), root + np.array([0.34, s * 0.2, 0.12])
            b.tube([claw], [root, elbow, hand], [0.055, 0.055, 0.05], limb)
            b.ball(claw, hand + (0.06, 0, 0.02), (0.14, 0.085, 0.1), base)
            for lean in (0.09, -0.06):
                tip = hand + np.array([0.28, -s * 0.06, lean])
                b.tube([claw], [hand + (0.1, 0, lean), tip], [0.05, 0.012], base * 0.85)
        else:
            b.tube([claw], [root, root + np.array([0.22, s * 0.12, 0.12])], [0.02, 0.012], limb)
    legs = [(i, side, s) for i in range(pairs) for side, s in (("l", 1), ("r", -1))]

    def scuttle(r: Rng, swing: float, cycles: int) -> list[Wave]:
        waves = [Wave("root", Z, 0.012, 2 * cycles, kind="shift")]
        for i, side, s in legs:
            phase = 0.5 * ((i + (side == "r")) % 2)
            waves += [
                Wave(f"leg{i}{side}", Z, swing, cycles, phase),
                Wave(f"leg{i}{side}", X, s * swing * 0.5, cycles, phase + 0.25),
            ]
        return waves

    verbs = {
        "walk": lambda r: scuttle(r, r.uniform(14, 20), 2),
        "run": lambda r: scuttle(r, r.uniform(20, 28), 3),
        "attack": lambda r: [
            Wave("root", Y, -r.uniform(15, 25), 2, shape="pulse"),
            *(Wave(f"leg0{side}", X, s * 50, 2, shape="pulse") for side, s in (("l", 1), ("r", -1))),
            *(Wave(f"claw_{side}", Z, -s * 30, 2, 0.2) for side, s in (("l", 1), ("r", -1))),
        ],
        "wave": lambda r: [Wave("claw_l", X, 25, 3, offset=35), Wave("leg0l", X, 30, 3, offset=40)],
        "dance": lambda r: [*scuttle(r, 12, 2), Wave("root", Z, sign(r) * 20, 2), Wave("root", X, 10, 2, 0.25)],
    }
    return finish(b, f"crawler-{noun}", noun, verbs, ("jump", "spin", "breathe", "shake"))
