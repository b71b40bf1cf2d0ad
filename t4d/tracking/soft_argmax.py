"""Local soft-argmax: a differentiable position of the best match in a similarity map."""

import torch
from torch import Tensor

from t4d.errors import InputError


def soft_argmax(
    similarity: Tensor,  # [..., h, w]
    temperature: float = 20.0,
    radius: float = 2.0,
) -> Tensor:
    """Mean cell centre under softmax(temperature * similarity) within a radius of the best cell (``soft_argmax`` of
    Eq. 5).

    A softmax over the whole map pulls every estimate to the map's centre: the many cells of middling similarity
    outweigh the peak. So weights are kept only in cells whose centre lies at most `radius` cells (Euclidean) from the
    hard argmax, and renormalised, as the public point trackers do (their comparison is strict: radius 2 means 13
    cells here, 9 there). The choice of the best cell carries no gradient (the first of equal ones wins); weights and
    position do.

    Args:
        similarity: Finite similarities.
        temperature: Factor before the softmax, larger is sharper.
        radius: Cells; 0 gives the hard argmax, infinity the global soft-argmax.

    Returns:
        [..., 2] (x, y) in cells, centres at .5.

    Raises:
        InputError: The map is empty, or temperature or radius out of range.
    """
    if similarity.ndim < 2 or 0 in similarity.shape[-2:]:
        raise InputError(f"Similarity map is {list(similarity.shape)}; expected [..., h, w] with at least one cell.")
    if not temperature > 0 or not radius >= 0:
        raise InputError(f"Temperature {temperature} and radius {radius}; expected above 0 and at least 0.")
    rows, columns = similarity.shape[-2:]
    flat = similarity.flatten(-2)
    best = flat.detach().argmax(-1, keepdim=True)
    cells = torch.arange(rows * columns, device=flat.device)
    away = (cells // columns - best // columns).square() + (cells % columns - best % columns).square()
    weights = torch.softmax((temperature * flat).masked_fill(away > radius * radius, -torch.inf), -1)
    centres = torch.stack([cells % columns, cells // columns], -1).to(flat.dtype) + 0.5
    return weights @ centres
