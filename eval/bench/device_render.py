"""What a rendered training clip costs: the batched torch renderer against the compiled CPU one, and how far they agree.

    python -m eval.bench.device_render [--rigs data/rigs] [--clips 8] [--sides 64 128] [--device cpu|cuda]

Clips have 4 views of 16 frames with flow and 15 x 15 tracks. Seconds on the CPU are processor seconds of one thread,
clip by clip in turn; on a GPU seconds of the clock for batches of --batch, the device waited for. "scene" is what
worker processes do in either case: drawing the clip, posing and placing it. Differences are those of the worst clip:
IoU of coverage above one half, shares of colours, flows and track positions off by more than 0.002, 0.0001 and 0.01
pixels, share of visibilities. (Where two surfaces coincide, as in some rigs, rounding decides which one a query point
lies on, and the two may part later: a point in a thousand.) Writes eval/results/bench_device_render[_cuda].json.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from eval.bench.rasterizer import hardware
from t4d.data.dataset import ClipDataset
from t4d.data.device_render import DeviceClips, render_scenes
from t4d.data.device_scene import pack_scenes

RESULTS = Path(__file__).parents[1] / "results"


def timed(call: Callable[[], Any], seconds: list[float]) -> Any:
    """The call's result; its processor seconds go to the list."""
    start = time.process_time()
    found = call()
    seconds.append(time.process_time() - start)
    return found


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Differences of two items of one clip."""
    a, b = ours["rgba"].cpu(), theirs["rgba"]
    inside, wanted = a[:, :, 3] > 0.5, b[:, :, 3] > 0.5
    return {
        "iou": float((inside & wanted).sum() / (inside | wanted).sum().clamp_min(1)),
        "colors_off": float(((a - b).abs() > 2e-3).float().mean()),
        "flow_off": float(((ours["flow"].cpu() - theirs["flow"]).abs() > 1e-4).float().mean()),
        "tracks_off": float(((ours["tracks"] - theirs["tracks"]).norm(dim=-1) > 0.01).float().mean()),
        "visibility_off": float((ours["visible"] != theirs["visible"]).float().mean()),
    }


def compare(clips: ClipDataset, count: int, device: torch.device) -> dict[str, Any]:
    """Seconds a clip of scenes and of both renderers, and the worst agreement; index 0 warms up."""
    rendered = DeviceClips(clips, device)
    seconds: dict[str, list[float]] = {"scene": [], "compiled, with scene": [], "torch": []}
    worst: dict[str, float] = {}
    for i in range(count + 1):
        scene = timed(lambda i=i: clips.scene(i), seconds["scene"])
        theirs = timed(lambda i=i: clips[i], seconds["compiled, with scene"])
        batch = timed(lambda scene=scene: rendered.render(pack_scenes([scene])), seconds["torch"])
        found = agreement({name: value[0] for name, value in batch.items()}, theirs)
        for name, value in found.items():
            worst[name] = (min if name == "iou" else max)(worst.get(name, value), value)
    rows = {f"{name}, cpu s": round(mean(values[1:]), 4) for name, values in seconds.items()}
    return {**rows, "worst": {name: round(value, 6) for name, value in worst.items()}}


def throughput(clips: ClipDataset, batch: int, seconds: float = 5.0) -> dict[str, float]:
    """Clips a second of batches on the GPU, their scenes already there, and its memory."""
    scenes = pack_scenes([clips.scene(i) for i in range(batch)]).to("cuda")
    for _ in range(2):
        render_scenes(scenes, grid=clips.grid)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    began, rounds = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        render_scenes(scenes, grid=clips.grid)
        torch.cuda.synchronize()
        rounds += 1
    rate = rounds * batch / (time.perf_counter() - began)
    return {"batch": batch, "clips_per_second": round(rate, 1), "peak_gib": torch.cuda.max_memory_allocated() / 2**30}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rigs", type=Path, help="folder of rig packs; none: procedural objects only")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64], help="with --device cuda")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, report = torch.device(arguments.device), {"hardware": hardware(), "torch": torch.__version__, "rows": {}}
    kinds = {"procedural": (None, 1.0), **({"rigs": (arguments.rigs, 0.0)} if arguments.rigs else {})}
    for side in arguments.sides:
        for kind, (rigs, share) in kinds.items():
            clips = ClipDataset(rigs, procedural_fraction=share, side=side, seed=11)
            row = compare(clips, arguments.clips, device)
            if device.type == "cuda":
                row["batches"] = [throughput(clips, batch) for batch in arguments.batch]
            report["rows"][f"{kind}, {side} px"] = row
            print(f"{kind}, {side} px", json.dumps(row), flush=True)
    suffix = "_cuda" if device.type == "cuda" else ""
    out = arguments.out or RESULTS / f"bench_device_render{suffix}.json"
    out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
