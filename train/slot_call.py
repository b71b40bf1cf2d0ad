"""One call of `train/slot.py`: its parts in their order, and results.json."""

import argparse
import json
import subprocess
import time
import traceback
from pathlib import Path
from typing import Any

import torch
import yaml

from t4d.errors import InputError
from t4d.paths import REPO
from train.config import load_config
from train.slot_back import send
from train.slot_bench import measure
from train.slot_check import clips_of, machine, renderers, scene_seconds
from train.slot_config import SlotConfig
from train.slot_train import SlotTraining


class Results:
    """results.json of a run folder: a list of calls, written after every part.

    Args:
        out: Run folder; earlier calls in it are kept.
    """

    def __init__(self, out: Path) -> None:
        self.path = out / "results.json"
        out.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(self.path.read_text())["calls"] if self.path.is_file() else []
        self.call: dict[str, Any] = {"errors": []}
        self.calls = [*earlier, self.call]

    def add(self, **parts: Any) -> None:
        """Adds parts of this call."""
        self.call.update(parts)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"calls": self.calls}, indent=1) + "\n")
        part.replace(self.path)

    def failed(self, what: str) -> None:
        """Records the exception being handled: what comes after still runs, and the failure is told."""
        text = traceback.format_exc(limit=4)
        print(f"FAILED: {what}\n{text}", flush=True)
        self.add(errors=[*self.call["errors"], {"part": what, "error": text[-1500:]}])


def call(args: argparse.Namespace, started: float) -> None:
    """Check, train, evaluate, hand over, measure.

    Args:
        args: Of `train/slot.py`.
        started: `time.monotonic` when the program began.

    Raises:
        InputError: A setting, file or value cannot be used.
    """
    if args.minutes <= args.finish_minutes and not args.check_only:
        raise InputError(
            f"--minutes {args.minutes:g} leaves nothing beside --finish-minutes {args.finish_minutes:g}; give more."
        )
    if args.train_minutes <= 0:
        raise InputError(f"--train-minutes {args.train_minutes:g} is no time to train in; give more than 0.")
    end = started + 60 * args.minutes
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = load_config(SlotConfig, args.config, args.overrides)
    results = Results(args.out)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True, check=False)
    results.add(machine=machine(device), commit=commit.stdout.strip(), minutes=args.minutes)
    print(json.dumps(results.call["machine"]), flush=True)
    config = checked(config, device, results)
    results.add(seconds_before_training=round(time.monotonic() - started, 1))
    if args.check_only:
        send(args.out, args.back)
        return

    def kept(training: SlotTraining) -> None:
        sizes = {name: {"size": b.size, "clips_per_second": b.rates} for name, b in training.batches.items()}
        results.add(batches=sizes, evaluations=training.history, trained=vars(training.at), progress=training.progress)
        send(args.out, args.back)

    training = SlotTraining(config, args.out, device, 60 * args.train_minutes, kept, results.failed)
    results.add(held_out=training.held_out.kind)
    settings = config.model_dump(mode="json")
    (args.out / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    start = {"event": "start", "time": time.time(), **vars(training.at), "commit": results.call["commit"]}
    training.write({**start, "machine": results.call["machine"], "config": settings})
    ended = end - 60 * args.finish_minutes

    try:
        training.train(ended)
    except Exception:  # what was trained until then is to come back, whatever stopped it
        results.failed("training")
    try:
        training.keep(sampled=config.slot.held_out if device.type == "cuda" else None, steps=25)
    except Exception:
        results.failed("last checkpoint")
    done = training.progress >= 1
    print(f"trained {training.at.seconds / 60:.2f} of {args.train_minutes:g} minutes, {training.at.step} steps")
    if done and not args.no_bench:
        del training
        try:
            results.add(bench=measure(device, args.out / "bench", end))
        except Exception:
            results.failed("measurements")
    results.add(seconds=round(time.monotonic() - started, 1))
    for path in send(args.out, args.back):
        print(f"{path.stat().st_size / 1e6:7.2f} MB  {path.name}")
    if results.call["errors"]:
        raise InputError(f"{len(results.call['errors'])} part(s) of the slot failed; see results.json.")


def checked(config: SlotConfig, device: torch.device, results: Results) -> SlotConfig:
    """The configuration after a look at the renderers: clips are made by the CPU's, and that is told, where the
    device's does not run or shows something else."""
    clips = clips_of(config.data, config.seed)
    found: dict[str, Any] = {"scene_cpu_seconds": scene_seconds(clips)}
    if config.data.renderer == "device":
        found |= renderers(clips, device, 64 if device.type == "cuda" else 2)
        if not found["agrees"]:
            print("NOTE: the device's renderer is not used: " + json.dumps(found), flush=True)
            config = config.model_copy(update={"data": config.data.model_copy(update={"renderer": "cpu"})})
    found["renderer"] = config.data.renderer
    results.add(check=found)
    print(json.dumps(found), flush=True)
    return config
