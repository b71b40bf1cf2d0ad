"""Contact sheets of a model in training."""

from pathlib import Path

import torch
from torch import Tensor

from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.export.contact_sheet import write_contact_sheet
from t4d.geometry.camera import rig
from train.config import StageOneTrainConfig
from train.sources import rendered

HELD_OUT = 900_000  # the far end of the endless data, which training never reaches


@torch.no_grad()
def write_sheet(model: VideoModel, config: StageOneTrainConfig, path: Path) -> None:
    """Each of a few unseen clips above a sample from its first frame, in two views, of the run's own size.

    Args:
        model: Networks in evaluation mode, on any device.
        config: See `StageOneTrainConfig`.
        path: PNG file.
    """
    data = config.data
    # stored clips were not drawn by data.verbs, and procedural objects may know none of these
    verbs = data.verbs if data.cache is None and data.shards is None else ()
    # all are seen by the rig whose cameras the network is told
    source = rendered(data, config.seed, verbs=verbs, rig_fraction=1.0, grid=0)
    cameras = rig(azimuths=[k * 360 / data.views for k in range(data.views)], width=data.side, height=data.side)
    rows: list[Tensor] = []
    for i in range(config.sheet_clips):
        clip = source[HELD_OUT + i]
        for state in sample_clip(
            model, clip["rgba"][:, 0], cameras, clip["caption"], frames=data.frames, steps=12, seed=i
        ):
            if state.clip_rgba is not None:
                made = state.clip_rgba.float().cpu()
                rows += [view[:, :3] for view in (clip["rgba"][0], *made[:2])]
    if rows:
        write_contact_sheet(path, torch.stack(rows))
