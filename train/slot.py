"""Trains mini on a machine that is lent for minutes: check, train, evaluate, measure, and hand back, in one command.

    python train/slot.py --config train/configs/slot.yaml --minutes 9.3 --train-minutes 21 --out runs/slot
        --back BACK --wheels data/wheels data.rigs=data/rigs

One call takes --minutes in all. It checks the machine (20 seconds: versions, the device's renderer against the CPU's,
clips and steps a second), trains until --finish-minutes are left, evaluates and writes BACK (at most 8 files below 16
MB: results.json, log.jsonl, sheet.png, and model-*.tar with the averaged weights in float16). The same command again
goes on from --out where the first one stopped; learning rate and curriculum are stretched over --train-minutes of
training in all calls together. BACK is filled every two minutes, so that a killed call leaves the weights of minutes
ago; an evaluation or hand-over that fails is told in results.json and log.jsonl and does not stop the training. When
the training time is used up, what is left of a call goes to the paper's size (`eval.bench.stage1_paper`,
`eval.bench.paper_sampling`) and to gsplat's build and agreement, whose reports are in results.json too.

Before the day: `python train/dataset.py pack ... --out data/rigs`, `python -m train.slot_wheels --out data/wheels`,
and the same command with --minutes 1 --train-minutes 0.3 on a CPU. data/ is not in git, but small: about 30 MB.
"""

import argparse
import sys
import time
from pathlib import Path

STARTED = time.monotonic()
sys.path[0] = str(Path(__file__).resolve().parent.parent)  # launched as a file, the program's own folder stands there


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="run folder; a training there is continued")
    parser.add_argument("--back", type=Path, required=True, help="folder of what is to come back")
    parser.add_argument("--minutes", type=float, required=True, help="of this call, from its first line to its last")
    parser.add_argument("--train-minutes", type=float, required=True, help="of training, over all calls")
    parser.add_argument("--finish-minutes", type=float, default=1.0, help="kept for evaluation and hand-over")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that the machine lacks (train/slot_wheels.py)")
    parser.add_argument("--check-only", action="store_true", help="check the machine and stop")
    parser.add_argument("--no-bench", action="store_true", help="leave the paper's size and gsplat out")
    parser.add_argument("overrides", nargs="*", help="key=value, for example optim.lr=1e-3")
    return parser.parse_intermixed_args()


def main() -> None:
    args = arguments()
    if args.wheels is not None:
        from train.slot_site import use_wheels

        use_wheels(args.wheels)
    from t4d.errors import InputError
    from train.slot_call import call

    try:
        call(args, STARTED)
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
