"""Does a run of Stage One on a few clips know them by heart? Sampled from frame 0 and caption alone.

    python train/stage1.py --config train/configs/memory.yaml --out RUN data.rigs=RIGS
    python -m eval.memorised RUN [--steps 25] [--clips N] [--seed 0]

Every clip that the run cycled through (`data.clips`), one view at a time as the run saw them, is sampled from noise,
frame 0 and caption. PSNR of frames 1..T-1 over the union of both masks (`t4d.metrics.pictures.masked_mse`) of the
sample, of copying frame 0, and of the decoded exact latents, which no sample can beat. A sheet beside the run shows
truth, sample and exact latents under each other.
"""

import argparse
import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.stage1_probe import latent_maps
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.errors import InputError
from t4d.export.contact_sheet import write_contact_sheet
from t4d.geometry.camera import orbit_camera
from t4d.metrics.pictures import masked_mse, psnr
from train.config import StageOneTrainConfig, load_config
from train.sources import rendered_or_stored


@torch.no_grad()
def recalled(model: VideoModel, item: dict[str, Any], view: int, steps: int, seed: int) -> dict[str, Tensor]:
    """Truth, sample, still copy and decoded exact latents of one view of a clip, [1, T, 4, H, W] each."""
    seen = {**item, **{k: item[k][view : view + 1] for k in ("rgba", "flow", "cameras")}}
    truth = seen["rgba"]
    # ClipDataset's cameras are the network's numbers; `sample_clip` takes the cameras themselves
    elevation, azimuth = angles(seen["cameras"][0])
    camera = orbit_camera(azimuth, elevation, width=truth.shape[-1], height=truth.shape[-2])
    states = sample_clip(model, truth[:, 0], [camera], item["caption"], frames=truth.shape[1], steps=steps, seed=seed)
    sample = deque(states, maxlen=1).pop().clip_rgba
    assert sample is not None  # of the last step
    exact = model.autoencoder.decode(latent_maps(model, seen)[None], truth[None, :, 0])[0]
    return {"truth": truth, "sample": sample, "copy": truth[:, :1].expand_as(truth), "exact": exact}


def angles(camera: Tensor) -> tuple[float, float]:
    """(elevation, azimuth) in degrees of the 16 numbers of `t4d.geometry.camera.network_camera`."""
    x, y, z = camera.double().view(4, 4)[:3, 3].tolist()
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run of train/stage1.py")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--clips", type=int, help="the first so many; default: all of the run's")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling noise")
    args = parser.parse_args()
    for name in ("clips", "steps"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}; give 1 or more")
    torch.set_num_threads(1)
    try:
        config = load_config(StageOneTrainConfig, args.run / "config.yaml", [])
        data, count = rendered_or_stored(config.data, config.seed)
        if count is None:
            raise InputError(f"{args.run} is of a run on endless clips; give one with data.clips")
        model = VideoModel.load(str(args.run / "model"))
    except InputError as error:
        parser.error(str(error))
    rows, found = [], []
    print("| clip | caption | sample, dB | copying frame 0 | exact latents |\n| --- | --- | --- | --- | --- |")
    for i in range(min(args.clips or count, count)):
        item = data[i]
        view = i % len(item["rgba"])
        clips = recalled(model, item, view, args.steps, args.seed)
        truth = clips["truth"][:, 1:]
        found.append([psnr(masked_mse(truth, clips[name][:, 1:])) for name in ("sample", "copy", "exact")])
        rows += [clips[name][0, :, :3] for name in ("truth", "sample", "exact")]
        what = f"{item['name'].rsplit('/', 1)[-1]} {item['clip']}, view {view}"
        print(f"| {what} | {item['caption']} | {' | '.join(f'{x:.1f}' for x in found[-1])} |", flush=True)
    mean = np.mean(found, 0)
    above = sum(sample > copy for sample, copy, _ in found)
    print(f"| mean | {above} of {len(found)} above copying | {' | '.join(f'{x:.1f}' for x in mean)} |")
    write_contact_sheet(args.run / "memorised.png", torch.stack(rows).clamp(0, 1))


if __name__ == "__main__":
    main()
