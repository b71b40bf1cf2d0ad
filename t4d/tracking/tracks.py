"""Point tracks of a clip: positions, visibility, and which query points lie on the object."""

from dataclasses import dataclass

import torch
from torch import Tensor

from t4d.errors import InputError


@dataclass(frozen=True)
class Tracks:
    """Where N points of frame 0 are in every frame.

    Attributes:
        xy: [..., T, N, 2] floating point, pixels (x right, y down, pixel centres at .5). Finite everywhere, also where
            the point is hidden or outside the picture.
        visible: [..., T, N] bool, the point can be seen in that frame.
        query_valid: [..., N] bool, the point lies on the object in frame 0. Where it does not, `xy` holds the query in
            every frame and `visible` is False.

    Raises:
        InputError: A shape, a dtype or a value is not as above; the tensors are on different devices.
    """

    xy: Tensor
    visible: Tensor
    query_valid: Tensor

    def __post_init__(self) -> None:
        xy, visible, valid = self.xy, self.visible, self.query_valid
        if xy.ndim < 3 or xy.shape[-1] != 2 or not xy.is_floating_point():
            raise InputError(
                f"Track positions are {xy.dtype} {list(xy.shape)}; expected floating point [..., frames, points, 2]."
            )
        if visible.dtype != torch.bool or visible.shape != xy.shape[:-1]:
            raise InputError(
                f"Track visibility is {visible.dtype} {list(visible.shape)}; expected bool {list(xy.shape[:-1])} to go "
                f"with positions {list(xy.shape)}."
            )
        expected = (*xy.shape[:-3], xy.shape[-2])
        if valid.dtype != torch.bool or valid.shape != expected:
            raise InputError(f"query_valid is {valid.dtype} {list(valid.shape)}; expected bool {list(expected)}.")
        if not (xy.device == visible.device == valid.device):
            raise InputError(
                f"Tracks lie on {xy.device}, {visible.device} and {valid.device}; move them to one device."
            )
        if not bool(torch.isfinite(xy).all()):
            raise InputError(
                f"{int((~torch.isfinite(xy)).any(-1).sum())} track positions are not finite; give a position (such as "
                "the last one seen) with visible=False where a point is lost."
            )

    @property
    def frames(self) -> int:
        """T."""
        return self.xy.shape[-3]

    @property
    def points(self) -> int:
        """N."""
        return self.xy.shape[-2]

    def select(self, indices: Tensor) -> "Tracks":
        """The tracks of some points.

        Args:
            indices: int64 [P], the same points for every leading dimension, or [..., P] with the leading dimensions of
                `query_valid` (as :func:`t4d.tracking.queries.choose_points` returns).

        Returns:
            Tracks of P points.

        Raises:
            InputError: The leading dimensions differ or an index is out of range.
        """
        lead = self.query_valid.shape[:-1]
        if indices.ndim == 1:
            indices = indices.expand(*lead, -1)
        if indices.shape[:-1] != lead:
            raise InputError(f"Point indices are {list(indices.shape)}; expected [P] or {[*lead, 'P']}.")
        if indices.numel() and not (0 <= int(indices.min()) and int(indices.max()) < self.points):
            raise InputError(
                f"Point indices run from {int(indices.min())} to {int(indices.max())}; expected 0 to {self.points - 1}."
            )
        rows = indices.unsqueeze(-2).expand(*lead, self.frames, -1)
        return Tracks(
            xy=self.xy.gather(-2, rows.unsqueeze(-1).expand(*rows.shape, 2)),
            visible=self.visible.gather(-1, rows),
            query_valid=self.query_valid.gather(-1, indices),
        )

    def to(self, device: torch.device | str) -> "Tracks":
        """The same tracks on another device."""
        return Tracks(self.xy.to(device), self.visible.to(device), self.query_valid.to(device))
