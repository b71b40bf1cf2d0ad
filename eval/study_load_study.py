"""A small study made of drawn videos: real files of the size that a load test can afford."""

import re
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import yaml

from t4d.paths import REPO

SIDE, FRAMES, FPS = 64, 8, 8
METHODS = ("ours", "animate3d", "dg4d", "l4gm", "consistent4d", "4dfy")


def make_sources(folder: Path, objects: int = 20, methods: int = 3, checks: int = 2, repeats: int = 2) -> Path:
    """Draws videos and reference pictures and writes the study file beside them.

    Args:
        folder: an empty folder.
        objects: items of the study.
        methods: 1 .. 6.
        checks: attention checks (instructions).
        repeats: pages that every rater gets twice.

    Returns:
        The study file; its design is single, all items for everyone, back allowed.
    """
    names = METHODS[:methods]
    items = []
    for index in range(objects):
        reference = folder / f"object{index:02}.png"
        reference.write_bytes(cv2.imencode(".png", _picture(index, 0, 0.0)[..., ::-1])[1].tobytes())
        videos = {}
        for place, name in enumerate(names):
            video = folder / name / f"object{index:02}.mp4"
            video.parent.mkdir(exist_ok=True)
            _write_video(video, index, place)
            videos[name] = video.relative_to(folder).as_posix()
        prompt = f"object {index} is moving"
        name = f"object{index:02}"
        items.append({"id": name, "object": name, "prompt": prompt, "reference": reference.name, "videos": videos})
    # a plain file, as a user writes one: programs of eval/ do not import the studio, its own `check` reads this
    study = {
        "title": "Load test",
        "methods": [{"id": name} for name in names],
        "items": items,
        "practice": [items[0]["id"]],
        "checks": [{"id": f"check{index}", "answer": 1 + index % 5} for index in range(checks)],
        "repeats": repeats,
        "exclusion": {"min_page_s": None},
        "video": {"side": SIDE, "fps": FPS, "seconds": FRAMES / FPS, "crf": 30},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


def prepare(source: Path, study: Path) -> int:
    """Prepares a study file as a user does, with the study's own program; returns the pages of a rater.

    Raises:
        RuntimeError: the program refused, with what it said.
    """
    command = [sys.executable, "-m", "studio.study", "check", str(source), "--out", str(study)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    found = re.search(r"(\d+) pages per rater", done.stdout)
    if done.returncode or found is None:
        raise RuntimeError(f"The study could not be prepared: {done.stderr[-2000:]}{done.stdout[-500:]}")
    return int(found[1])


def _write_video(path: Path, index: int, place: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "30", "preset": "ultrafast"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for frame in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(_picture(index, place, frame / FRAMES), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _picture(index: int, place: int, time: float) -> np.ndarray:
    """A disc of the object's colour on grey, which circles at the method's speed."""
    picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
    angle = 2 * np.pi * (place + 1) * time
    centre = (round(SIDE / 2 + 14 * np.cos(angle)), round(SIDE / 2 + 14 * np.sin(angle)))
    hue = np.array([[[(index * 37) % 180, 200, 220]]], np.uint8)
    colour = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0]
    return cv2.circle(picture, centre, 10, tuple(int(c) for c in colour), -1, cv2.LINE_AA)
