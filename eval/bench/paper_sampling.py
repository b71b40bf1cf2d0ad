"""Sampling with a network of the paper's size on a GPU: seconds a step and memory, with random weights.

    python -m eval.bench.paper_sampling [--steps 25] [--side 256]

4 views x 16 frames, classifier-free guidance 7.5, DDIM, bf16 autocast: what the product does with the public weights.
Writes eval/results/bench_paper_sampling.json.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from eval.bench.stage1_paper import GIB, RESULTS, paper_model
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.geometry.camera import rig


def sampling(model: VideoModel, steps: int, side: int, frames: int = 16) -> dict[str, Any]:
    """Seconds and memory of one clip from a grey disc.

    Args:
        model: On the device to be measured.
        steps: Denoising steps.
        side: Pixels.
        frames: T.
    """
    device = model.device
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    disc = ((x**2 + y**2) < 0.3).float()
    picture = torch.cat([0.5 + 0.2 * disc.expand(3, -1, -1), disc[None]]).expand(4, -1, -1, -1)
    cameras, cuda = rig(width=side, height=side), device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds, since = [], time.perf_counter()
    began = since
    with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
        for _ in sample_clip(model, picture, cameras, "a fox is running", steps=steps, frames=frames):
            if cuda:
                torch.cuda.synchronize()
            now = time.perf_counter()
            seconds.append(now - since)
            since = now
    found = {"steps": steps, "side": side, "seconds": round(time.perf_counter() - began, 3)}
    # the first step warms up and the last one decodes as well
    found["seconds_per_step"] = round(median(seconds[1:-1] or seconds), 4)
    return found | ({"peak_gib": round(torch.cuda.max_memory_allocated() / GIB, 2)} if cuda else {})


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--out", type=Path, default=RESULTS / "bench_paper_sampling.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: sampling at the paper's size is measured on a CUDA device, and none was found.")
    model = paper_model("cuda")
    report = {"hardware": torch.cuda.get_device_name(), "torch": torch.__version__, "guidance": model.guidance}
    report |= sampling(model, arguments.steps, arguments.side)
    print(json.dumps(report))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
