"""Prepares training data.

    python train/dataset.py pack --source ../shared/data/rigs_cc0 --out data/rigs    rig packs from animated glTF files
    python train/dataset.py sheet --rigs data/rigs --out sheet.png                   look at what training sees
    python train/dataset.py cache --rigs data/rigs --count 400 --out data/cache128   rendered clips as npz
    python train/dataset.py shards --rigs data/rigs --count 4000 --out data/shards   ... as WebDataset shards
    python train/dataset.py convert --source MV-Video --out data/mv                  the public MV-Video layout
    python train/dataset.py videos --source my_videos --out data/mine                one's own videos, one a view
    python train/dataset.py track --clips data/mine --tracker cotracker3 --out data/mine_tracked
    python train/dataset.py latents --clips data/mine_tracked --model mini --out data/mine_latents

The tracker cotracker3 is Meta's CoTracker3, installed by you: its code and weights are CC-BY-NC 4.0, not for commercial
use. The tracker flow (OpenCV) needs neither weights nor such a licence.

The source folder of pack holds .glb files with skeletal animation, `catalog.json` (a list of {path, joint_set}) and
`split.json` (lists train, near, far of those paths). The default models are of Quaternius (https://quaternius.com,
CC0): download the packs Animated Animals, Cute Fish, Cyberpunk, Dinosaurs, Easy Enemies, Fish, Animated Mechs,
Platformer, Tanks and Ultimate Space Kit as glTF from there. They are 94 models, of which 71 are trained on: not near
and far, nor the twins of what evaluation animates (`t4d.data.catalog.EVALUATION_TWINS`). Any other rigged files work
too: without the two json files every file becomes its own joint set in split "train".
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the program's own folder stood there

import typer

from t4d.errors import InputError
from train.prepare_rigs import cache, pack, sheet
from train.prepare_shards import latents, shards
from train.prepare_videos import convert, track, videos

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
for command in (pack, sheet, cache, shards, convert, videos, track, latents):
    app.command()(command)


def main() -> None:
    """Bad input ends with its sentence and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
