"""Cost of a Stage One training step: seconds, clips per second, memory, and what each switch costs.

    python -m eval.bench.stage1 [--quick]

One optimiser step as `train/stage1.py` makes it (noise, one forward pass with the losses, backward, clipping, AdamW,
averages) in one thread, for the smoke test's network and for mini, by variant: all losses (`full`, the peer of every
ratio), `no_track`, gradient checkpointing, bf16 autocast, and the gradient norms of the terms, which only logged steps
pay. Variants take turns in every round, so that a busy machine hits all alike; seconds are processor seconds, ratios
medians over rounds of a round's own quotient. Memory is the step's peak above what was resident before it. Clips come
from the renderer, with and without their tracks, and from the disk cache, in the same rounds. Writes
eval/results/bench_stage1.json.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch.utils.data import default_collate

from eval.bench.meter import Meter
from eval.bench.rasterizer import hardware
from t4d.data.cache import load_item, save_item
from t4d.data.dataset import ClipDataset
from t4d.paths import ASSETS, REPO
from train.config import StageOneTrainConfig, load_config
from train.draws import draw, noised
from train.measure import TermNorms
from train.networks import build
from train.objective import Objective
from train.order import stage_at
from train.runs import Ema

NO_TRACK = ["tracking.lambda_corr=0", "tracking.lambda_pos=0"]
FULL = ["tracking.lambda_corr=0.1", "tracking.lambda_pos=10"]
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"set": FULL},
    "no_track": {"set": NO_TRACK},
    "checkpointing": {"set": FULL, "checkpointing": True},
    "bf16": {"set": FULL, "bf16": True},
    "with norms of terms": {"set": FULL, "norms": True},
}


class Step:
    """One variant of a training step, with its own network and optimiser, on a fixed batch."""

    def __init__(self, config: StageOneTrainConfig, clips: dict[str, Any], variant: dict[str, Any]):
        torch.manual_seed(0)
        self.config, self.clips, self.variant, self.count = config, clips, variant, 0
        self.model = build(config)
        self.objective = Objective(self.model, config).train()
        if variant.get("checkpointing"):
            self.model.unet.enable_gradient_checkpointing()  # type: ignore[operator]
        self.trained = list(self.objective.trained.values())
        self.optimiser = torch.optim.AdamW(self.trained, lr=1e-5)
        self.ema = Ema(self.objective, 0.99)

    def __call__(self) -> float:
        c, step = self.config, self.count
        places = range(len(self.clips["caption"]))
        drawn = draw(self.clips, stage_at(10**9, c), c, step, places, len(self.objective.alphas_cumprod))
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(self.variant.get("bf16"))):
            batch = noised(drawn, self.model.autoencoder, self.objective.alphas_cumprod, c, torch.device("cpu"))
            sums = self.objective(batch)
        weights = {"diff": c.tracking.lambda_diff, "corr": c.tracking.lambda_corr, "pos": c.tracking.lambda_pos}
        loss = torch.stack([weights[name] * value for name, value in sums.items()]).sum() / len(places)
        if self.variant.get("norms"):
            TermNorms(self.trained).add(sums, self.objective.tapped)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, c.optim.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.ema.update(self.objective, step)
        self.count += 1
        return float(loss.detach())


def setup(name: str, batch: int, more: list[str]) -> tuple[StageOneTrainConfig, dict[str, Any]]:
    """Configuration of a size (a file of train/configs) and a rendered batch for it."""
    paths = [f"autoencoder={ASSETS / 'weights/mini/autoencoder'}", f"optim.batch={batch}", "curriculum=[]"]
    config = load_config(StageOneTrainConfig, REPO / f"train/configs/{name}.yaml", [*paths, *more])
    d = config.data
    source = ClipDataset(None, procedural_fraction=1, side=d.side, views=d.views, frames=d.frames, grid=d.grid, seed=5)
    return config, default_collate([source[i] for i in range(batch)])


def rounds(meter: Meter, parts: dict[str, Callable[[], Any]], count: int) -> None:
    """Runs all parts in turns; the first turn, which starts things up, is not counted."""
    for part in parts.values():
        part()
    for _ in range(count):
        for name, part in parts.items():
            with meter.part(name):
                part()


def summary(meter: Meter, names: list[str], peer: str, clips: int) -> dict[str, dict[str, float]]:
    """Medians and ratios to the peer's of the same round."""
    found = {}
    for name in names:
        seconds, base = meter.seconds[name], meter.seconds[peer]
        row = {
            "cpu_seconds": round(statistics.median(seconds), 4),
            "clips_per_second": round(clips / statistics.median(seconds), 3),
            "ratio": round(statistics.median([a / b for a, b in zip(seconds, base)]), 3),
        }
        if name in meter.memory:
            row |= {"peak_mb": round(meter.memory[name])}
            row |= {"memory_ratio": round(meter.memory[name] / max(meter.memory[peer], 1e-9), 3)}
        found[name] = row
    return found


