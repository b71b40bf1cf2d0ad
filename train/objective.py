"""Stage One's objective: lambda_1 L_diff (Eq. 3) + lambda_2 L_corr (Eq. 4) + lambda_3 L_pos (Eq. 5), one pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from t4d.diffusion.features import FeatureTap, resolve_layer
from t4d.diffusion.interfaces import ImageEncoder, TextEncoder
from t4d.diffusion.losses import diffusion_loss
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import PredictionType
from t4d.diffusion.unet import MultiViewMotionUNet
from t4d.errors import InputError
from t4d.tracking.losses import tracking_terms
from train.config import StageOneTrainConfig
from train.networks import freeze


@dataclass(frozen=True)
class Points:
    """Tracked points of a batch.

    Attributes:
        xy: Pixels [B, V, T, P, 2].
        visible: [B, V, T, P].
        chosen: Which of the P places hold a point, [B, V, P].
        image_size: (H, W) that the pixels count in.
    """

    xy: Tensor
    visible: Tensor
    chosen: Tensor
    image_size: tuple[int, int]


@dataclass(frozen=True)
class Noised:
    """What the networks see of a batch.

    Attributes:
        z: Clean latents [B, V, T, C, h, w].
        z_t: Noised ones (Eq. 1, 2).
        noise: The noise of z_t.
        t: Times [B].
        reference: Frame 0 of every view [B, V, 4, H, W].
        appearance: Of frame 0, [B, V, Cc, h, w], or None.
        cameras: [B, V, 16].
        captions: B sentences.
        points: None where the tracking losses are off.
    """

    z: Tensor
    z_t: Tensor
    noise: Tensor
    t: Tensor
    reference: Tensor
    appearance: Tensor | None
    cameras: Tensor
    captions: list[str]
    points: Points | None


def clip_weights(z: Tensor, balance: float) -> Tensor | None:
    """Factor 1 / (1 + E / balance) of each clip's L_diff, E its mean square over frames 1..; not in the paper.

    Where a latent is a motion, squares are of a hundred times another size from clip to clip, and a network without the
    time to learn everything learns the few that leap.

    Args:
        z: Clean latents [B, V, T, C, h, w].
        balance: Mean square at which a clip counts half; 0: every clip counts alike.

    Returns:
        [B], or None where `balance` is 0.
    """
    if not balance:
        return None
    return 1 / (1 + z[:, :, 1:].float().square().flatten(1).mean(1) / balance)


class Objective(nn.Module):
    """Denoiser and the encoders that train with it, with the three losses of one forward pass.

    The losses leave as sums, because what they are divided by is counted over all micro-steps and processes.

    Args:
        model: The networks; those of it that are not named by `config.trainable` are frozen.
        config: See `StageOneTrainConfig`.

    Raises:
        InputError: `config.mean_weight` is set and the network has no motion mean.

    Attributes:
        tapped: Features of the latest pass that the tracking losses read, [B * V * T, C, h, w], with their graph.
    """

    def __init__(self, model: VideoModel, config: StageOneTrainConfig):
        super().__init__()
        self.unet = model.unet
        self.text_encoder = cast(nn.Module, model.text_encoder)
        self.image_encoder = cast(nn.Module, model.image_encoder)
        self.kind: PredictionType = model.prediction_type
        self.tracking, self.balance, self.mean_weight = config.tracking, config.balance, config.mean_weight
        if self.mean_weight and getattr(self.unet, "expected_motion", None) is None:
            raise InputError("mean_weight is set and the network has no motion mean; set model.motion_mean.")
        self.layer = resolve_layer(self.unet, config.tracking.layer)
        self.tapped: Tensor | None = None
        self.register_buffer("alphas_cumprod", model.alphas_cumprod, persistent=False)
        self.alphas_cumprod: Tensor
        freeze(self, config.trainable)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name, as they are now: splitting them over processes replaces them."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def forward(self, batch: Noised) -> dict[str, Tensor]:
        """Sums over the batch, float32 scalars.

        Returns:
            "diff": each clip's L_diff; "mean": the same of the motion mean alone, if that has weight; "corr" and "pos",
            where there are points: all terms of L_corr and L_pos.
        """
        text, pooled = cast(TextEncoder, self.text_encoder).encode(batch.captions)
        image = cast(ImageEncoder, self.image_encoder).encode(batch.reference)
        with FeatureTap(self.unet, [self.layer]) as tap, self._mean_clips() as means:
            found = self.unet(
                batch.z_t,
                batch.t,
                text=text,
                image_embeds=image,
                cameras=batch.cameras,
                cond_concat=batch.appearance,
                pooled_text=pooled,
            )
        self.tapped = tap.raw[self.layer]
        weight = clip_weights(batch.z, self.balance)
        each = diffusion_loss(found, batch.z, batch.noise, batch.t, self.alphas_cumprod, self.kind, weight)
        sums = {"diff": each * len(batch.z)}
        if self.mean_weight:
            (mean,), later = means, (slice(None), slice(None), slice(1, None))
            error = (mean[later].float() - batch.z[later].float()).square().flatten(1).mean(1)
            sums["mean"] = (error if weight is None else error * weight).sum()
        if batch.points is not None:
            c, p = self.tracking, batch.points
            terms = tracking_terms(
                tap.maps()[self.layer],
                p.xy,
                p.visible,
                p.chosen,
                p.image_size,
                temperature=c.temperature,
                radius=c.radius,
                huber_delta=c.huber_delta,
                masked=c.masked,
                positions=c.lambda_pos > 0,
            )
            sums.update(corr=terms.corr_sum, pos=terms.pos_sum)
        return sums

    @contextmanager
    def _mean_clips(self) -> Iterator[list[Tensor]]:
        """Collects what the motion mean says in the passes of the network, where its own error has weight."""
        found: list[Tensor] = []
        if not self.mean_weight:
            yield found
            return
        mean = cast(nn.Module, cast(MultiViewMotionUNet, self.unet).expected_motion)
        handle = mean.register_forward_hook(lambda _, __, output: found.append(output[0]))
        try:
            yield found
        finally:
            handle.remove()
