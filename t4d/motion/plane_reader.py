"""Bilinear reading of feature planes at fixed points, as products with sparse matrices that are built once."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class LinearRead:
    """The matrix that reads a grid of samples at N points: bilinear, samples on the corners, clamped to the border.

    As a matrix both directions are products; torch's ``grid_sample`` computes the weights anew in every call and
    scatters its gradient, which costs several times as much.

    Args:
        coordinates: per axis, slowest first, [N] in [-1, 1].
        sizes: samples per axis, at least 2 each.
    """

    def __init__(self, coordinates: Sequence[Tensor], sizes: Sequence[int]) -> None:
        index, weight = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=coordinates[0].dtype)
        index, weight = index.to(coordinates[0].device), weight.to(coordinates[0].device)
        for x, size in zip(coordinates, sizes):
            low, share = cells(x, size)
            pair, shares = torch.stack([low, low + 1], dim=-1), torch.stack([1 - share, share], dim=-1)  # [N, 2]
            index = (index[:, :, None] * size + pair[:, None]).flatten(1)
            weight = (weight[:, :, None] * shares[:, None]).flatten(1)
        points, corners = index.shape
        rows = torch.arange(points, device=index.device).repeat_interleave(corners)
        shape = (points, torch.Size(sizes).numel())
        self.matrix = _sparse(rows, index.flatten(), weight.flatten(), shape)
        self.transposed = _sparse(index.flatten(), rows, weight.flatten(), shape[::-1])

    def __call__(
        self,
        samples: Tensor,  # [cells, C]
    ) -> Tensor:
        """[N, C], differentiable in the samples."""
        return _Product.apply(samples, self)  # pyright: ignore[reportReturnType]


def cells(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Lower sample (int64) about coordinates in [-1, 1] (clamped) of an axis, and the share of the upper one."""
    position = ((x + 1) / 2 * (size - 1)).clamp(0, size - 1)
    low = position.floor().clamp(max=size - 2)
    return low.long(), position - low


def stretch(size: int, full: int) -> Tensor:
    """[full, size] matrix that enlarges `size` samples linearly to `full`, both ends kept."""
    low, share = cells(torch.linspace(-1, 1, full, dtype=torch.float64), size)
    matrix = torch.zeros(full, size, dtype=torch.float64)
    row = torch.arange(full)
    matrix[row, low] = 1 - share
    matrix[row, low + 1] += share
    return matrix


def _sparse(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    matrix = torch.sparse_coo_tensor(torch.stack([rows, columns]), values, shape, check_invariants=False).coalesce()
    # On the CPU torch multiplies the faster layout through MKL only, which not every processor has.
    if not (matrix.is_cuda or torch.backends.mkl.is_available()):
        return matrix
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, samples: Tensor, read: LinearRead) -> Tensor:
        ctx.read = read
        return read.matrix @ samples

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.read.transposed @ gradients[0].contiguous(), None
