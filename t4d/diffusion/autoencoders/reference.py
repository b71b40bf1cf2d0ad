"""Mini's autoencoder: a latent is the motion of a frame against frame 0, the decoder warps frame 0.

A latent holds the backward optical flow on a grid twice as fine as itself, companded and folded into its channels. The
encoder estimates it from pictures; training clips have it exactly. The decoder enlarges the flow, refines it against
frame 0, and adds what flow cannot say: coverage, light, surfaces that frame 0 does not show. Frame 0 itself is warped
at full size. So identity and sharpness come from the object, a zero latent decodes to frame 0, and the decoded
coverage is the mask of the generated clip.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from t4d.diffusion.residual import Residual
from t4d.errors import InputError

GREY = 0.5
LEAST_ALPHA = 0.05  # below this coverage a pixel's own colour is not worth recovering
FLOW_UNIT = 0.25  # network output 1 = an eighth of the picture's width: keeps the head's weights of ordinary size
FLOW_KNEE = 0.03  # flow up to about here (two pixels of 128) enters a latent linearly, more by its logarithm
LATENT_CHANNELS = 8  # two flow components on 2 x 2 sub-cells


class _Pyramid(nn.Module):
    """Features at 1/2, 1/4 and 1/8 of the working side."""

    def __init__(self, in_channels: int, widths: tuple[int, int, int]):
        super().__init__()
        a, b, c = widths
        self.at_half = nn.Sequential(nn.Conv2d(in_channels, a, 5, stride=2, padding=2), Residual(a))
        self.at_quarter = nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), Residual(b))
        self.at_eighth = nn.Sequential(nn.Conv2d(b, c, 3, stride=2, padding=1), Residual(c), Residual(c))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = self.at_half(x)
        quarter = self.at_quarter(half)
        return half, quarter, self.at_eighth(quarter)


@dataclass
class Decoded:
    """What the decoder says before frame 0 is warped; N pictures at the working side w.

    Attributes:
        flow: [N, 2, w, w] where a pixel's surface was in frame 0, minus the pixel; -1..1 units (picture width 2).
        coverage: [N, 1, w, w] added to the warped alpha.
        color: [N, 3, w, w] added to the warped colour: light, and surfaces that frame 0 does not show.
    """

    flow: Tensor
    coverage: Tensor
    color: Tensor


def warp_reference(reference_rgba: Tensor, decoded: Decoded) -> Tensor:
    """Frame 0 pulled through the flow, then re-covered and re-coloured.

    Args:
        reference_rgba: [N, 4, H, W] over mid-grey.
        decoded: at any side; enlarged to H x W.

    Returns:
        [N, 4, H, W], not clamped. With all of `decoded` zero it is the reference, to rounding, for pictures whose
        colour differs from grey only where they are covered (faintly covered pixels fade a little further).
    """
    side = reference_rgba.shape[-2:]
    parts = torch.cat([decoded.flow, decoded.coverage, decoded.color], 1).float()
    if parts.shape[-2:] != side:
        parts = F.interpolate(parts, size=side, mode="bilinear", align_corners=False)
    flow, coverage, color = parts.split([2, 1, 3], 1)
    h, w = side
    x = (torch.arange(w, device=flow.device, dtype=torch.float32) + 0.5) * (2 / w) - 1
    y = (torch.arange(h, device=flow.device, dtype=torch.float32) + 0.5) * (2 / h) - 1
    here = torch.stack([x[None, :].expand(h, w), y[:, None].expand(h, w)], -1)
    source = torch.cat([reference_rgba[:, :3] - GREY, reference_rgba[:, 3:]], 1).float()
    moved = F.grid_sample(source, here + flow.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)
    # moving is exact only up to rounding; where nothing moves the picture itself is taken
    moved = torch.where((flow == 0).all(1, keepdim=True), source, moved)
    # no gradient through the division: on a silhouette's faint rim it is hundreds of times everything else
    paint = moved[:, :3] / moved[:, 3:].detach().clamp_min(LEAST_ALPHA)
    # a covered pixel keeps its colour whatever its coverage becomes: uncovering cannot drag the object along
    alpha = moved[:, 3:] + coverage
    return torch.cat([GREY + alpha.clamp(0, 1) * (paint + color), alpha], 1)


class ReferenceAutoencoder(ModelMixin, ConfigMixin):
    """Reference-conditioned RGBA autoencoder (satisfies ``ClipAutoencoder``).

    Args:
        widths: Channels at 1/2, 1/4, 1/8 of the working side.
        working_side: Pictures are averaged down to this side for the networks; latents have an eighth of it.
        image_side: Nominal picture side, which defines ``factor``.
        latent_scale: Standard deviation of companded flow over training frames 1.., which latents are divided by.
    """

    config_name = "config.json"
    condition_channels = 64

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, int, int] = (32, 64, 96),
        working_side: int = 64,
        image_side: int = 128,
        latent_scale: float = 0.7,
    ):
        super().__init__()
        a, b, c = cast(tuple[int, int, int], tuple(widths))
        if image_side % working_side or working_side % 8:
            raise InputError(f"Working side {working_side} must be a multiple of 8 that divides {image_side}.")
        self.latent_channels = latent_channels = LATENT_CHANNELS
        self.latent_scale = latent_scale
        self.working_side = working_side
        self.factor = image_side * 8 // working_side
        self.encoder = _Pyramid(12, (a, b, c))
        self.to_latent = nn.Conv2d(c, latent_channels, 1)
        self.reference = _Pyramid(4, (a, b, c))
        self.from_latent = nn.Conv2d(latent_channels, c, 3, padding=1)
        self.at_eighth = nn.Sequential(Residual(c), Residual(c), nn.Conv2d(c, 4 * b, 1), nn.PixelShuffle(2))
        self.at_quarter = nn.Sequential(Residual(b), Residual(b), nn.Conv2d(b, 4 * a, 1), nn.PixelShuffle(2))
        self.at_half = Residual(a)
        self.to_flow = nn.Conv2d(a, 2, 3, padding=1)
        self.look = nn.Conv2d(2 * a + 16 + 2, a, 3, padding=1)
        self.after_look = nn.Sequential(Residual(a), Residual(a))
        self.to_parts = nn.Conv2d(a, 6 * 4, 3, padding=1)
        for head in (self.to_flow, self.to_parts):
            nn.init.normal_(head.weight, std=1e-2)
            nn.init.zeros_(cast(Tensor, head.bias))

    def _work(self, rgba: Tensor) -> Tensor:
        """Pictures averaged to the working side and centred, [N, 4, w, w]."""
        h, w = rgba.shape[-2:]
        side = self.working_side
        if h != w or h % side:
            raise InputError(f"Pictures are {w}x{h}, the autoencoder takes squares of {side} px or a multiple of it.")
        small = F.avg_pool2d(rgba, h // side) if h != side else rgba
        return small - small.new_tensor([GREY, GREY, GREY, 0.0]).view(4, 1, 1)

    def latents(self, frames: Tensor, reference: Tensor, repeat: int = 1) -> Tensor:
        """Estimated latents of pictures against their references.

        Args:
            frames: [M * repeat, 4, H, H].
            reference: [M, 4, H, H]; each serves `repeat` consecutive frames.
            repeat: Frames of one reference.

        Returns:
            [M * repeat, C, w/8, w/8]; zero for a frame that equals its reference, by subtraction.
        """
        frame, ref = self._work(frames), self._work(reference)

        def read(x: Tensor, ref: Tensor) -> Tensor:
            return self.to_latent(self.encoder(torch.cat([x, ref, x - ref], 1))[2]).float()

        return read(frame, ref.repeat_interleave(repeat, 0)) - read(ref, ref).repeat_interleave(repeat, 0)

    def latents_of_flow(self, flow: Tensor, coverage: Tensor) -> Tensor:
        """Exact latents, where the flow is known.

        Args:
            flow: [N, 2, h, w] backward flow in -1..1 units, anything where nothing is covered.
            coverage: [N, 1, h, w] share of each cell that the object covers.

        Returns:
            [N, C, w/8, w/8].
        """
        side = self.working_side // 4
        pool = flow.shape[-1] // side
        weight = F.avg_pool2d(coverage, pool)
        mean = F.avg_pool2d(flow * coverage, pool)
        # cells beside the object continue its flow, fading out, so that enlarging does not mix limbs with stillness
        for _ in range(3):
            near, total = F.avg_pool2d(mean, 3, 1, 1), F.avg_pool2d(weight, 3, 1, 1)
            empty = weight < 0.02
            mean, weight = torch.where(empty, near, mean), torch.where(empty, total, weight)
        grid = mean / weight.clamp_min(0.02)
        return F.pixel_unshuffle(torch.asinh(grid / FLOW_KNEE) / self.latent_scale, 2)

    def flow_of_latents(self, z: Tensor) -> Tensor:
        """Flow [N, 2, w/4, w/4] in -1..1 units that latents [N, C, w/8, w/8] hold; at most the picture's width."""
        companded = (F.pixel_shuffle(z.float(), 2) * self.latent_scale).clamp(-4.9, 4.9)
        return FLOW_KNEE * torch.sinh(companded)

    def decode_parts(self, z: Tensor, reference: Tensor, repeat: int = 1) -> Decoded:
        """Flow, coverage and colour changes of latents.

        Args:
            z: [M * repeat, C, w/8, w/8].
            reference: [M, 4, H, H]; each serves `repeat` consecutive latents.
            repeat: Latents of one reference.

        Returns:
            N = M * repeat pictures at the working side; all zero for a zero latent, by subtraction.
        """
        ref = self._work(reference)
        features = self.reference(ref)
        at_zero = self._heads(torch.zeros_like(z[::repeat]), ref, features, 1)
        parts = self._heads(z, ref, features, repeat) - at_zero.repeat_interleave(repeat, 0)
        return Decoded(FLOW_UNIT * parts[:, :2], parts[:, 2:3], parts[:, 3:])

    def _heads(self, z: Tensor, ref: Tensor, features: tuple[Tensor, Tensor, Tensor], repeat: int) -> Tensor:
        half, quarter, eighth = (x.repeat_interleave(repeat, 0) if repeat > 1 else x for x in features)
        x = self.at_half(half + self.at_quarter(quarter + self.at_eighth(eighth + self.from_latent(z))))
        told = F.interpolate(self.flow_of_latents(z), scale_factor=2, mode="bilinear", align_corners=False)
        coarse = self.to_flow(x).float() + told / FLOW_UNIT
        # the second look: frame 0 as the coarse flow would have it, so that silhouettes are refined against it
        seen = torch.cat([F.pixel_unshuffle(ref, 2).repeat_interleave(repeat, 0), half], 1).float()
        n, _, h, w = coarse.shape
        eye = torch.eye(2, 3, device=coarse.device).expand(n, 2, 3)
        grid = F.affine_grid(eye, [n, 1, h, w], align_corners=False) + FLOW_UNIT * coarse.permute(0, 2, 3, 1)
        seen = F.grid_sample(seen, grid, padding_mode="border", align_corners=False)
        x = self.after_look(F.silu(self.look(torch.cat([x, seen.to(x.dtype), coarse.to(x.dtype)], 1))))
        parts = F.pixel_shuffle(self.to_parts(x).float(), 2)
        flow = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.cat([parts[:, :2] + flow, parts[:, 2:]], 1)

    def encode(self, rgba: Tensor) -> Tensor:
        """Latents of a clip against its own frame 0; see ``ClipAutoencoder.encode``. Frame 0 is exactly zero."""
        b, v, t = rgba.shape[:3]
        if t == 1:  # the reference alone, as the sampler asks for it
            return rgba.new_zeros(b, v, 1, self.latent_channels, *[self.working_side // 8] * 2)
        z = self.latents(rgba[:, :, 1:].flatten(0, 2), rgba[:, :, 0].flatten(0, 1), repeat=t - 1)
        z = z.unflatten(0, (b, v, t - 1))
        return torch.cat([torch.zeros_like(z[:, :, :1]), z], 2)

    def decode(self, z: Tensor, reference_rgba: Tensor) -> Tensor:
        """Clip of given latents; see ``ClipAutoencoder.decode``. A zero latent gives the reference."""
        b, v, t = z.shape[:3]
        reference = reference_rgba.flatten(0, 1)
        decoded = self.decode_parts(z.flatten(0, 2), reference, repeat=t)
        rgba = warp_reference(reference.repeat_interleave(t, 0), decoded)
        return rgba.clamp(0, 1).unflatten(0, (b, v, t))

    def condition(self, reference_rgba: Tensor) -> Tensor:
        """Appearance of frame 0: its pixels at half the working side, folded into channels, [B, V, 64, w/8, w/8]."""
        b, v = reference_rgba.shape[:2]
        small = F.avg_pool2d(self._work(reference_rgba.flatten(0, 1)), 2)
        return F.pixel_unshuffle(2 * small, 4).unflatten(0, (b, v))
