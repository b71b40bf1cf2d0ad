"""Has a model learned how objects move, or how those move that it was trained on? Training rigs beside unseen ones.

    python -m eval.first_guess --rigs RIGS [--weights mini] [--motion-mean FOLDER] [--clips 24] [--seed 7] [--out FILE]

L_diff (Eq. 3) over that of predicting no motion ("still"), on clips as training draws them but without mirroring and
changes of tempo: at the first sampled time from noise alone, and where some or most of the clip shows through the
noise. One table row for every split (training rigs; near and far: `split.json`'s unseen ones)
and start (the rest pose, or the middle of a motion). Below 1 the network knows something; a row of unseen rigs far
above its training row is what was learned by heart. Intervals resample objects. With --motion-mean the weights get
that motion mean, and what is measured is the mean alone, which no noise enters: the same at every time. --out FILE
keeps the rows as JSON; those of the shipped weights are eval/results/first_guess.json.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from eval.ablation_plan import commit
from eval.mini_gates import interval
from eval.stage1_probe import latent_maps, look
from t4d.data.catalog import EVALUATION_TWINS
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
        exclude=EVALUATION_TWINS if split == "train" else (),
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
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    args = parser.parse_args()
    if args.clips < 1:
        parser.error(f"--clips is {args.clips}; give 1 or more")
    torch.set_num_threads(1)
    try:
        model = VideoModel.load(args.weights)
        if args.motion_mean is not None:
            give_motion_mean(model, load_module(MotionMean, args.motion_mean))
        if model.prediction_type != "sample":
            raise InputError(
                f"{args.weights} predicts {model.prediction_type}, whose loss says nothing of motion here."
            )
        print("| rigs | start | objects, clips | still | " + " | ".join(f"loss / still, t = {t}" for t in TIMES) + " |")
        print("|" + " --- |" * (4 + len(TIMES)))
        rows = []
        for split in SPLITS:
            for start in STARTS:
                sums = np.stack(list(measure(model, clips(args.rigs, split, start, args.seed), args.clips).values()))
                found = {
                    str(t): interval([sums[:, 1 + k], sums[:, 0]], lambda a, b: float(a.sum() / b.sum()))
                    for k, t in enumerate(TIMES)
                }
                cells = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in found.values()]
                still = sums[:, 0].sum() / args.clips
                rows.append(
                    {"rigs": split, "start": start, "objects": len(sums), "still": still, "loss / still": found}
                )
                row = [split, start, f"{len(sums)}, {args.clips}", f"{still:.2f}", *cells]
                print(f"| {' | '.join(row)} |", flush=True)
        if args.out is not None:
            made = {"weights": model.sha256, "clips": args.clips, "seed": args.seed, "commit": commit()}
            args.out.write_text(json.dumps({**made, "rows": rows}, indent=1) + "\n")
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
