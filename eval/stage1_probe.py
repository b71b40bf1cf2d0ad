"""What the features that Stage One supervises know of points: TAP error, descriptor drift, and L_diff, on known clips.

A clip with exact tracks is noised to one time and shown to the network once, as training does. Its points are then
looked for by their frame-0 descriptor in every later frame (`t4d.tracking.nearest`); positions count at visible points
of frames after the first, in pixels of a 256 x 256 raster (TAP-Vid's).
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from t4d.diffusion.denoise import Conditioning, denoise_once
from t4d.diffusion.features import resolve_layer
from t4d.diffusion.losses import diffusion_loss
from t4d.diffusion.model import VideoModel
from t4d.diffusion.sampler import starting_noise
from t4d.diffusion.schedule import add_noise
from t4d.metrics.tracks import RASTER, oracle_tracks, static_tracks, tap_vid
from t4d.tracking.maps import sample_maps, to_cells
from t4d.tracking.nearest import track_features
from train.draws import Drawn, clean_latents

LAYER = "up_blocks.1.motion_modules.-1"
Item = Mapping[str, Any]


@torch.no_grad()
def look(
    model: VideoModel, item: Item, t: int, seed: int = 0, layer: str = LAYER, trace: bool = True
) -> tuple[Tensor, float]:
    """One look of the network at a noised clip.

    Args:
        model: Networks.
        item: Of `t4d.data.dataset.ClipDataset`.
        t: Diffusion time; 51 is where Stage Two reads features.
        seed: Of the noise.
        layer: Module to read.
        trace: False leaves out what the schedule leaves of the clip at t: the network sees noise alone, as sampling's
            first step does.

    Returns:
        Feature maps [V, T, C, h, w] float32, and L_diff (Eq. 3) of this look.
    """
    name = resolve_layer(model.unet, layer)
    rgba, cameras = item["rgba"][None], item["cameras"][None]
    time = torch.full((1,), t)
    drawn = Drawn(rgba, item["flow"][None], None, cameras, [item["caption"]], time, None, [(seed, 0, 0)])
    z = clean_latents(model.autoencoder, drawn, rgba).float()
    text, pooled = model.text_encoder.encode([item["caption"]])
    image = None if model.image_encoder is None else model.image_encoder.encode(rgba[:, :, 0])
    condition = Conditioning(text, pooled, image, cameras, model.autoencoder.condition(rgba[:, :, 0]))
    shape = (1, z.shape[1], z.shape[2] - 1, *z.shape[3:])
    shared = float(model.meta.get("shared_noise", 0.0))
    noise = starting_noise(shape, shared, torch.Generator().manual_seed(seed))
    noise = torch.cat([torch.zeros_like(z[:, :, :1]), noise], 2)
    signal = z[:, :, 1:] if trace else torch.zeros_like(z[:, :, 1:])
    noisy = torch.cat([z[:, :, :1], add_noise(signal, noise[:, :, 1:], t, model.alphas_cumprod)], 2)
    kind = model.prediction_type
    found = denoise_once(model.unet, noisy, t, condition, None, model.alphas_cumprod, kind, features=(name,))
    loss = diffusion_loss(found.prediction, z, noise, time, model.alphas_cumprod, kind)
    return found.features[name][0].float(), float(loss)


def parity(grid: int, odd: bool) -> Tensor:
    """The black or the white fields of the query grid as on a chessboard, [grid * grid] bool, row-major."""
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    return ((row + column) % 2 == int(odd)).flatten()


def only(item: Item, points: Tensor) -> dict[str, Any]:
    """The clip with some of its points only; the others become invalid queries, as points beside the object are.

    Args:
        item: Of `ClipDataset`.
        points: [N] bool.
    """
    valid = item["query_valid"] & points
    kept = valid[:, None].expand_as(item["visible"])
    resting = item["tracks"][:, :1].expand_as(item["tracks"])
    tracks = torch.where(kept[..., None], item["tracks"], resting)
    return {**item, "tracks": tracks, "visible": item["visible"] & kept, "query_valid": valid}


def track_figures(maps: Tensor, item: Item, temperature: float = 20.0, radius: float = 2.0) -> dict[str, float]:
    """How well a clip's points are found in feature maps, all views together.

    Args:
        maps: [V, T, C, h, w].
        item: Of `ClipDataset`.
        temperature: Of the soft-argmax; the one of training.
        radius: Of the soft-argmax, cells.

    Returns:
        delta_avg and error (mean distance, 256 px raster) of matches by soft-argmax; the same of the best match's cell
        centre (`hard_`), of points that stay (`static_`), and of true cell centres (`cell_`, hard_'s ceiling);
        drift: mean 1 - cosine between a point's descriptor in frame 0 and at its true place later; distinct: mean
        1 - cosine between the frame-0 descriptors of different points of a view, which falls with the drift when
        features merely become all alike; relative_drift: their ratio; terms: positions that counted. NaN where a clip
        has nothing to count.
    """
    tracks, visible, valid = item["tracks"], item["visible"], item["query_valid"]
    size = (item["rgba"].shape[-2], item["rgba"].shape[-1])
    queries, cells = tracks[:, 0], (maps.shape[-2], maps.shape[-1])
    soft, _ = track_features(maps, queries, size, temperature=temperature, radius=radius)
    hard, _ = track_features(maps, queries, size, mode="hard")
    counted = (visible & valid[:, None])[:, 1:]
    result: dict[str, float] = {}
    found = {
        "": soft,
        "hard_": hard,
        "static_": static_tracks(queries, tracks.shape[1]),
        "cell_": oracle_tracks(tracks, size, cells),
    }
    scale = RASTER / torch.tensor([size[1], size[0]])
    for name, xy in found.items():
        result[f"{name}error"] = _mean(((xy - tracks) * scale).norm(dim=-1)[:, 1:][counted])
        # one video of all views' points, so that a view with one point does not weigh as much as a full one
        merged = [_merge(x) for x in (xy, tracks)]
        scores = tap_vid(merged[0], None, merged[1], _merge(visible), size, query_valid=valid.flatten())
        result[f"{name}delta_avg"] = float(scores.delta_avg)
    descriptors = normalize(sample_maps(maps, to_cells(tracks, size, cells)), dim=-1)  # [V, T, N, C]
    similarity = (descriptors[:, :1] * descriptors[:, 1:]).sum(-1)
    both = counted & visible[:, :1]
    result["drift"] = _mean(1 - similarity[both])
    apart = [(1 - d[v] @ d[v].T)[~torch.eye(int(v.sum()), dtype=torch.bool)] for d, v in zip(descriptors[:, 0], valid)]
    result["distinct"] = _mean(torch.cat(apart))
    result["relative_drift"] = result["drift"] / result["distinct"] if result["distinct"] > 0 else float("nan")
    return result | {"terms": int(counted.sum())}


def _merge(x: Tensor) -> Tensor:
    """[V, T, N, ...] as [T, V * N, ...]."""
    return x.transpose(0, 1).flatten(1, 2)


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if values.numel() else float("nan")


def latent_maps(model: VideoModel, item: Item) -> Tensor:
    """The clean latents of a clip as feature maps, [V, T, C, h, w]: what the network is given, as a control."""
    rgba = item["rgba"][None]
    drawn = Drawn(rgba, item["flow"][None], None, item["cameras"][None], [""], torch.zeros(1), None, [(0, 0, 0)])
    return cast(Tensor, clean_latents(model.autoencoder, drawn, rgba))[0].float()
