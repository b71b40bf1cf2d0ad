"""Four-legged animals."""

import numpy as np

from t4d.data.procedural.body import DARK, WHITE, Body, Rng, coat, color, eyes, finish, paint
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z

QUADRUPEDS = {  # noun: (hue, body length, leg length, neck length, neck lift, head size, ear, tail length, bulk)
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
    verbs = quadruped_verbs()
    if noun in ("cat", "dinosaur", "fox", "lizard", "mouse", "tiger"):
        verbs["crawl"] = creep
    return finish(b, f"quadruped-{noun}", noun, verbs, ("jump", "spin", "shake", "breathe", "fall"))


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


def creep(r: Rng) -> list[Wave]:
    """Walks close to the ground on bent legs."""
    bend = {"f": r.uniform(38, 46), "b": r.uniform(62, 72)}  # hind knees lie further back
    phases = {"fl": 0.0, "br": 0.1, "fr": 0.5, "bl": 0.6}
    return [
        *gait(r, r.uniform(9, 13), 1, phases),
        *(Wave(leg, Y, 0, offset=-bend[leg[0]]) for leg in phases),
        *(Wave(f"{leg}_low", Y, 0, offset=1.7 * bend[leg[0]]) for leg in phases),
        *(Wave(f"tail{i}", Z, r.uniform(5, 10), 1, -0.1 * i) for i in range(3)),
        Wave("neck", Y, 4, 2, offset=15),
        Wave("head", Y, 0, offset=-15),
    ]


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
        "idle": lambda r: [
            *(Wave(f"tail{i}", Z, r.uniform(4, 9), 1, -0.1 * i) for i in range(3)),
            Wave("neck", Y, r.uniform(2, 4)),
            Wave("head", Z, r.uniform(3, 6), phase=r.random()),
        ],
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
