"""4D-SDS: the video model judges a moving asset from random viewpoints (Eq. 11)."""

import torch
from torch import Tensor

from t4d.diffusion.denoise import denoise_once, half_precision
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import prepare_condition, starting_noise
from t4d.diffusion.schedule import add_noise
from t4d.errors import InputError
from t4d.geometry.camera import Camera
from t4d.motion.asset import MotionAsset
from t4d.motion.random_rig import random_rig
from t4d.splat.rasterize import Backend
from t4d.splat.render import render_gaussians


class VideoGuidance:
    """4D-SDS in the clean-latent form; satisfies the fit's ``Guidance``.

    One call draws one rig, one time and one noise, renders the asset's frames, encodes them with gradient and asks the
    denoiser once (without gradient) what the clean latents should have been. Frame 0 is the condition: it is given
    clean and has no loss. Autoencoders with a posterior give its mean, so that the caller's generator stays the only
    source of chance.

    Row k of every tensor is frame k of the list that ``frames_of`` gives. (In Animate3D's refinement the frames of the
    random-camera batch start at 0 while those of the losses start at 1, so that frame T-1 is left out: off by one. Here
    every frame 1..T-1 of the list is noised, judged and gets gradient.)

    Args:
        model: its networks are frozen and put into evaluation mode here, and stay so.
        prompt: one sentence.
        size: side of the rendered pictures, pixels, or (height, width).
        frames: most frames per call, frame 0 included.
        t_min, t_max: least and largest noise level, whole steps of the model's schedule.
        scale: classifier-free guidance u + scale (c - u); 1 asks the network once instead of twice.
        rescale: share of the guided clean latents brought to the spread of the conditional ones.
        views: V of the random rig.
        backend: of ``rasterize``.

    Raises:
        InputError: a setting does not fit the model.
    """

    def __init__(
        self,
        model: VideoModel,
        prompt: str,
        *,
        size: int | tuple[int, int] = 256,
        frames: int = 16,
        t_min: int = 20,
        t_max: int = 200,
        scale: float = 6.0,
        rescale: float = 0.25,
        views: int = 4,
        backend: Backend = "auto",
    ) -> None:
        self.model, self.prompt = model, prompt
        self.backend: Backend = backend
        self.size, self.frames, self.views = size, frames, views
        self.t_min, self.t_max, self.scale, self.rescale = t_min, t_max, scale, rescale
        self.alphas_cumprod = model.alphas_cumprod
        sides = (size, size) if isinstance(size, int) else size
        if any(side % model.autoencoder.factor for side in sides):
            raise InputError(
                f"4D-SDS pictures of {sides[1]}x{sides[0]} pixels were asked for; both sides must be multiples of "
                f"{model.autoencoder.factor}."
            )
        if frames < 2 or not 0 <= t_min <= t_max < len(self.alphas_cumprod):
            raise InputError(
                f"4D-SDS with {frames} frames and noise levels {t_min} to {t_max} was asked for; expected at least 2 "
                f"frames and levels in order within 0..{len(self.alphas_cumprod) - 1}."
            )
        if frames > model.longest_clip:
            raise InputError(
                f"4D-SDS with {frames} frames was asked for, the model's clips have at most {model.longest_clip}; ask "
                "for fewer (guidance.frames)."
            )
        for part in model.parts.values():
            part.requires_grad_(False).eval()
        with torch.no_grad():  # an autoencoder that takes other sizes only says so now, not after the reconstruction
            model.autoencoder.condition(torch.full((1, 1, 4, *sides), 0.5, device=model.device))

    def __call__(self, asset: MotionAsset, generator: torch.Generator) -> Tensor:
        """L_SDS (Eq. 11), scalar, unweighted, with gradient to the asset alone.

        Args:
            asset: drawn at frame 0 without and at its other frames with gradient.
            generator: on the CPU, the only source of chance: equal states give equal bits.

        Returns:
            Half the squared error of the latents, summed over a picture's latent and averaged over the V (T-1) noisy
            pictures.

        Raises:
            RuntimeError: the network's answer is not finite.
        """
        cameras = random_rig(generator, self.size, self.views)
        t = int(torch.randint(self.t_min, self.t_max + 1, (), generator=generator))
        frames = self.frames_of(asset.frames, generator)
        rgba = self.render(asset, cameras, frames)
        z = self.encode(rgba)
        target = self.denoise(z, rgba[:, 0], cameras, t, generator)
        # Half a sum over latents, over V (T-1) pictures: frame 0 of the target is z itself, so its term is zero.
        return 0.5 * (z - target).square().sum() / (z.shape[1] * (z.shape[2] - 1))

    def frames_of(self, total: int, generator: torch.Generator) -> Tensor:
        """Frames 1.. of a step, ascending: all of the asset's, or evenly spaced ones at a random phase, [F] long."""
        count = min(self.frames, total) - 1
        phase = torch.rand((), generator=generator).double()  # exact sums: no frame can round up to T
        return 1 + ((phase + torch.arange(count, dtype=torch.float64)) * (total - 1) / count).floor().long()

    def render(self, asset: MotionAsset, cameras: list[Camera], frames: Tensor) -> Tensor:
        """Frame 0 (without gradient) and the given frames over mid-grey, [V, 1 + F, 4, H, W] in 0..1."""
        with torch.no_grad():
            first = render_gaussians(asset.at(0), cameras, backend=self.backend)  # [V, 4, H, W]
        later = render_gaussians(asset.batch(frames.float()), cameras, backend=self.backend)  # [F, V, 4, H, W]
        rgba = torch.cat([first[None], later]).transpose(0, 1).clamp(0, 1)
        return rgba.to(self.model.device)

    def encode(self, rgba: Tensor) -> Tensor:
        """Latents of rendered pictures [V, T, 4, H, W] with gradient, [1, V, T, C, h, w] float32."""
        with half_precision(self.model.device):
            return self.model.autoencoder.encode(rgba[None]).float()

    @torch.no_grad()
    def denoise(
        self, z: Tensor, reference_rgba: Tensor, cameras: list[Camera], t: int, generator: torch.Generator
    ) -> Tensor:
        """What the network takes the clean latents to be, from z noised to t; frame 0 is z's.

        Args:
            z: [1, V, T, C, h, w].
            reference_rgba: rendered frame 0 [V, 4, H, W], the image prompt and appearance.
            cameras: V cameras.
            t: noise level.
            generator: source of the noise.

        Returns:
            z0_hat [1, V, T, C, h, w] without gradient.
        """
        model = self.model
        with half_precision(model.device):
            condition, unconditional = prepare_condition(model, reference_rgba, cameras, self.prompt)
        shape = (*z.shape[:2], z.shape[2] - 1, *z.shape[3:])
        noise = starting_noise(shape, float(model.meta.get("shared_noise", 0.0)), generator).to(z)
        noisy = add_noise(z[:, :, 1:], noise, float(t), self.alphas_cumprod)
        found = denoise_once(
            model.unet,
            torch.cat([z[:, :, :1], noisy], dim=2),
            t,
            condition,
            unconditional,
            self.alphas_cumprod,
            model.prediction_type,
            guidance=self.scale,
            rescale=self.rescale,
        )
        if not bool(torch.isfinite(found.x0).all()):
            raise RuntimeError("4D-SDS: the video model gave values that are not finite; its weights are bad.")
        return torch.cat([z[:, :, :1], found.x0[:, :, 1:]], dim=2)
