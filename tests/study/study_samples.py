"""Small studies and videos for tests."""

import hashlib

import numpy as np

METHODS = ("zebrafish", "quokka", "narwhal")  # words that nothing else on a page or in a library would contain


def study_entries(items: int = 4, methods: tuple[str, ...] = METHODS, **fields) -> dict:
    """Entries of a study with made-up but well-formed media names: enough for everything that shows no pictures."""

    def name(*what: str) -> str:
        return "media/" + hashlib.sha256("/".join(what).encode()).hexdigest()[:24]

    entries = [
        {
            "id": f"item{k}",
            "prompt": f"The object number {k} jumps.",
            "reference": name(str(k)) + ".png",
            "videos": {method: name(str(k), method) + ".mp4" for method in methods},
        }
        for k in range(items)
    ]
    return {"methods": [{"id": method} for method in methods], "items": entries, "min_watch_s": 0.0, **fields}


def moving_square(frames: int = 8, side: int = 64, colour: tuple[int, int, int] = (200, 60, 30), background: int = 128):
    """A square that moves to the right, uint8 [T, side, side, 3]."""
    clip = np.full((frames, side, side, 3), background, np.uint8)
    for t in range(frames):
        left = round((side - 24) * t / max(1, frames - 1)) + 4
        clip[t, side // 2 - 8 : side // 2 + 8, left : left + 16] = colour
    return clip
