"""The one denoising loop: a generator that yields after every step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from t4d.diffusion.denoise import Conditioning, denoise_once
from t4d.diffusion.free_init import reinitialise
from t4d.diffusion.model import VideoModel
from t4d.diffusion.schedule import FirstFrameNoise
from t4d.diffusion.schedulers import build_scheduler
from t4d.errors import Cancelled, InputError
from t4d.geometry.camera import Camera, network_camera


@dataclass(frozen=True)
class SampleState:
    """Where the sampler stands after a step.

    Attributes:
        step: Steps done, 1..total.
        total: Steps of the whole run.
        latents: [V, T, C, h, w] after the step; frame 0 is the clean reference.
        x0: The network's current estimate of the clean latents, frame 0 the reference.
        features: Maps of the tapped modules at this step, [V, T, C', h', w'], of the conditional pass.
        clip_rgba: [V, T, 4, H, W] in 0..1 in the last state, else None.
    """

    step: int
    total: int
    latents: Tensor
    x0: Tensor
    features: dict[str, Tensor]
    clip_rgba: Tensor | None = None


@torch.no_grad()
def prepare_condition(
    model: VideoModel, reference_rgba: Tensor, cameras: Sequence[Camera], prompt: str
) -> tuple[Conditioning, Conditioning]:
    """Conditional and unconditional inputs of one object.

    Args:
        model: Networks.
        reference_rgba: Frame 0 of every view [V, 4, H, W] in 0..1.
        cameras: V cameras.
        prompt: One sentence.

    Returns:
        With the sentence and picture, and without.
    """
    device = model.device
    reference = reference_rgba.to(device=device, dtype=torch.float32)[None]
    text, pooled = model.text_encoder.encode(["", prompt])
    image = None if model.image_encoder is None else model.image_encoder.encode(reference)
    vectors = torch.stack([network_camera(camera) for camera in cameras])[None].to(device)
    condition = Conditioning(
        text=text[1:],
        pooled_text=None if pooled is None else pooled[1:],
        image_embeds=image,
        cameras=vectors,
        cond_concat=model.autoencoder.condition(reference),
    )
    drop_image = bool(model.meta.get("drop_image", True))
    return condition, condition.unconditional(text[:1], None if pooled is None else pooled[:1], drop_image)


@torch.no_grad()
def sample_clip(
    model: VideoModel,
    reference_rgba: Tensor,
    cameras: Sequence[Camera],
    prompt: str,
    *,
    frames: int = 16,
    steps: int = 25,
    guidance: float | None = None,
    guidance_rescale: float = 0.0,
    seed: int = 0,
    scheduler: str = "ddim",
    features: Sequence[str] = (),
    first_frame: str = "clean",
    shared_noise: float | None = None,
    truncation: float | None = None,
    free_init: int = 0,
    cancel: Callable[[], bool] | None = None,
) -> Iterator[SampleState]:
    """Generate a multi-view clip whose frame 0 is given.

    The latents of frame 0 are put back at every network call; the scheduler moves frames 1..T-1 only.

    Args:
        model: Networks and noise schedule.
        reference_rgba: Frame 0 of every view, colour over mid-grey and coverage, [V, 4, H, W] in 0..1.
        cameras: V cameras, in the views' order.
        prompt: One sentence.
        frames: T, frame 0 included.
        steps: Denoising steps.
        guidance: Classifier-free guidance scale; None takes the model's own.
        guidance_rescale: See ``denoise_once``.
        seed: The noise is drawn on the CPU, so it does not depend on the device.
        scheduler: Name for ``build_scheduler``.
        features: Modules of the network whose maps each state carries.
        first_frame: "clean", or "mean_beta": frame 0 with Eq. 2's expected noise at every step.
        shared_noise: Share of the starting noise's power that all frames have in common; None takes the model's own.
        truncation: psi of z = first guess + psi (sample - first guess), on the latents after the last step; 1 leaves
            the sample as it is, 0 is the network's first guess, what it says of pure noise. GANs trade variety for
            fidelity so (Karras et al. 2019, arXiv:1812.04948, Sec. 3 of its supplement): where a network knows little,
            its mean is nearer to the truth than its samples. None takes the model's own. Not in the paper.
        free_init: FreeInit rounds after Animate3D (3 there); 0 or 1 samples once.
        cancel: Asked before every step.

    Yields:
        One state a step.

    Raises:
        InputError: If the inputs do not fit each other or the model.
        Cancelled: If ``cancel`` said so.
    """
    psi = model.truncation if truncation is None else truncation
    _check(model, reference_rgba, cameras, frames, steps, first_frame, psi)
    device, alphas = model.device, model.alphas_cumprod
    condition, unconditional = prepare_condition(model, reference_rgba, cameras, prompt)
    reference = reference_rgba.to(device=device, dtype=torch.float32)[None]
    clean = model.autoencoder.encode(reference[:, :, None])
    scale = model.guidance if guidance is None else guidance
    shared = float(model.meta.get("shared_noise", 0.0)) if shared_noise is None else shared_noise

    generator = torch.Generator("cpu").manual_seed(seed)
    shape = (1, len(cameras), frames - 1, *clean.shape[-3:])
    noise = starting_noise(shape, shared, generator)
    first_noise = torch.randn(clean.shape, generator=generator).to(device)
    law = FirstFrameNoise(**model.meta.get("first_frame_noise", {}))

    rounds = max(1, free_init)
    total, done = rounds * steps, 0
    latents = noise.to(device)
    guess: Tensor | None = None
    for turn in range(rounds):
        stepper = build_scheduler(scheduler, model.scheduler_config)
        stepper.set_timesteps(steps, device=device)
        if turn:
            latents = reinitialise(latents, noise.to(device), alphas, generator)
        latents = latents * stepper.init_noise_sigma
        extra = {"generator": generator} if _takes_generator(stepper) else {}
        total = rounds * len(stepper.timesteps)
        for t in stepper.timesteps:
            if cancel is not None and cancel():
                raise Cancelled(f"Stopped after {done} of {total} denoising steps.")
            known = clean if first_frame == "clean" else clean + law.mean_beta(float(t)) * first_noise
            z_t = torch.cat([known, stepper.scale_model_input(latents, t)], dim=2)
            found = denoise_once(
                model.unet,
                z_t,
                t,
                condition,
                unconditional,
                alphas,
                model.prediction_type,
                guidance=scale,
                rescale=guidance_rescale,
                features=tuple(features),
            )
            latents = stepper.step(found.prediction[:, :, 1:], t, latents, return_dict=False, **extra)[0]
            if not bool(torch.isfinite(latents).all()):
                raise RuntimeError(f"Denoising step {done + 1} gave values that are not finite; the weights are bad.")
            done += 1
            x0 = found.x0[:, :, 1:]
            guess = x0 if guess is None else guess
            if done == total and psi != 1.0:
                latents, x0 = (torch.lerp(guess, x.to(guess), psi) for x in (latents, x0))
            whole = torch.cat([clean, latents], dim=2)
            clip = model.autoencoder.decode(whole, reference)[0].clamp(0, 1) if done == total else None
            x0 = torch.cat([clean, x0], dim=2)
            maps = {name: value[0] for name, value in found.features.items()}
            yield SampleState(done, total, whole[0], x0[0], maps, clip)


def starting_noise(shape: tuple[int, ...], shared: float, generator: torch.Generator) -> Tensor:
    """Standard normal [1, V, T-1, C, h, w]; a share of its power is the same in all frames."""
    noise = torch.randn(shape, generator=generator)
    if shared:
        common = torch.randn((*shape[:2], 1, *shape[3:]), generator=generator)
        noise = shared**0.5 * common + (1 - shared) ** 0.5 * noise
    return noise


def _takes_generator(scheduler: object) -> bool:
    return "generator" in scheduler.step.__code__.co_varnames  # type: ignore[attr-defined]


def _check(
    model: VideoModel,
    reference: Tensor,
    cameras: Sequence[Camera],
    frames: int,
    steps: int,
    first_frame: str,
    psi: float,
) -> None:
    if reference.ndim != 4 or reference.shape[1] != 4 or len(reference) != len(cameras):
        raise InputError(
            f"Condition pictures have shape {tuple(reference.shape)} with {len(cameras)} cameras; expected "
            "[views, 4, height, width] with one camera each."
        )
    factor = model.autoencoder.factor
    if reference.shape[2] % factor or reference.shape[3] % factor:
        raise InputError(
            f"Condition pictures are {reference.shape[3]} x {reference.shape[2]} pixels; both sides must be multiples "
            f"of {factor}, so resize them."
        )
    if not bool(torch.isfinite(reference).all()):
        raise InputError("Condition pictures hold values that are not finite; render them again.")
    if frames < 2 or steps < 1:
        raise InputError(f"{frames} frames and {steps} steps were asked for; use at least 2 frames and 1 step.")
    if first_frame not in ("clean", "mean_beta"):
        raise InputError(f"first_frame is {first_frame!r}; use 'clean' or 'mean_beta'.")
    if not 0 <= psi <= 1:
        raise InputError(f"truncation is {psi}; use 0 (the first guess) to 1 (the sample as it is).")
