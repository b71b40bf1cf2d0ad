"""Feature maps of a finished clip: one look of the video denoiser at it, almost clean."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t4d.diffusion.denoise import denoise_once
from t4d.diffusion.features import resolve_layer
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import prepare_condition, starting_noise
from t4d.diffusion.schedule import add_noise
from t4d.errors import InputError
from t4d.geometry.camera import Camera

Source = Literal["trained", "untrained", "random"]

GREY = 0.5
LARGEST = 6e4  # float16 ends at 65504


@torch.no_grad()
def clip_features(
    model: VideoModel,
    rgb: Tensor,
    mask: Tensor,
    reference_rgba: Tensor,
    cameras: Sequence[Camera],
    prompt: str,
    *,
    layer: str = "up_blocks.1.motion_modules.-1",
    t: float = 51,
    seed: int = 0,
) -> Tensor:
    """Inner features of the denoiser when it is shown a finished clip (the f_diff of Eq. 6).

    The clip is encoded, frames 1..T-1 are noised to time t with seeded noise (of the kind the model was trained with),
    frame 0 stays clean, and the network looks once with sentence and picture, without guidance. A clip longer than
    those the model was trained on is shown in several looks that share frame 0, each an evenly thinned version of the
    whole. A picture that is not square is padded with background on both sides; it is brought to the model's size.

    Args:
        model: Networks.
        rgb: Clip [V, T, 3, H, W] in 0..1; only where ``mask`` covers it matters.
        mask: Coverage [V, T, 1, H, W] in 0..1.
        reference_rgba: Frame 0 of every view over mid-grey, [V, 4, H, W]; it stands for the clip's own frame 0.
        cameras: V cameras.
        prompt: The clip's sentence.
        layer: Module to read; see ``resolve_layer``.
        t: feature_t, diffusion time 0..999.
        seed: Of the noise, drawn on the CPU.

    Returns:
        [V, T, C, h, h] float16 on the CPU. They cover the square of side max(H, W) about the picture's centre.

    Raises:
        InputError: The inputs do not fit each other, or are not finite.
    """
    _check(rgb, mask, reference_rgba, cameras, t)
    name = resolve_layer(model.unet, layer)
    views, frames = rgb.shape[:2]
    side = _model_side(model, rgb.shape[-2:])
    clip = torch.cat([mask * rgb + (1 - mask) * GREY, mask], dim=2)
    clip[:, 0] = reference_rgba
    clip = _square(clip.flatten(0, 1), side).unflatten(0, (views, frames)).to(model.device)
    condition, _ = prepare_condition(model, clip[:, 0], cameras, prompt)

    noise: Tensor | None = None
    maps: Tensor | None = None
    for window in windows(frames, clip_length(model)):
        z = model.autoencoder.encode(clip[None, :, window])
        if noise is None:
            shape = (1, views, frames - 1, *z.shape[-3:])
            shared = float(model.meta.get("shared_noise", 0.0))
            noise = starting_noise(shape, shared, torch.Generator("cpu").manual_seed(seed)).to(z)
        noisy = add_noise(z[:, :, 1:], noise[:, :, window[1:] - 1], t, model.alphas_cumprod)
        seen = denoise_once(
            model.unet,
            torch.cat([z[:, :, :1], noisy], dim=2),
            t,
            condition,
            None,
            model.alphas_cumprod,
            model.prediction_type,
            features=(name,),
        ).features[name][0]
        if maps is None:
            maps = seen.new_empty(views, frames, *seen.shape[2:], dtype=torch.float32)
            maps[:, 0] = seen[:, 0]
        maps[:, window[1:]] = seen[:, 1:].float()
    assert maps is not None
    if not bool(maps.isfinite().all()):
        raise RuntimeError(f"Features of {name} are not finite; the weights are bad.")
    # Projection whitens them, so their scale is free: bring very large ones into float16's range.
    return (maps * min(1.0, LARGEST / max(float(maps.abs().max()), 1e-30))).half().cpu()


def features_of(
    source: Source,
    model: VideoModel,
    rgb: Tensor,
    mask: Tensor,
    reference_rgba: Tensor,
    cameras: Sequence[Camera],
    prompt: str,
    *,
    layer: str = "up_blocks.1.motion_modules.-1",
    t: float = 51,
    seed: int = 0,
) -> Tensor:
    """``clip_features`` of the model, or of a control that holds no knowledge of motion.

    Args:
        source: "trained": the model itself; "untrained": its denoiser with fresh weights drawn from ``seed``, the
            autoencoder and encoders as they are; "random": standard normal maps of the same shape.
        model: See ``clip_features``, as all further arguments.
        rgb: [V, T, 3, H, W].
        mask: [V, T, 1, H, W].
        reference_rgba: [V, 4, H, W].
        cameras: V cameras.
        prompt: The clip's sentence.
        layer: Module to read.
        t: Diffusion time.
        seed: Of the noise, of the fresh weights and of the random maps.

    Returns:
        [V, T, C, h, h] float16.

    Raises:
        InputError: The source is unknown, or as ``clip_features``.
    """
    if source not in get_args(Source):
        raise InputError(f"Feature source {source!r} is unknown; use one of {', '.join(get_args(Source))}.")
    if source == "untrained":
        model = replace(model, unet=untrained(model.unet, seed))
    maps = clip_features(model, rgb, mask, reference_rgba, cameras, prompt, layer=layer, t=t, seed=seed)
    if source == "random":
        maps = torch.randn(maps.shape, generator=torch.Generator("cpu").manual_seed(seed)).half()
    return maps


def untrained(network: nn.Module, seed: int) -> nn.Module:
    """A network of the same class and configuration with fresh weights; the global random state is left alone."""
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's, which fork_rng restores
        fresh = type(network)(**_fields(network))
    return fresh.to(device).eval().requires_grad_(False)


def _fields(network: nn.Module) -> dict:
    """Constructor arguments that a diffusers config holds."""
    config = cast(dict, network.config)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def clip_length(model: VideoModel) -> int:
    """Frames the model was trained on, else the most its network takes."""
    most = model.longest_clip
    return max(2, min(int(model.meta.get("frames", most)), most))


def windows(frames: int, length: int) -> list[Tensor]:
    """Frame numbers of every look at a clip: frame 0 and at most ``length - 1`` others, evenly spread.

    Frames 1..frames-1 are in exactly one of them.
    """
    count = max(1, math.ceil((frames - 1) / (length - 1)))
    return [torch.cat([torch.zeros(1, dtype=torch.long), torch.arange(1 + k, frames, count)]) for k in range(count)]


def _model_side(model: VideoModel, size: Sequence[int]) -> int:
    """Side of the squares the model is shown: its own, or the next multiple of its autoencoder's factor."""
    factor = model.autoencoder.factor
    return int(model.meta.get("size", math.ceil(max(size) / factor) * factor))


