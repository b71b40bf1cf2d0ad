"""Has a model learned how objects move, or how those move that it was trained on? Training rigs beside unseen ones.

    python -m eval.first_guess --rigs RIGS [--weights mini] [--motion-mean FOLDER] [--clips 24] [--seed 7]

L_diff (Eq. 3) over that of predicting no motion ("still"), on clips as training draws them but without mirroring and
changes of tempo: at the first sampled time from noise alone, and where some or most of the clip shows through the
noise. One table row for every split (training rigs; near: other meshes of trained joint sets; far: other joint sets)
and start (the rest pose, or the middle of a motion). Below 1 the network knows something; a row of unseen rigs far
above its training row is what was learned by heart. Intervals resample objects. With --motion-mean the weights get
that motion mean, and what is measured is the mean alone, which no noise enters: the same at every time.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from eval.mini_gates import interval
from eval.stage1_probe import latent_maps, look
from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.motion_mean import MotionMean
from t4d.diffusion.weights import load_module
from t4d.errors import InputError
from t4d.paths import REPO
from train.config import StageOneTrainConfig, load_config
from train.networks import give_motion_mean

SPLITS = ("train", "near", "far")
TIMES = (999, 700, 400)
STARTS = {"rest": 1.0, "middle": 0.0}


def clips(rigs: Path, split: str, start: str, seed: int) -> ClipDataset:
    """Clips of mini's verbs, with training's changes of proportions, colours, cameras and light."""
    return ClipDataset(
        rigs,
        split=split,
        rest_fraction=STARTS[start],
        procedural_fraction=0,
        mirror=0,
        speed=0,
        grid=0,
        verbs=load_config(StageOneTrainConfig, REPO / "train/configs/mini.yaml", []).data.verbs,
        seed=seed,
    )


def measure(model: VideoModel, data: ClipDataset, count: int) -> dict[str, np.ndarray]:
    """Sums over each object's clips: still, and the loss at each of `TIMES`. A dict of object to [1 + times]."""
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(1 + len(TIMES)))
    for i in range(count):
        item = data[i]
        with torch.no_grad():
            still = float(latent_maps(model, item)[:, 1:].square().mean())
        # sampling starts from noise alone, whatever the schedule leaves at its end
        losses = [look(model, item, t, seed=i, trace=t != TIMES[0])[1] for t in TIMES]
        sums[item["name"]] += np.array([still, *losses])
    return dict(sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rigs", type=Path, required=True)
    parser.add_argument("--weights", default="mini")
    parser.add_argument("--motion-mean", type=Path, help="folder of train/motion_mean.py, for weights without one")
    parser.add_argument("--clips", type=int, default=24, help="of each row")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    if args.clips < 1:
        parser.error(f"--clips is {args.clips}; give 1 or more")
    torch.set_num_threads(1)
    try:
        model = VideoModel.load(args.weights)
        if args.motion_mean is not None:
            give_motion_mean(model, load_module(MotionMean, args.motion_mean))
        print("| rigs | start | objects, clips | still | " + " | ".join(f"loss / still, t = {t}" for t in TIMES) + " |")
        print("|" + " --- |" * (4 + len(TIMES)))
        for split in SPLITS:
            for start in STARTS:
                sums = np.stack(list(measure(model, clips(args.rigs, split, start, args.seed), args.clips).values()))
                cells = []
                for k in range(len(TIMES)):
                    value, low, high = interval([sums[:, 1 + k], sums[:, 0]], lambda a, b: float(a.sum() / b.sum()))
                    cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}]")
                still = sums[:, 0].sum() / args.clips
                row = [split, start, f"{len(sums)}, {args.clips}", f"{still:.2f}", *cells]
                print(f"| {' | '.join(row)} |", flush=True)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
