"""Point tracks by nearest features: where in every frame is the descriptor a point had in frame 0?"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4d.errors import InputError
from t4d.tracking.maps import sample_maps, similarity_maps, to_cells, to_pixels
from t4d.tracking.soft_argmax import soft_argmax

BUDGET = 1 << 24  # numbers in one block of upsampled features and their similarities


def track_features(
    maps: Tensor,  # [V, T, C, h, w]
    queries_px: Tensor,  # [V, N, 2]
    image_size: tuple[int, int],
    *,
    mode: Literal["soft", "hard"] = "soft",
    temperature: float = 20.0,
    radius: float = 2.0,
    upsample: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Tracks by the best cosine match with the descriptor of frame 0 (the paper's probe, section 3.2 and Fig. 3).

    A query's result does not depend on the other queries. ``hard`` takes the best cell's centre and so cannot be more
    accurate than the cells; ``soft`` is the soft-argmax L_pos trains (Eq. 5); `upsample` to the picture size with
    ``hard`` is the protocol of DIFT (features interpolated, then compared).

    Args:
        maps: Feature maps of one module.
        queries_px: Query points in frame 0, pixels.
        image_size: (H, W) of the pictures.
        mode: How the position is read off the similarity map.
        temperature, radius: Of the soft-argmax; radius in cells of `maps`, also when upsampled.
        upsample: (rows, columns) the features are bilinearly resized to before the comparison; None: as they are.

    Returns:
        xy: [V, T, N, 2] pixels; frame 0 is searched like the others (its error tells how sharp the features are).
        similarity: [V, T, N] cosine at the best cell, -1..1.

    Raises:
        InputError: Shapes or the mode do not fit, or the maps are not finite.
    """
    if maps.ndim != 5 or queries_px.shape != (maps.shape[0], *queries_px.shape[1:2], 2):
        raise InputError(
            f"Maps are {list(maps.shape)} and queries {list(queries_px.shape)}; expected [V, T, C, h, w] and [V, N, 2]."
        )
    if mode not in ("soft", "hard"):
        raise InputError(f"Mode {mode!r}; expected 'soft' or 'hard'.")
    if not bool(torch.isfinite(maps).all()):
        raise InputError("Feature maps hold numbers that are not finite; run the network in float32 or bfloat16.")
    maps = maps if maps.dtype == torch.float64 else maps.float()
    channels, rows, columns = maps.shape[2:]
    size = (rows, columns) if upsample is None else upsample
    if min(size) < 1:
        raise InputError(f"Upsampling to {list(size)}; expected at least one row and column.")
    # one number serves both axes, as the maps of the network are resized evenly
    reach = 0.0 if mode == "hard" else radius * (size[0] * size[1] / (rows * columns)) ** 0.5
    wanted = sample_maps(maps[:, 0], to_cells(queries_px.to(maps.dtype), image_size, (rows, columns)))  # [V, N, C]
    step = max(1, BUDGET // ((channels + wanted.shape[1]) * size[0] * size[1]))
    views, cells, best = [], [], []
    for one, query in zip(maps, wanted):
        for start in range(0, len(one), step):
            block = one[start : start + step]
            if upsample is not None:
                block = interpolate(block, size, mode="bilinear", align_corners=False)
            similarity = similarity_maps(block, query)  # [t, N, rows, columns]
            cells.append(soft_argmax(similarity, temperature, reach))
            best.append(similarity.amax((-2, -1)))
        views.append((torch.cat(cells), torch.cat(best)))
        cells, best = [], []
    xy = to_pixels(torch.stack([view[0] for view in views]), image_size, size)
    return xy, torch.stack([view[1] for view in views])


def cycle_visibility(
    maps: Tensor,  # [V, T, C, h, w]
    xy_px: Tensor,  # [V, T, N, 2]
    queries_px: Tensor,  # [V, N, 2]
    image_size: tuple[int, int],
    *,
    tolerance: float = 4.0,
    temperature: float = 20.0,
    radius: float = 2.0,
) -> Tensor:
    """Visibility of tracks by features: the match of the match in frame 0 comes back to the query.

    Args:
        maps: The maps the tracks were made from.
        xy_px: Tracks of :func:`track_features`, pixels.
        queries_px: Their queries.
        image_size: (H, W).
        tolerance: Largest distance of the return from the query, pixels of a 256 x 256 raster.
        temperature, radius: Of the soft-argmax.

    Returns:
        [V, T, N] bool.
    """
    size = (maps.shape[-2], maps.shape[-1])
    maps = maps if maps.dtype == torch.float64 else maps.float()
    there = sample_maps(maps, to_cells(xy_px.to(maps.dtype), image_size, size))  # [V, T, N, C]
    first = maps[:, :1].expand(*maps.shape[:2], *maps.shape[2:]).unsqueeze(2)  # [V, T, 1, C, h, w]
    back = to_pixels(soft_argmax(similarity_maps(first, there)[:, :, 0], temperature, radius), image_size, size)
    scale = 256 / back.new_tensor([image_size[1], image_size[0]])
    return ((back - queries_px.unsqueeze(1)) * scale).square().sum(-1) <= tolerance**2