def _square(rgba: Tensor, side: int) -> Tensor:
    """Pictures [M, 4, H, W] centred on background squares and resized to [M, 4, side, side]."""
    height, width = rgba.shape[-2:]
    large = max(height, width)
    if height != width:
        # A half pixel of an odd margin would move the picture: pad at the finest grid that has none.
        x, y = large - width, large - height
        if x % 2 or y % 2:
            rgba = rgba.repeat_interleave(2, -1).repeat_interleave(2, -2)
            x, y = 2 * x, 2 * y
        rgb = F.pad(rgba[:, :3], (x // 2, x // 2, y // 2, y // 2), value=GREY)
        rgba = torch.cat([rgb, F.pad(rgba[:, 3:], (x // 2, x // 2, y // 2, y // 2))], dim=1)
    if rgba.shape[-1] != side:
        rgba = F.interpolate(rgba, (side, side), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
    return rgba


def _check(rgb: Tensor, mask: Tensor, reference: Tensor, cameras: Sequence[Camera], t: float) -> None:
    if rgb.ndim != 5 or rgb.shape[1] < 2 or rgb.shape[2] != 3:
        raise InputError(
            f"A clip of shape {list(rgb.shape)} was given for features; expected [views, 2 or more frames, 3, height, "
            "width]."
        )
    views, frames, _, height, width = rgb.shape
    if tuple(mask.shape) != (views, frames, 1, height, width) or tuple(reference.shape) != (views, 4, height, width):
        raise InputError(
            f"The clip's mask is {list(mask.shape)} and its condition pictures {list(reference.shape)}; expected "
            f"{[views, frames, 1, height, width]} and {[views, 4, height, width]}: render them in the clip's size."
        )
    if len(cameras) != views or any((c.width, c.height) != (width, height) for c in cameras):
        sizes = sorted({(c.width, c.height) for c in cameras})
        raise InputError(
            f"{len(cameras)} cameras of sizes {sizes} were given with {views} views of {width}x{height}; give one "
            "camera of that size per view."
        )
    for name, value in (("rgb", rgb), ("mask", mask), ("condition pictures", reference)):
        if not bool(value.isfinite().all()):
            raise InputError(f"The clip's {name} hold values that are not finite; render them again.")
    if not 0 <= t <= 999:
        raise InputError(f"feature_t is {t}; choose a diffusion time from 0 to 999.")
