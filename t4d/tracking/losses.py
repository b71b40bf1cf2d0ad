"""Tracking losses on diffusion features: correspondence (Eq. 4) and position (Eq. 5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from t4d.errors import InputError
from t4d.tracking.maps import sample_maps, similarity_maps, to_cells, unit
from t4d.tracking.soft_argmax import soft_argmax


@dataclass(frozen=True)
class TrackingTerms:
    """Sums and counts of the terms of Eq. 4 and Eq. 5.

    Kept apart because the training program divides by the counts of a whole optimiser step, over all processes and
    micro-steps: a mean of means would weigh a clip with few visible points more. Eq. 4 and Eq. 5 divide by n f for one
    point a view; with several points, some of them hidden, the mean over the terms that exist is the choice here.

    Attributes:
        corr_sum, pos_sum: [] sums, attached to the graph of the maps even if no term counts.
        corr_count, pos_count: [] int64, how many terms were summed.
    """

    corr_sum: Tensor
    corr_count: Tensor
    pos_sum: Tensor
    pos_count: Tensor


def track_weights(
    visible: Tensor,  # [B, V, T, P]
    chosen: Tensor,  # [B, V, P]
    masked: bool = True,
) -> tuple[Tensor, Tensor]:
    """Which terms count, from the data alone.

    Args:
        visible: bool, point visible in the frame.
        chosen: bool, the slot holds a point.
        masked: Count a term only if its point is visible in both frames involved; False: every chosen point in every
            frame (wherever the tracker believes it to be).

    Returns:
        corr: [B, V, T - 1, P] bool, term of frames (j, j + 1) of Eq. 4.
        pos: [B, V, T - 1, P] bool, term of frame j + 1 against frame 0 of Eq. 5.

    Raises:
        InputError: Shapes or dtypes do not fit.
    """
    if visible.ndim < 2 or chosen.shape != (*visible.shape[:-2], visible.shape[-1]):
        raise InputError(
            f"visible is {list(visible.shape)} and chosen {list(chosen.shape)}; expected [.., T, P], [.., P]."
        )
    if visible.dtype != torch.bool or chosen.dtype != torch.bool:
        raise InputError(f"visible is {visible.dtype} and chosen {chosen.dtype}; expected bool.")
    slots = chosen.unsqueeze(-2).expand_as(visible)
    if not masked:
        return slots[..., 1:, :], slots[..., 1:, :]
    seen = visible & slots
    return seen[..., :-1, :] & seen[..., 1:, :], seen[..., :1, :] & seen[..., 1:, :]


def track_counts(visible: Tensor, chosen: Tensor, masked: bool = True) -> tuple[Tensor, Tensor]:
    """Numbers of terms of Eq. 4 and Eq. 5 that :func:`tracking_terms` will sum; arguments as :func:`track_weights`.

    Returns:
        corr_count, pos_count: [] int64.
    """
    corr, pos = track_weights(visible, chosen, masked)
    return corr.sum(), pos.sum()


def huber(squared: Tensor, delta: float) -> Tensor:
    """Huber loss of a distance given its square: d^2 / 2 up to `delta`, then delta (d - delta / 2).

    Taking the square keeps the gradient finite where the distance is zero.
    """
    near = squared <= delta * delta
    distance = torch.where(near, torch.ones_like(squared), squared).sqrt()
    return torch.where(near, 0.5 * squared, delta * (distance - 0.5 * delta))


def tracking_terms(
    maps: Tensor,  # [B, V, T, C, h, w]
    xy_px: Tensor,  # [B, V, T, P, 2]
    visible: Tensor,  # [B, V, T, P]
    chosen: Tensor,  # [B, V, P]
    image_size: tuple[int, int],
    *,
    temperature: float = 20.0,
    radius: float = 2.0,
    huber_delta: float = 1.0,
    masked: bool = True,
    positions: bool = True,
) -> TrackingTerms:
    """Sums of the correspondence terms, Eq. 4, and the position terms, Eq. 5.

    Descriptors h(p) are bilinear samples of the maps. Eq. 4: 1 - cos(h(p^j), h(p^{j+1})) of adjacent frames. Eq. 5:
    Huber loss of the Euclidean distance, in map cells, between p^j, j > 0, and the soft-argmax of the cosine map of
    frame j with the frame-0 descriptor. Computed in float32 (float64 for float64 maps) whatever autocast says.

    Args:
        maps: Feature maps of a module of the network.
        xy_px: Tracked points, pixels; must be finite, also where hidden.
        visible: bool.
        chosen: bool, False for slots without a point: they add nothing.
        image_size: (H, W) of the pictures the points are in.
        temperature, radius: Of :func:`t4d.tracking.soft_argmax.soft_argmax`.
        huber_delta: Cells.
        masked: As in :func:`track_weights`.
        positions: False leaves the terms of Eq. 5 out (sum and count 0), saving their time.

    Returns:
        Sums with graph, counts without.

    Raises:
        InputError: Shapes do not fit.
    """
    expected = (*maps.shape[:-3], xy_px.shape[-2], 2)
    if maps.ndim < 4 or xy_px.shape != expected or visible.shape != expected[:-1]:
        raise InputError(
            f"Maps are {list(maps.shape)}, tracks {list(xy_px.shape)} and visibility {list(visible.shape)}; expected "
            "[.., T, C, h, w], [.., T, P, 2] and [.., T, P] with the same leading dimensions."
        )
    if not huber_delta > 0:
        raise InputError(f"Huber delta {huber_delta}; expected above 0.")
    corr_on, pos_on = track_weights(visible, chosen, masked)
    with torch.autocast(maps.device.type, enabled=False):
        maps = maps if maps.dtype == torch.float64 else maps.float()
        cells = to_cells(xy_px.to(maps.dtype), image_size, (maps.shape[-2], maps.shape[-1]))
        descriptors = sample_maps(maps, cells)  # [B, V, T, P, C]
        units = unit(descriptors)
        cosine = (units[..., :-1, :, :] * units[..., 1:, :, :]).sum(-1)
        corr_sum = ((1 - cosine) * corr_on).sum()
        if positions:
            # frame 0 is compared too and dropped: a slice of the maps would cost a copy in the backward pass
            similarity = similarity_maps(maps, descriptors[..., 0, :, :])[..., 1:, :, :, :]
            found = soft_argmax(similarity, temperature, radius)  # [B, V, T - 1, P, 2]
            squared = (cells[..., 1:, :, :] - found).square().sum(-1)
            pos_sum = (huber(squared, huber_delta) * pos_on).sum()
            pos_count = pos_on.sum()
        else:
            pos_sum, pos_count = corr_sum * 0, torch.zeros_like(corr_on.sum())
    return TrackingTerms(corr_sum, corr_on.sum(), pos_sum, pos_count)


def correspondence_loss(
    maps: Tensor, xy_px: Tensor, visible: Tensor, chosen: Tensor, image_size: tuple[int, int], *, masked: bool = True
) -> Tensor:
    """L_corr, Eq. 4, as the mean over the terms that count; 0 with a graph if none does. See :func:`tracking_terms`.

    Features that are alike everywhere bring it to 0 too: what keeps them apart is L_pos and L_diff.
    """
    terms = tracking_terms(maps, xy_px, visible, chosen, image_size, masked=masked, positions=False)
    return terms.corr_sum / terms.corr_count.clamp(min=1)


def position_loss(
    maps: Tensor,
    xy_px: Tensor,
    visible: Tensor,
    chosen: Tensor,
    image_size: tuple[int, int],
    *,
    temperature: float = 20.0,
    radius: float = 2.0,
    huber_delta: float = 1.0,
    masked: bool = True,
) -> Tensor:
    """L_pos, Eq. 5, as the mean over the terms that count; 0 with a graph if none does. See :func:`tracking_terms`."""
    terms = tracking_terms(
        maps,
        xy_px,
        visible,
        chosen,
        image_size,
        temperature=temperature,
        radius=radius,
        huber_delta=huber_delta,
        masked=masked,
    )
    return terms.pos_sum / terms.pos_count.clamp(min=1)
