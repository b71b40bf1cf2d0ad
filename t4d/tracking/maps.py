"""Feature maps at points: cells and pixels, bilinear samples, maps of cosine similarity."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from t4d.errors import InputError

NORM_FLOOR = 1e-6  # shorter descriptors count as this long: bounds the gradient of a dead (all-zero) cell


def to_cells(xy_px: Tensor, image_size: tuple[int, int], map_size: tuple[int, int]) -> Tensor:
    """Pixels to map cells, x_cell = x_px w / W.

    Args:
        xy_px: [..., 2] pixels, pixel centres at .5.
        image_size: (H, W).
        map_size: (h, w).

    Returns:
        [..., 2] cells, cell centres at .5.
    """
    (height, width), (rows, columns) = image_size, map_size
    return xy_px * xy_px.new_tensor([columns / width, rows / height])


def to_pixels(xy_cells: Tensor, image_size: tuple[int, int], map_size: tuple[int, int]) -> Tensor:
    """Inverse of :func:`to_cells`."""
    (height, width), (rows, columns) = image_size, map_size
    return xy_cells * xy_cells.new_tensor([width / columns, height / rows])


def sample_maps(
    maps: Tensor,  # [..., C, h, w]
    xy_cells: Tensor,  # [..., N, 2]
) -> Tensor:
    """Descriptors at points: bilinear, align_corners False, the border held outside.

    Args:
        maps: Feature maps.
        xy_cells: Points, cells with centres at .5; leading dimensions as the maps'.

    Returns:
        [..., N, C], differentiable to maps and points.

    Raises:
        InputError: The leading dimensions differ.
    """
    lead, (channels, rows, columns) = maps.shape[:-3], maps.shape[-3:]
    if xy_cells.shape[:-2] != lead or xy_cells.shape[-1] != 2:
        raise InputError(f"Points are {list(xy_cells.shape)}; expected {[*lead, 'N', 2]} for maps {list(maps.shape)}.")
    count = xy_cells.shape[-2]
    if lead.numel() * count == 0:  # grid_sample refuses; the empty result must still hang on the maps' graph
        return maps.flatten(-2)[..., :1].expand(*lead, channels, count).mT
    grid = 2 * xy_cells / xy_cells.new_tensor([columns, rows]) - 1
    flat = maps.reshape(-1, channels, rows, columns)
    found = grid_sample(
        flat, grid.to(flat.dtype).reshape(-1, 1, count, 2), mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[:, :, 0].transpose(1, 2).reshape(*lead, count, channels)


def unit(descriptors: Tensor, dim: int = -1) -> Tensor:
    """Descriptors at unit length along `dim`; a zero descriptor stays zero, with finite gradient."""
    return normalize(descriptors, dim=dim, eps=NORM_FLOOR)


def similarity_maps(
    maps: Tensor,  # [..., T, C, h, w]
    queries: Tensor,  # [..., P, C]
) -> Tensor:
    """Cosine similarity of query descriptors with every cell of every frame (``cos_sim`` in Eq. 5).

    Args:
        maps: Feature maps of T frames.
        queries: Descriptors, leading dimensions as the maps' without T.

    Returns:
        [..., T, P, h, w] in -1..1.

    Raises:
        InputError: Leading dimensions or channels differ.
    """
    if queries.shape[:-2] != maps.shape[:-4] or queries.shape[-1] != maps.shape[-3]:
        raise InputError(
            f"Query descriptors are {list(queries.shape)}; expected {[*maps.shape[:-4], 'P', maps.shape[-3]]} for maps "
            f"{list(maps.shape)}."
        )
    # dividing P similarities by the cells' lengths, not C channels, halves the time of both passes
    lengths = torch.linalg.vector_norm(maps, dim=-3).clamp(min=NORM_FLOOR)  # [..., T, h, w]
    products = unit(queries).unsqueeze(-3) @ maps.flatten(-2)  # [..., T, P, h w]
    return products.unflatten(-1, maps.shape[-2:]) / lengths.unsqueeze(-3)
