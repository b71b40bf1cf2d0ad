"""Query points: the grid over frame 0, which of it lies on the object, and the draw of training points."""

from collections.abc import Sequence

import torch
from torch import Tensor

from t4d.errors import InputError


def grid_queries(height: int, width: int, grid: int = 15) -> Tensor:
    """Centres of the cells of a grid over a picture (paper, section 3.2: 15 x 15 over every view's first frame).

    Args:
        height, width: Picture size, pixels.
        grid: Cells per side.

    Returns:
        [grid * grid, 2] float32 pixels, row by row: ((column + .5) width / grid, (row + .5) height / grid).

    Raises:
        InputError: A size is below 1.
    """
    if min(height, width, grid) < 1:
        raise InputError(f"A {grid} x {grid} grid over {width} x {height} pixels; every number must be at least 1.")
    steps = torch.arange(grid, dtype=torch.float32) + 0.5
    y, x = torch.meshgrid(steps * (height / grid), steps * (width / grid), indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def on_object(
    mask: Tensor,  # [..., H, W]
    xy: Tensor,  # [..., N, 2] or [N, 2]
) -> Tensor:
    """Whether points lie on the object: the pixel that contains the point is covered.

    Args:
        mask: Coverage; bool, or a number that counts from .5 on.
        xy: Points, pixels; leading dimensions as the mask's, or none for the same points on every mask.

    Returns:
        [..., N] bool; False outside the picture.

    Raises:
        InputError: The leading dimensions do not fit.
    """
    lead, (height, width) = mask.shape[:-2], mask.shape[-2:]
    if xy.ndim < 2 or xy.shape[-1] != 2 or (xy.ndim > 2 and xy.shape[:-2] != lead):
        raise InputError(f"Points are {list(xy.shape)}; expected [N, 2] or {[*lead, 'N', 2]} for the given masks.")
    points = xy.expand(*lead, *xy.shape[-2:])
    cell = points.floor().long()
    inside = (cell >= 0).all(-1) & (cell[..., 0] < width) & (cell[..., 1] < height)
    flat = cell[..., 1].clamp(0, height - 1) * width + cell[..., 0].clamp(0, width - 1)
    covered = mask if mask.dtype == torch.bool else mask >= 0.5
    return covered.flatten(-2).gather(-1, flat) & inside


def choose_points(
    query_valid: Tensor,  # [B, V, N]
    points: int,
    generators: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor]:
    """Draw training points of every view, without replacement (paper, section 3.2: 8 per view).

    Clip b draws from `generators[b]` alone, so its points do not depend on the batch it happens to be in.

    Args:
        query_valid: bool, which queries lie on the object.
        points: P, points per view.
        generators: One per clip, on the CPU.

    Returns:
        index: [B, V, P] int64 into the N queries, on the device of `query_valid`.
        chosen: [B, V, P] bool; False where the view has fewer than P valid queries (there `index` is 0).

    Raises:
        InputError: Shapes, `points` or the number of generators do not fit.
    """
    if query_valid.ndim != 3 or query_valid.dtype != torch.bool:
        raise InputError(f"query_valid is {query_valid.dtype} {list(query_valid.shape)}; expected bool [B, V, N].")
    clips, views, count = query_valid.shape
    if len(generators) != clips:
        raise InputError(f"{len(generators)} random generators for {clips} clips; give one per clip.")
    if points < 1:
        raise InputError(f"{points} points per view; expected at least 1.")
    valid = query_valid.cpu()
    index = torch.zeros(clips, views, points, dtype=torch.int64)
    chosen = torch.zeros(clips, views, points, dtype=torch.bool)
    kept = min(points, count)
    for b, generator in enumerate(generators):
        # float64: among 225 keys of float32 a tie, hence an order left to the sort, is not rare enough
        keys = torch.rand(views, count, generator=generator, dtype=torch.float64)
        order = keys.masked_fill(~valid[b], 2.0).argsort(dim=-1, stable=True)[:, :kept]
        chosen[b, :, :kept] = valid[b].gather(-1, order)
        index[b, :, :kept] = order.where(chosen[b, :, :kept], torch.zeros_like(order))
    return index.to(query_valid.device), chosen.to(query_valid.device)
