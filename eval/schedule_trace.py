"""Does a model know anything where sampling starts, or does it read the answer off the trace that the schedule leaves?

    python -m eval.schedule_trace --rigs RIGS [--weights mini] [--clips 8] [--seed 0]

A schedule that does not end at zero signal leaves a faint copy of the clip in the noisiest inputs of training, while
sampling starts from noise alone (Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed"). On
clips of the near split: L_diff (Eq. 3) at the first sampled time with that copy and without it, beside the loss of
predicting no motion. If "noise alone" is not below "no motion", sampling starts blind, whatever the loss curve says.
"""

import argparse
from pathlib import Path

import torch

from eval.stage1_probe import look
from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedulers import build_scheduler
from train.draws import Drawn, clean_latents

STEPS = 25
NOISES = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rigs", type=Path, required=True)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = VideoModel.load(arguments.weights)
    data = ClipDataset(arguments.rigs, split="near", procedural_fraction=0, seed=arguments.seed)
    stepper = build_scheduler("ddim", model.scheduler_config)
    stepper.set_timesteps(STEPS)
    first = int(stepper.timesteps[0])
    print(
        f"signal left at t = {first}, the first of {STEPS} steps: {float(model.alphas_cumprod[first]):.2e} of its power"
    )
    print("| clip | with the trace | noise alone | no motion |\n| --- | --- | --- | --- |")
    sums = torch.zeros(3)
    for i in range(arguments.clips):
        item = data[i]
        rgba = item["rgba"][None]
        drawn = Drawn(rgba, item["flow"][None], None, item["cameras"][None], [""], torch.zeros(1), None, [(0, 0, 0)])
        still = float(clean_latents(model.autoencoder, drawn, rgba)[:, :, 1:].float().square().mean())
        seen, blind = (
            sum(look(model, item, first, seed, trace=trace)[1] for seed in range(NOISES)) / NOISES
            for trace in (True, False)
        )
        sums += torch.tensor([seen, blind, still])
        print(f"| {item['caption']} | {seen:.3f} | {blind:.3f} | {still:.3f} |", flush=True)
    print("| mean | " + " | ".join(f"{value:.3f}" for value in (sums / arguments.clips).tolist()) + " |")


if __name__ == "__main__":
    main()
