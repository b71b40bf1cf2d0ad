"""Mini's picture encoder: a small convolutional network, trained with the denoiser."""

import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from t4d.errors import InputError


class MiniImageEncoder(ModelMixin, ConfigMixin):
    """Reference pictures to one vector each (satisfies ``ImageEncoder``).

    Args:
        width: Length Di of a vector.
        channels: Channels of the first convolution; every further one doubles them.
        side: Pictures are averaged down to this side.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, width: int = 64, channels: int = 16, side: int = 32):
        super().__init__()
        self.side = side
        c = channels
        self.layers = nn.Sequential(
            nn.Conv2d(4, c, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(c, 2 * c, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * c, 4 * c, 3, stride=2, padding=1),
            nn.SiLU(),
        )
        self.out = nn.Linear(4 * c * (side // 8) ** 2, width)

    def encode(self, rgba: Tensor) -> Tensor:
        """Vectors [B, V, Di] of pictures [B, V, 4, H, W] in 0..1; see ``ImageEncoder``."""
        b, v, _, h, w = rgba.shape
        if h != w or h % self.side:
            raise InputError(f"Pictures are {w}x{h}; the picture encoder takes squares, multiples of {self.side} px.")
        x = F.avg_pool2d(rgba.flatten(0, 1), h // self.side)
        x = x - x.new_tensor([0.5, 0.5, 0.5, 0.0]).view(4, 1, 1)
        return self.out(self.layers(x).flatten(1)).unflatten(0, (b, v))
