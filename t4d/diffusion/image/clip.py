"""CLIP's image tower behind the picture interface (IP-Adapter's image prompt)."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

# OpenAI CLIP's pixel statistics
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class CLIPPictureEncoder(ModelMixin, ConfigMixin):
    """Projected pooled embedding of CLIP ViT-H/14.

    Pictures are prepared here, from floats in 0..1, not by ``CLIPImageProcessor``: given such floats it divides by 255
    a second time in current transformers and the tower sees black.

    Args:
        vision_config: Fields of ``transformers.CLIPVisionConfig``; None: ViT-H/14 (1280 wide, 32 layers, 1024 out).
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, vision_config: dict[str, Any] | None = None):
        super().__init__()
        stock = {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
            "projection_dim": 1024,
            "hidden_act": "gelu",
        }
        config = CLIPVisionConfig(**(stock if vision_config is None else dict(vision_config)))
        self.tower = CLIPVisionModelWithProjection(config)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(STD)[:, None, None], persistent=False)

    def prepare(self, rgb: Tensor) -> Tensor:
        """Shortest edge to the tower's side (bicubic), centre crop, CLIP's mean and deviation.

        Args:
            rgb: [N, 3, H, W] in 0..1.

        Returns:
            [N, 3, S, S].
        """
        side = int(self.tower.config.image_size)  # type: ignore[arg-type]
        height, width = rgb.shape[-2:]
        scale = side / min(height, width)
        size = (max(side, round(height * scale)), max(side, round(width * scale)))
        rgb = F.interpolate(rgb, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        crop = rgb[:, :, top : top + side, left : left + side]
        return (crop - self.mean) / self.deviation  # type: ignore[operator]

    @torch.no_grad()
    def encode(self, rgba: Tensor) -> Tensor:
        """Embeddings [B, V, Di] of pictures [B, V, 4, H, W] in 0..1 (coverage is not used)."""
        pixels = self.prepare(rgba.flatten(0, 1)[:, :3].float()).to(self.dtype)
        return self.tower(pixels).image_embeds.unflatten(0, rgba.shape[:2])
