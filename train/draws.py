"""Everything random about a training clip, from (seed, step, place in the global batch): views, words, time, noise,
points. No draw depends on how the global batch is split over processes and micro-steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t4d.diffusion.autoencoders.reference import ReferenceAutoencoder
from t4d.diffusion.interfaces import ClipAutoencoder, PosteriorAutoencoder
from t4d.diffusion.schedule import FirstFrameNoise, noisy_clip
from t4d.errors import InputError
from t4d.tracking.queries import choose_points
from train.config import Curriculum, StageOneTrainConfig
from train.objective import Noised, Points
from train.runs import generator

VIEWS, TIMES, NOISE, POINTS = range(4)  # purposes: what one draws must not shift what another does


@dataclass(frozen=True)
class Drawn:
    """A micro-batch as it comes from the data, on the CPU.

    Attributes:
        rgba: [B, V, T, 4, H, W].
        flow: [B, V, T, 2, h, w], or None where the data has none.
        latents: Precomputed [B, V, T, C, h, w], or None.
        cameras: [B, V, 16].
        captions: B sentences, "" where dropped.
        t: Diffusion times [B].
        points: None where the tracking losses are off.
        keys: (seed, step, place) of each clip.
    """

    rgba: Tensor
    flow: Tensor | None
    latents: Tensor | None
    cameras: Tensor
    captions: list[str]
    t: Tensor
    points: Points | None
    keys: list[tuple[int, int, int]]


def draw(
    clips: dict[str, Any], stage: Curriculum, config: StageOneTrainConfig, step: int, places: Sequence[int], times: int
) -> Drawn:
    """Views and frames of this stage, a turned object now and then, dropped captions, times and points.

    Fewer frames are a run at the clip's own rate that starts at frame 0, so that motion looks alike at all stages.
    A quarter turn of the object moves each picture, with its tracks, to the next camera: exact but for the light,
    which is fixed.

    Args:
        clips: A batch of items, see `t4d.data.dataset.ClipDataset`.
        stage: Clip size.
        config: See `StageOneTrainConfig`.
        step: Optimiser step.
        places: Of the clips in the global batch.
        times: Length of the diffusion schedule.

    Raises:
        InputError: Tracking losses have weight and the items carry no tracks.
    """
    if config.tracking.enabled and "tracks" not in clips:
        raise InputError(
            "The clips carry no tracks, which L_corr and L_pos need; add them with train/dataset.py track, or set "
            "tracking.lambda_corr=0 tracking.lambda_pos=0."
        )
    names = ["rgba", "flow", "latents", *(("tracks", "visible", "query_valid") if config.tracking.enabled else ())]
    views, frames = clips["rgba"].shape[1:3]
    if views < stage.views or frames < stage.frames:
        raise InputError(
            f"The clips have {views} views of {frames} frames, this step takes {stage.views} of {stage.frames}; set "
            "data.views, data.frames and the curriculum to what the clips have."
        )
    keys = [(config.seed, step, place) for place in places]
    one: list[dict[str, Any]] = []
    for i, key in enumerate(keys):
        g = generator(*key, VIEWS)
        turn = 0
        if float(torch.rand((), generator=g)) < config.turn_views:
            turn = int(torch.randint(1, max(views, 2), (), generator=g))
        chosen = torch.randperm(views, generator=g)[: stage.views].sort().values
        found = {name: clips[name][i].roll(turn, 0)[chosen] for name in names if name in clips}
        found = {name: x if name == "query_valid" else x[:, : stage.frames] for name, x in found.items()}
        dropped = float(torch.rand((), generator=g)) < config.text_dropout
        one.append(
            {
                **found,
                "cameras": clips["cameras"][i][chosen],
                "caption": "" if dropped else clips["caption"][i],
                "t": _time(config.high_noise, times, generator(*key, TIMES)),
            }
        )

    def together(name: str) -> Tensor | None:
        return torch.stack([clip[name] for clip in one]) if name in one[0] else None

    rgba, cameras, t = together("rgba"), together("cameras"), together("t")
    assert rgba is not None and cameras is not None and t is not None
    points = None
    if config.tracking.enabled:
        xy, visible, valid = together("tracks"), together("visible"), together("query_valid")
        assert xy is not None and visible is not None and valid is not None
        valid = valid & (t < config.tracking.t_max)[:, None, None]
        index, taken = choose_points(valid, config.tracking.points, [generator(*key, POINTS) for key in keys])
        places_of = index[:, :, None].expand(*xy.shape[:3], -1)
        xy = xy.gather(3, places_of[..., None].expand(*places_of.shape, 2))
        points = Points(xy, visible.gather(3, places_of), taken, (rgba.shape[-2], rgba.shape[-1]))
    captions = [clip["caption"] for clip in one]
    return Drawn(rgba, together("flow"), together("latents"), cameras, captions, t, points, keys)


def _time(high: float, times: int, g: torch.Generator) -> Tensor:
    """A whole diffusion time: even, or with probability `high` from the noisiest sixth."""
    u, noisy = torch.rand((), generator=g), torch.rand((), generator=g) < high
    return (torch.where(noisy, 1 - u / 6, u) * times).long().clamp(max=times - 1)


def clean_latents(autoencoder: ClipAutoencoder, drawn: Drawn, rgba: Tensor, *, sample: bool = False) -> Tensor:
    """Latents [B, V, T, C, h, w]: precomputed ones, exact ones where latents are flow and the clips carry it, else
    encoded.

    Args:
        autoencoder: The frozen autoencoder.
        drawn: The clips.
        rgba: Its pictures on the autoencoder's device.
        sample: Of an autoencoder with a posterior take a sample, drawn per clip from its key, instead of the mean.
    """
    if drawn.latents is not None:
        return drawn.latents.to(rgba.device, torch.float32)
    if isinstance(autoencoder, ReferenceAutoencoder) and drawn.flow is not None:
        flow = drawn.flow.to(rgba.device)
        coverage = F.avg_pool2d(rgba[:, :, :, 3:].flatten(0, 2), rgba.shape[-1] // flow.shape[-1])
        z = autoencoder.latents_of_flow(flow.flatten(0, 2), coverage).unflatten(0, rgba.shape[:3])
        return torch.cat([torch.zeros_like(z[:, :, :1]), z[:, :, 1:]], 2)
    clips = rgba.split(1)
    if sample and isinstance(autoencoder, PosteriorAutoencoder):
        found = [autoencoder.encode_sample(x, generator(*key, NOISE, 1)) for x, key in zip(clips, drawn.keys)]
    else:
        found = [autoencoder.encode(x) for x in clips]
    return torch.cat(found).float()


@torch.no_grad()
def noised(
    drawn: Drawn,
    autoencoder: ClipAutoencoder,
    alphas_cumprod: Tensor,
    config: StageOneTrainConfig,
    device: torch.device,
) -> Noised:
    """Clean and noised latents and the conditions, on the device.

    Clean latents that are not precomputed are samples of the posterior where there is one, as in Animate3D's training.
    Noise is Eq. 1's on frames 1.. and, where `first_frame_noise` is set, Eq. 2's on frame 0.
    """
    rgba = drawn.rgba.to(device)
    z = clean_latents(autoencoder, drawn, rgba, sample=True).float()
    first, noise, z_t = FirstFrameNoise() if config.first_frame_noise else None, [], []
    for i, key in enumerate(drawn.keys):
        g = generator(*key, NOISE)
        own, common = torch.randn(z[i].shape, generator=g), torch.randn(z[i, :, :1].shape, generator=g)
        noise.append((config.shared_noise**0.5 * common + (1 - config.shared_noise) ** 0.5 * own).to(z))
        z_t.append(noisy_clip(z[i : i + 1], noise[i][None], drawn.t[i : i + 1].to(device), alphas_cumprod, first, g))
    points = drawn.points
    if points is not None:
        points = Points(points.xy.to(device), points.visible.to(device), points.chosen.to(device), points.image_size)
    return Noised(
        z,
        torch.cat(z_t),
        torch.stack(noise),
        drawn.t.to(device),
        rgba[:, :, 0],
        autoencoder.condition(rgba[:, :, 0]),
        drawn.cameras.to(device),
        drawn.captions,
        points,
    )
