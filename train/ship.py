"""Puts a trained mini together: ``python -m train.ship RUN [--before RUN ...] [--autoencoder RUN] [--out FOLDER]``.

Writes the averaged networks of RUN, and under training/ the log and the resolved configuration of every run that led
to them, oldest first. Without --autoencoder RUN's own stays, and so does its log where --out holds one.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.model import VideoModel
from t4d.diffusion.weights import load_module
from t4d.paths import ASSETS

PLACES = ("out", "weights", "autoencoder", "text_encoder", "latents")  # of a configuration; and data's:
DATA_PLACES = ("rigs", "cache", "shards")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage1", type=Path)
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="runs that it started from, oldest first")
    parser.add_argument("--autoencoder", type=Path)
    parser.add_argument("--out", type=Path, default=ASSETS / "weights" / "mini")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--label")
    args = parser.parse_args()
    model = VideoModel.load(args.stage1 / "model")
    if args.autoencoder is not None:
        # the denoiser never saw the decoder (its latents are exact flow), so a later one may take its place
        model.autoencoder = load_module(ReferenceAutoencoder, args.autoencoder / "autoencoder")
    if args.guidance is not None:
        model.meta["guidance"] = args.guidance
    if args.label is not None:
        model.label = args.label
    model.save(args.out)
    logs = args.out / "training"
    logs.mkdir(exist_ok=True)
    for old in logs.glob("stage1*"):
        old.unlink()
    runs = [*args.before, args.stage1]
    for i, run in enumerate(runs):
        copy_log(run, logs / f"stage1_{i}.jsonl")
        copy_config(run, logs / f"stage1_{i}.yaml")
    if args.autoencoder is not None:
        copy_log(args.autoencoder, logs / "autoencoder.jsonl")
        shutil.copyfile(Path(__file__).parent / "configs" / "mini_autoencoder.yaml", logs / "mini_autoencoder.yaml")
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{model.label}: {args.out}, {size / 1e6:.1f} MB, {model.meta}")


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with names in place of paths: where runs lay on the training machine is nobody's business."""
    kept = {key: Path(value).name if key in PLACES and value else value for key, value in config.items()}
    data = config.get("data", {})
    kept["data"] = {key: Path(value).name if key in DATA_PLACES and value else value for key, value in data.items()}
    return kept


def copy_log(run: Path, to: Path) -> None:
    """A run's log.jsonl without its machine's paths."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    rows = [{**row, "config": without_places(row["config"])} if "config" in row else row for row in rows]
    to.write_text("".join(json.dumps(row) + "\n" for row in rows))


def copy_config(run: Path, to: Path) -> None:
    """A run's resolved configuration without its machine's paths."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    to.write_text(yaml.safe_dump(without_places(config), sort_keys=False))


if __name__ == "__main__":
    main()
