"""Contact sheets of a model in training."""

from pathlib import Path

import torch

from t4d.data.dataset import ClipDataset
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import sample_clip
from t4d.export.contact_sheet import write_contact_sheet
from t4d.geometry.camera import rig
from train.config import StageOneTrainConfig

HELD_OUT = 900_000  # the far end of the endless data, which training never reaches


@torch.no_grad()
def write_sheet(model: VideoModel, config: StageOneTrainConfig, path: Path) -> None:
    """Each of a few unseen clips above a sample from its first frame, in two views.

    Args:
        model: Networks in evaluation mode.
        config: See `StageOneTrainConfig`.
        path: PNG file.
    """
    data = config.data
    source = ClipDataset(data.rigs, procedural_fraction=0.3 if data.rigs else 1.0, side=data.side, seed=config.seed)
    cameras, rows = rig(width=data.side, height=data.side), []
    for i in range(config.sheet_clips):
        clip = source[HELD_OUT + i]
        for state in sample_clip(model, clip["rgba"][:, 0], cameras, clip["caption"], steps=12, seed=i):
            if state.clip_rgba is not None:
                rows += [clip["rgba"][0, ::2, :3], state.clip_rgba[0, ::2, :3], state.clip_rgba[1, ::2, :3]]
    if rows:
        write_contact_sheet(path, torch.stack(rows))
