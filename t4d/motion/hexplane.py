"""The Hex-plane: six learnt feature planes over pairs of (x, y, z, t), the first half of Eq. 6."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from t4d.motion.plane_reader import LinearRead, cells, stretch

# Axis pairs (first, second); a plane is stored [features, resolution of second, resolution of first].
PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
TIME = 3
INIT_SPACE = (0.1, 0.5)


class HexPlane(nn.Module):
    """Features of points in space and time: the product over six bilinearly read planes (Eq. 6, the union over Hex).

    Coordinates are used as they are, in [-1, 1] on every axis and clamped to the border outside; the outermost samples
    lie on -1 and 1 (``align_corners``). Planes that contain t start at 1, so that the feature does not depend on time;
    the others start uniform in [0.1, 0.5].

    ``levels`` above 1 changes how a plane is parametrised, not what it is: it becomes the sum of `levels` grids, each
    half as fine in space as the one before, enlarged to the full resolution. Adam then moves neighbouring cells
    together first, which is what a short fit needs; with one level it is the plain plane.

    Args:
        space: samples along x, y and z.
        time: samples along t.
        features: width F of the feature.
        levels: grids per plane.
        generator: of the random start.
    """

    def __init__(
        self,
        space: Sequence[int] = (100, 100, 100),
        time: int = 8,
        features: int = 16,
        levels: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.resolution: tuple[int, ...] = (*space, time)
        self.features, self.levels = features, levels
        if len(self.resolution) != 4 or min(self.resolution) < 2 or features < 1 or levels < 1:
            raise ValueError(
                f"Hex-plane of resolution {self.resolution}, {features} features and {levels} levels; expected three "
                "spatial resolutions and a temporal one of at least 2 each, and at least 1 feature and level"
            )
        self.grids = nn.ParameterDict()
        for first, second in PAIRS:
            for level in range(levels):
                size = tuple(self._size(axis, level) for axis in (second, first))
                grid = torch.zeros(1, features, *size)
                if level == levels - 1:  # the coarsest grid carries the start, so that it is smooth
                    low, high = (1.0, 1.0) if second == TIME else INIT_SPACE
                    grid.uniform_(low, high, generator=generator)
                self.grids[f"{'xyzt'[first]}{'xyzt'[second]}_{level}"] = nn.Parameter(grid)
        for full in set(self.resolution[:TIME]):
            for level in range(1, levels):
                size = _half(full, level)
                self.register_buffer(f"stretch_{size}_{full}", stretch(size, full).float(), persistent=False)
        self._readers: tuple[object, Tensor, list[LinearRead]] | None = None

    def _size(self, axis: int, level: int) -> int:
        resolution = self.resolution[axis]
        return resolution if axis == TIME else _half(resolution, level)

    def level(self, level: int) -> list[Tensor]:
        """The six grids of one level; 0 is the finest."""
        return [grid for name, grid in self.grids.items() if name.endswith(f"_{level}")]

    def plane(self, first: int, second: int) -> Tensor:
        """One plane at full resolution, [1, F, resolution of second, resolution of first]."""
        name = f"{'xyzt'[first]}{'xyzt'[second]}"
        total = self.grids[f"{name}_0"]
        for level in range(1, self.levels):
            grid = self.grids[f"{name}_{level}"]
            wide = grid @ self._stretch(first, level).to(grid).mT
            total = total + (wide if second == TIME else self._stretch(second, level).to(grid) @ wide)
        return total

    def _stretch(self, axis: int, level: int) -> Tensor:
        return getattr(self, f"stretch_{self._size(axis, level)}_{self.resolution[axis]}")

    def forward(
        self,
        points: Tensor,  # [N, 3]
        times: Tensor,  # [T]
    ) -> Tensor:
        """Features of all points at all times; differentiable in the planes, not in points and times.

        Args:
            points: world, in [-1, 1].
            times: tau in [-1, 1].

        Returns:
            [T, N, F] (a view of [N, T, F]).
        """
        readers = self._readers_of(points)
        still = moving = None
        for (first, second), reader in zip(PAIRS, readers):
            plane = self.plane(first, second)[0]  # [F, second, first]
            if second == TIME:
                low, share = cells(times.to(plane), self.resolution[TIME])
                samples = torch.lerp(plane[:, low], plane[:, low + 1], share[:, None])  # [F, T, first]
                read = reader(samples.permute(2, 1, 0).flatten(1)).unflatten(1, (len(times), -1))  # [N, T, F]
                moving = read if moving is None else moving * read
            else:  # the same at all times, read once
                read = reader(plane.flatten(1).T.contiguous())  # [N, F]
                still = read if still is None else still * read
        assert still is not None and moving is not None
        return (moving * still[:, None]).transpose(0, 1)

    def _readers_of(self, points: Tensor) -> list[LinearRead]:
        """How the planes are read at points; kept, as a field asks for the same points in every step."""
        key = (id(points), points._version, points.dtype, points.device)
        if self._readers is None or self._readers[0] != key:
            x = points.detach()
            readers = [
                LinearRead([x[:, first]], [self.resolution[first]])
                if second == TIME
                else LinearRead([x[:, second], x[:, first]], [self.resolution[second], self.resolution[first]])
                for first, second in PAIRS
            ]
            self._readers = (key, points, readers)  # the points are kept, so that their id stays theirs
        return self._readers[2]

    @torch.no_grad()
    def hold_time(self, sample: int) -> None:
        """Copies time sample `sample` to all later ones: a frame not fitted yet starts from the latest fitted."""
        for name, grid in self.grids.items():
            if "t_" in name:
                grid[:, :, sample + 1 :] = grid[:, :, sample : sample + 1]


def _half(resolution: int, level: int) -> int:
    return max(2, -(-resolution // 2**level))


def hexplane_reference(planes: Sequence[Tensor], points: Tensor, times: Tensor) -> Tensor:
    """Slow readable twin of ``HexPlane.forward``: Eq. 6 point by point.

    Args:
        planes: six of [1, F, resolution of second, resolution of first], in the order of ``PAIRS``.
        points: [N, 3].
        times: [T].

    Returns:
        [T, N, F].
    """
    rows = []
    for tau in times:
        for point in points:
            coordinate = [*point, tau]
            feature = torch.ones_like(planes[0][0, :, 0, 0])
            for (first, second), plane in zip(PAIRS, planes):
                (u0, u1, wu), (v0, v1, wv) = (
                    _cell(coordinate[axis], size) for axis, size in ((first, plane.shape[3]), (second, plane.shape[2]))
                )
                upper = (1 - wu) * plane[0, :, v0, u0] + wu * plane[0, :, v0, u1]
                lower = (1 - wu) * plane[0, :, v1, u0] + wu * plane[0, :, v1, u1]
                feature = feature * ((1 - wv) * upper + wv * lower)
            rows.append(feature)
    return torch.stack(rows).unflatten(0, (len(times), len(points)))


def _cell(coordinate: Tensor, size: int) -> tuple[int, int, Tensor]:
    """Lower and upper sample about a coordinate in [-1, 1] (clamped), and the weight of the upper."""
    position = ((coordinate + 1) / 2 * (size - 1)).clamp(0, size - 1)
    low = min(int(position), size - 2)
    return low, low + 1, position - low
