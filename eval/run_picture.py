"""One picture of a run folder: two generated views over time, the fitted asset from a circling camera below.

    python -m t4d animate assets/objects/dragon.glb "a dragon is flying" -o RUN
    python -m eval.run_picture RUN [--out assets/readme.png]

The picture at the top of the README is made so.
"""

import argparse
import sys
from pathlib import Path

import torch
from pydantic import ValidationError

from t4d.config import Config
from t4d.data.clip import Clip
from t4d.errors import InputError
from t4d.export.contact_sheet import write_contact_sheet
from t4d.export.video import render_orbit
from t4d.motion.asset import MotionAsset
from t4d.steps import CLIP, read_json

COLUMNS = 6
VIEWS = 2


def picture(run: Path, out: Path) -> Path:
    """Writes the picture.

    Args:
        run: Folder of a finished run.
        out: The PNG.

    Raises:
        InputError: The folder holds no finished run.
    """
    files = [run / name for name in (CLIP, "asset.safetensors", "run.json")]
    if missing := [path.name for path in files if not path.is_file()]:
        raise InputError(f"{run} has no {', '.join(missing)}; give the folder of a finished `python -m t4d animate`.")
    clip, asset = Clip.load(files[0]), MotionAsset.load(files[1])
    try:
        g = Config.model_validate(read_json(files[2])["config"]).geometry
    except (ValidationError, KeyError) as error:
        raise InputError(f"{files[2]} is of another version of this program; run the object again.") from error
    generated = clip.rgb[:VIEWS]
    side, frames = generated.shape[-1], asset.frames
    orbit = render_orbit(
        asset.at, frames, length=frames, size=side, elevation=g.elevation, start_azimuth=g.azimuths[0],
        distance=g.distance, vfov=g.vfov,
    )  # fmt: skip
    rows = torch.cat([generated.float(), orbit.permute(0, 3, 1, 2)[None]])
    labels = [*(f"generated, view {view}" for view in range(len(generated))), "fitted asset, circling"]
    return write_contact_sheet(out, rows, max_frames=COLUMNS, view_labels=labels, min_tile=192)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("run.png"))
    arguments = parser.parse_args()
    try:
        print(picture(arguments.run, arguments.out))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
