"""Muon's step over the matrices of mini's motion mean on a CPU: ours in float32, torch's in bfloat16.

    python -m eval.bench.muon [--steps 8]

One thread, random gradients. The two take turns, so that what else the machine does meets both alike; the ratio is of
medians, against ours. A CPU with bfloat16 matrix instructions may answer otherwise.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from eval.bench.turns import report, take_turns
from t4d.diffusion.motion_mean import MotionMean
from train.muon import Muon

RESULT = Path(__file__).parents[1] / "results" / "bench_muon.json"
KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {"float32": Muon, "bfloat16": torch.optim.Muon}


def matrices() -> list[nn.Parameter]:
    """What Muon trains of the motion mean, with gradients."""
    torch.manual_seed(0)
    mean = MotionMean(8, 64, 96, 96, 16)  # the blocks are mini's
    found = [p for name, p in mean.named_parameters() if name.startswith("blocks.") and p.ndim == 2]
    for p in found:
        p.grad = torch.randn_like(p)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    ways = {name: kind(matrices(), lr=1e-3).step for name, kind in KINDS.items()}
    report(take_turns(ways, steps), "float32", steps, RESULT)


if __name__ == "__main__":
    main()
