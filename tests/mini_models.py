"""The shipped mini's networks for tests, whatever motion mean it has."""

from typing import cast

import torch

from t4d.diffusion.model import VideoModel
from t4d.diffusion.unet import MultiViewMotionUNet


def plain_mini() -> VideoModel:
    """The shipped networks around a denoiser without a motion mean; its weights are new ones."""
    torch.manual_seed(0)
    found = VideoModel.load("mini")
    config = {k: v for k, v in cast(MultiViewMotionUNet, found.unet).config.items() if not k.startswith("_")}
    found.unet = MultiViewMotionUNet(**{**config, "motion_mean": None})
    return found
