"""Puts a trained mini together: ``python -m train.ship RUN [--before RUN ...] [--autoencoder RUN] [--out FOLDER]``.

Writes the averaged networks of RUN, checked by loading them again, and under training/ the log and the resolved
configuration of every run that led to them, oldest first. What training/ holds of another version is kept under that
version's name (v0_stage1.jsonl); of the same version it is replaced. Without --autoencoder RUN's own is shipped.
Nothing is changed when a run lacks something. The model card is written by hand: a stale one is told.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import nn

from t4d.data.latents import autoencoder_digest
from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.model import INDEX, PARTS, VideoModel
from t4d.diffusion.weights import load_module
from t4d.errors import InputError
from t4d.paths import ASSETS
from train.checkpoint import replace_folder

# of a configuration; and data's:
PLACES = ("out", "weights", "autoencoder", "text_encoder", "motion_mean", "latents", "fork", "pool")
DATA_PLACES = ("rigs", "cache", "shards")
LATENTS = ("working_side", "latent_scale")  # of an autoencoder's configuration: what decides what a latent means
CARD = "MODEL_CARD.md"
PROGRAMS = ("stage1", "motion_mean")  # whose logs carry their names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage1", type=Path)
    parser.add_argument("--before", type=Path, nargs="*", default=[], help="runs that it started from, oldest first")
    parser.add_argument("--autoencoder", type=Path)
    parser.add_argument("--out", type=Path, default=ASSETS / "weights" / "mini")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--truncation", type=float, help="of sampling, see t4d.diffusion.sampler")
    parser.add_argument("--label")
    args = parser.parse_args()
    try:
        model = ship(args.stage1, args.out, args.before, args.autoencoder, args.guidance, args.label, args.truncation)
    except InputError as error:
        sys.exit(f"error: {error}")
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    print(f"{model.label}: {args.out}, {size / 1e6:.1f} MB, {model.meta}")
    card = args.out / CARD
    if not card.is_file() or version(model.label) not in card.read_text():
        print(f"NOTE: {card} says nothing of {version(model.label) or model.label!r}; write it")


def ship(
    run: Path,
    out: Path,
    before: Sequence[Path] = (),
    autoencoder: Path | None = None,
    guidance: float | None = None,
    label: str | None = None,
    truncation: float | None = None,
) -> VideoModel:
    """Writes the model and its record.

    Args:
        run: Run folder of Stage One.
        out: Model folder; an earlier model there is replaced.
        before: Runs that it started from, oldest first.
        autoencoder: Run folder of an autoencoder to put in.
        guidance: Default scale; None: the run's.
        label: None: the run's.
        truncation: Default of sampling; None: the run's.

    Returns:
        The model as it was written.

    Raises:
        InputError: A run lacks its model, log or configuration, the autoencoder's latents are others than the run's,
            weights are not finite, or what was written does not load as it was.
    """
    runs = [*before, run]
    records = [record(each) for each in runs]
    decoder = record(autoencoder) if autoencoder is not None else None
    model = VideoModel.load(run / "model")
    if autoencoder is not None:
        # the denoiser never saw the decoder (its latents are exact flow), so a later one may take its place
        later = load_module(ReferenceAutoencoder, autoencoder / "autoencoder")
        for name in LATENTS:
            ours, theirs = cast(Any, later).config[name], cast(Any, model.autoencoder).config[name]
            if ours != theirs:
                raise InputError(
                    f"{autoencoder} has {name} {ours} and {run} was trained with {theirs}: its latents mean something "
                    "else; train Stage One on this autoencoder first."
                )
        model.autoencoder = later
    if guidance is not None:
        model.meta["guidance"] = guidance
    if truncation is not None:
        model.meta["truncation"] = truncation
    if label is not None:
        model.label = label

    logs, old = out / "training", earlier(out)
    digest = autoencoder_digest(cast(nn.Module, model.autoencoder))
    keeps_autoencoder = old is not None and autoencoder_digest(cast(nn.Module, old.autoencoder)) == digest
    part = prepared(model, out)
    # before the new model stands there: a rerun after a kill would take the earlier version's logs for its own
    logs.mkdir(parents=True, exist_ok=True)
    put_aside(logs, None if old is None else old.label, model.label, keeps_autoencoder)
    put(part, out)
    for i, (log, config) in enumerate(records):
        name = f"{program_of(log)}_{i}"
        (logs / f"{name}.jsonl").write_text(log)
        (logs / f"{name}.yaml").write_text(config)
    if decoder is not None:
        (logs / "autoencoder.jsonl").write_text(decoder[0])
        (logs / "mini_autoencoder.yaml").write_text(decoder[1])
    return model


def earlier(out: Path) -> VideoModel | None:
    """The model that a folder holds; None where it holds none."""
    return VideoModel.load(out) if (out / INDEX).is_file() else None


def prepared(model: VideoModel, out: Path) -> Path:
    """Writes a model beside its place and loads it again; the folder stays only if it is what was to be written."""
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    model.save(part)
    try:
        check_same(model, VideoModel.load(part))
    except InputError:
        shutil.rmtree(part)
        raise
    return part


def put(part: Path, out: Path) -> None:
    """Moves a prepared model to its place; an earlier one goes."""
    for name in PARTS:
        if (part / name).is_dir():
            replace_folder(part / name, out / name)
        else:
            shutil.rmtree(out / name, ignore_errors=True)
    (part / INDEX).replace(out / INDEX)
    part.rmdir()


def check_same(model: VideoModel, again: VideoModel) -> None:
    """Raises `InputError` unless a loaded model is the given one, in float16."""
    if model.parts.keys() != again.parts.keys() or (model.label, model.meta) != (again.label, again.meta):
        raise InputError(f"{model.label!r} was written and {again.label!r} was read; parts or settings differ.")
    for name, part in model.parts.items():
        states = part.state_dict(), again.parts[name].state_dict()
        for key, value in states[0].items():
            wanted = value.half().to(value) if value.is_floating_point() else value
            if not bool(torch.isfinite(wanted).all()):
                raise InputError(f"{name}.{key} has values that float16 cannot hold; the run's weights are bad.")
            if not torch.equal(wanted, states[1][key].to(value)):
                raise InputError(f"{name}.{key} is read otherwise than it was written; see t4d.diffusion.weights.")


def version(label: str) -> str:
    """ "v1" of "mini v1, ..."; "" where a label names none."""
    found = re.search(r"\bv\d+\b", label)
    return found.group() if found else ""


def put_aside(logs: Path, old: str | None, new: str, keeps_autoencoder: bool) -> None:
    """Makes room for a version's logs: another version's get that version's name, the same version's go.

    Args:
        logs: Their folder.
        old: Label of the model that was there; None: there was none.
        new: Label of the model that comes.
        keeps_autoencoder: The autoencoder is the same: its log stays what it is.
    """
    if old is not None and version(old) and version(old) == version(new):
        for path in [path for name in PROGRAMS for path in logs.glob(f"{name}_*")]:
            path.unlink()
        return
    for path in sorted(p for p in logs.iterdir() if p.is_file()):
        if re.match(r"(v\d+|earlier)_", path.name) or (keeps_autoencoder and "autoencoder" in path.name):
            continue
        name = f"{version(old or '') or 'earlier'}_{path.name}"
        while (logs / name).exists():
            name = f"{version(old or '') or 'earlier'}_{name}"
        path.replace(logs / name)


def record(run: Path) -> tuple[str, str]:
    """A run's log and resolved configuration as text, without its machine's paths.

    Raises:
        InputError: One of them is missing or cannot be read.
    """
    for name in ("log.jsonl", "config.yaml"):
        if not (run / name).is_file():
            raise InputError(f"{run} has no {name}; give the folder of a run of train/.")
    lines, rows = (run / "log.jsonl").read_text().splitlines(), []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):  # a kill leaves the last line half written
                raise InputError(f"Line {number} of {run / 'log.jsonl'} is not JSON ({error}).") from error
    rows = [{**row, "config": without_places(row["config"])} if "config" in row else row for row in rows]
    config = without_places(yaml.safe_load((run / "config.yaml").read_text()))
    return "".join(json.dumps(row) + "\n" for row in rows), yaml.safe_dump(config, sort_keys=False)


def program_of(log: str) -> str:
    """Which of `PROGRAMS` wrote a log; logs of before they said so are of Stage One."""
    said = {json.loads(line).get("program") for line in log.splitlines()[:1]}
    return next((name for name in PROGRAMS if name in said), PROGRAMS[0])


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with names in place of paths: where runs lay on the training machine is nobody's business."""
    kept = {key: Path(value).name if key in PLACES and value else value for key, value in config.items()}
    data = config.get("data", {})
    kept["data"] = {key: Path(value).name if key in DATA_PLACES and value else value for key, value in data.items()}
    return kept


if __name__ == "__main__":
    main()
