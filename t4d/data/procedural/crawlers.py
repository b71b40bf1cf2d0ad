"""Many-legged bodies: spider, ant, beetle, crab."""

import numpy as np

from t4d.data.procedural.body import Body, Rng, coat, color, eyes, finish, sign
from t4d.data.procedural.parts import Builder
from t4d.data.procedural.skeleton import Wave, X, Y, Z


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
        "crawl": lambda r: [
            *scuttle(r, r.uniform(9, 14), 1),
            *(Wave(f"leg{i}{side}", X, 0, offset=s * 14) for i, side, s in legs),
        ],
        "attack": lambda r: [
            Wave("root", Y, -r.uniform(15, 25), 2, shape="pulse"),
            *(Wave(f"leg0{side}", X, s * 50, 2, shape="pulse") for side, s in (("l", 1), ("r", -1))),
            *(Wave(f"claw_{side}", Z, -s * 30, 2, 0.2) for side, s in (("l", 1), ("r", -1))),
        ],
        "wave": lambda r: [Wave("claw_l", X, 25, 3, offset=35), Wave("leg0l", X, 30, 3, offset=40)],
        "dance": lambda r: [*scuttle(r, 12, 2), Wave("root", Z, sign(r) * 20, 2), Wave("root", X, 10, 2, 0.25)],
    }
    return finish(b, f"crawler-{noun}", noun, verbs, ("jump", "spin", "breathe", "shake", "bounce", "idle", "fall"))