def measure_size(name: str, batch: int, count: int) -> dict[str, Any]:
    """All variants of a size."""
    parts: dict[str, Callable[[], Any]] = {}
    config: StageOneTrainConfig | None = None
    for variant, settings in VARIANTS.items():
        config, clips = setup(name, batch, settings["set"])
        parts[variant] = Step(config, clips, settings)
    assert config is not None
    meter = Meter(torch.device("cpu"))
    rounds(meter, parts, count)
    step = parts["full"]
    assert isinstance(step, Step)
    d = config.data
    return {
        "parameters": sum(p.numel() for p in step.trained),
        "clip": [d.views, d.frames, d.side, d.side],
        "batch": batch,
        "points": config.tracking.points,
        "rounds": count,
        "variants": summary(meter, list(parts), "full", batch),
    }


def measure_data(side: int, count: int) -> dict[str, dict[str, float]]:
    """Clips of mini's shape from the renderer and from the cache; what tracks add to rendering."""
    sources = {
        "rendered with tracks": ClipDataset(None, procedural_fraction=1, side=side, seed=5),
        "rendered, one point": ClipDataset(None, procedural_fraction=1, side=side, seed=5, grid=1),
    }
    meter, path = Meter(torch.device("cpu")), Path(tempfile.mkdtemp()) / "clip.npz"
    for i in range(count + 1):
        items = {}
        for name, source in sources.items():
            with meter.part(name):
                items[name] = source[i]
        save_item(items["rendered with tracks"], path)
        with meter.part("read from the cache"):
            load_item(path)
    for name in meter.seconds:
        meter.seconds[name] = meter.seconds[name][1:]  # the first starts up
    path.unlink()
    path.parent.rmdir()
    meter.memory.clear()
    return summary(meter, list(meter.seconds), "rendered with tracks", 1)


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of the smallest, nothing written")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"smoke": measure_size("smoke", 1, 1 if arguments.quick else arguments.rounds)}
    if not arguments.quick:
        sizes["mini"] = measure_size("mini", 1, arguments.rounds)
    data = measure_data(64, 1 if arguments.quick else 12)
    print(hardware())
    for size, found in [*sizes.items(), ("data, 4 x 16 x 64 px", {"variants": data})]:
        print(f"\n{size}: " + ", ".join(f"{k} {v}" for k, v in found.items() if k != "variants"))
        for name, row in found["variants"].items():
            print(f"  {name:24s} " + ", ".join(f"{key} {value}" for key, value in row.items()))
    if arguments.quick:
        return
    report = {
        "hardware": hardware(),
        "clock": "processor seconds, one thread",
        "torch": torch.__version__,
        "steps": sizes,
        "data": data,
    }
    out = REPO / "eval/results/bench_stage1.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {out.relative_to(REPO)}")


if __name__ == "__main__":
    main()
