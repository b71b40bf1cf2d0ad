"""Tasks for the worker in tests: no torch, each one behaviour."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np

from t4d.errors import InputError

PLAYER = """<!doctype html><title>player</title><canvas width=64 height=64></canvas><script>
const g = document.querySelector("canvas").getContext("2d");
(function f(t) { g.fillStyle = `hsl(${t / 5 % 360} 80% 50%)`; g.fillRect(0, 0, 64, 64); requestAnimationFrame(f); })(0);
</script>"""


def animate(payload: Mapping[str, Any], asked: Callable[[], int]) -> Iterator[dict]:
    """The pipeline's stages in a second, with small real files; the prompt chooses how it goes wrong."""
    prompt = payload["prompt"]
    if "keep" in prompt:
        yield from _keep(payload, asked)
        return
    for index, stage in enumerate(("prepare", "clip", "fit", "export")):
        for part in range(2):
            fraction = (index + part / 2) / 4
            yield {"stage": stage, "fraction": fraction, "message": f"{stage} {part}", "eta_s": 2 * (1 - fraction)}
            time.sleep(0.05)
            if index == 1 and part == 1:
                yield from _misbehave(prompt)
    yield {"stage": "done", "fraction": 1.0, "message": "Finished", "result": write_run(Path(payload["out"]), prompt)}


def animate_small(payload: Mapping[str, Any], asked: Callable[[], int]) -> Iterator[dict]:
    """The real pipeline with a short, small orbit video, which the page has no field for."""
    from studio.tasks import animate as real

    small = {"export": {"orbit_frames": 8, "orbit_size": 64}}
    yield from real({**payload, "config": {**payload["config"], **small}}, asked)


def inspect(payload: Mapping[str, Any], asked: Callable[[], int]) -> Iterator[dict]:
    """Refuses files whose content says so."""
    path = Path(payload["path"])
    if b"bad" in path.read_bytes():
        raise InputError(f"{path.name} holds no triangles; export the object as a mesh.")
    yield {"result": {"name": path.stem, "facts": "12 triangles", "clips": [], "notes": []}}


def _keep(payload: Mapping[str, Any], asked: Callable[[], int]) -> Iterator[dict]:
    """Fits until asked to stop, then writes for longer than the grace time of the tests, with or without progress."""
    while not asked():
        yield {"stage": "fit", "fraction": 0.5, "message": "fitting", "keeps": True}
        time.sleep(0.05)
    result = write_run(Path(payload["out"]), payload["prompt"])
    manifest = {"prompt": payload["prompt"], "status": "stopped", "warnings": ["Stopped at iteration 3 of 9."]}
    (Path(payload["out"]) / "run.json").write_text(json.dumps(manifest))
    for _ in range(12):
        time.sleep(1000 if "hang" in payload["prompt"] else 0.25)
        yield {"stage": "export", "fraction": 0.9, "message": "writing", "keeps": True}
    yield {"stage": "done", "fraction": 1.0, "message": "Stopped", "result": result, "keeps": True}


def _misbehave(prompt: str) -> Iterator[dict]:
    if "refuse" in prompt:
        raise InputError("The object has no triangles; export it as a mesh.")
    if "break" in prompt:
        raise RuntimeError("index 7 is out of bounds")
    if "die" in prompt:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in prompt:
        time.sleep(600)
    if "slow" in prompt:
        for _ in range(600):
            time.sleep(0.1)
            yield {"stage": "clip", "message": "slow", "fraction": 0.4, "eta_s": float("inf")}


def write_run(out: Path, prompt: str) -> dict:
    """Small real result files."""
    for name in ("clip.mp4", "orbit.mp4"):
        with av.open(str(out / name), "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for i in range(8):
                picture = np.full((64, 64, 3), 30 * i, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode())
    (out / "player.html").write_text(PLAYER)
    (out / "asset.safetensors").write_bytes(b"8 bytes.")
    (out / "frames.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    (out / "run.json").write_text(json.dumps({"prompt": prompt, "warnings": ["One texture is missing."]}))
    return {"folder": str(out)}
