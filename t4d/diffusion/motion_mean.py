"""The expected motion of a clip, told from frame 0 and words alone: the part of the denoiser that noise has no say in.

A denoiser of clips asks its whole network about every frame, though what is to move, and how, is mostly settled by the
object and the verb. This network asks once per view: its tokens are the cells of the reference pictures, all views
together, so a clip of 16 frames costs it a sixteenth of what as many layers cost the denoiser, and in training it needs
no noise. Where the denoiser predicts clean latents, its output is added to this estimate of their mean, the split of
mean and residual of CorrDiff (Mardani et al. 2023, arXiv:2309.15214). Not in the paper, whose motion modules come
trained (AnimateDiff); mini has to learn motion in CPU hours. Measured in `eval/results/mini_trials.md`.
"""

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from t4d.diffusion.attention import attend
from t4d.diffusion.positions import spatial_code
from t4d.diffusion.residual import Residual
from t4d.errors import InputError

FOLD = 4  # pixels per side that the appearance folds into channels, see `ReferenceAutoencoder.condition`
STEM = 32


class _Block(nn.Module):
    """Pre-norm self-attention and a squared-ReLU feed-forward (So et al. 2021); it starts as the identity."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for last in (self.to_out, self.narrow):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.to_qkv(self.norm_attention(x)).chunk(3, -1)
        x = x + self.to_out(attend(query.contiguous(), key.contiguous(), value.contiguous(), self.heads))
        return x + self.narrow(F.relu(self.widen(self.norm_forward(x))).square())


class MotionMean(ModelMixin, ConfigMixin):
    """Mean of the clean latents of a clip, given frame 0 of all views, the sentence and the cameras.

    Views and picture size are free in every call; frames up to `frames`, because a shorter clip is the beginning of a
    longer one (`train.draws.draw`).

    Args:
        latent_channels: C of a latent.
        appearance_channels: Cc of the frame-0 appearance: 4 x 4 pixels of Cc / 16 channels a cell.
        text_channels: D of a text token.
        pooled_channels: P of the pooled text vector; None: there is none.
        camera_channels: Length of a camera vector.
        width: Channels of a token.
        layers: Transformer blocks.
        heads: Of their attention.
        frames: Longest clip, frame 0 included.

    Raises:
        InputError: Sizes that do not go together.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int,
        appearance_channels: int,
        text_channels: int,
        pooled_channels: int | None,
        camera_channels: int,
        width: int = 192,
        layers: int = 6,
        heads: int = 3,
        frames: int = 16,
    ):
        super().__init__()
        if appearance_channels < 1 or appearance_channels % FOLD**2:
            raise InputError(
                f"A motion mean reads the appearance of frame 0, {FOLD} x {FOLD} pixels folded into channels, and the "
                f"network's cond_concat_channels are {appearance_channels}; give a multiple of {FOLD**2}."
            )
        if heads < 1 or width % 8 or width % heads or layers < 1 or frames < 2:
            raise InputError(
                f"A motion mean of width {width}, {heads} heads, {layers} layers and {frames} frames was asked for; "
                "the width must be a multiple of 8 and of the heads, with 1 layer and 2 frames or more."
            )
        self.width, self.frames, self.channels = width, frames, latent_channels
        self.stem = nn.Sequential(
            nn.Conv2d(appearance_channels // FOLD**2, STEM, 3, padding=1),
            Residual(STEM),
            nn.Conv2d(STEM, 2 * STEM, 3, stride=2, padding=1),
            Residual(2 * STEM),
            Residual(2 * STEM),
            nn.Conv2d(2 * STEM, width, 3, stride=2, padding=1),
        )
        self.camera = nn.Sequential(nn.Linear(camera_channels, width), nn.SiLU(), nn.Linear(width, width))
        self.text = nn.Linear(text_channels, width)
        self.pooled = None
        if pooled_channels is not None:
            self.pooled = nn.Sequential(nn.Linear(pooled_channels, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, (frames - 1) * latent_channels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        appearance: Tensor,
        text: Tensor,
        cameras: Tensor,
        pooled_text: Tensor | None = None,
        frames: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The mean clip, and what it was read from.

        Args:
            appearance: Of frame 0, [B, V, Cc, h, w].
            text: Tokens [B, L, D].
            cameras: [B, V, 16].
            pooled_text: [B, P].
            frames: T, at most the network's own, which is the default.

        Returns:
            Latents [B, V, T, C, h, w], whose frame 0 is zero, as the latents of frame 0 are; and the tokens behind
            them, [B, V, width, h, w]: what the object's parts are and what the sentence has them do.

        Raises:
            InputError: The clip is longer than the network's.
        """
        frames = self.frames if frames is None else frames
        if not 2 <= frames <= self.frames:
            raise InputError(
                f"A motion mean of {self.frames} frames was asked for a clip of {frames}; ask for 2 to {self.frames}."
            )
        B, V, _, h, w = appearance.shape
        x = F.pixel_shuffle(appearance.flatten(0, 1), FOLD).contiguous(memory_format=torch.channels_last)
        x = self.stem(x).flatten(2).transpose(1, 2)  # [B*V, h*w, width]
        x = (x + spatial_code(h, w, x.shape[-1], x.device, x.dtype)).view(B, V, h * w, -1)
        x = (x + self.camera(cameras)[:, :, None]).flatten(1, 2)
        x = torch.cat([x, self.text(text).to(x.dtype)], 1)
        if self.pooled is not None and pooled_text is not None:
            x = x + self.pooled(pooled_text)[:, None]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x[:, : V * h * w]).view(B, V, h, w, -1)
        out = self.head(x).view(B, V, h, w, self.frames - 1, self.channels)
        out = out[:, :, :, :, : frames - 1].permute(0, 1, 4, 5, 2, 3)
        return torch.cat([torch.zeros_like(out[:, :, :1]), out], 2), x.permute(0, 1, 4, 2, 3)
