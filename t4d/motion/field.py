"""The motion field: offsets of every Gaussian's position, rotation and scale at any time (Eq. 6 and 7)."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from t4d.motion.feature_table import FeatureTable
from t4d.motion.heads import Head, decode
from t4d.motion.hexplane import HexPlane

OFFSETS = {"means": 3, "quats": 4, "log_scales": 3}


class Offsets(NamedTuple):
    """What the field says at T times.

    Attributes:
        means: [T, N, 3], world units.
        quats: [T, N, 4].
        log_scales: [T, N, 3].
        turn: [T, 4] unit quaternion (w >= 0) of the whole object about the origin, or None.
        shift: [T, 3] of the whole object, world units, or None.
    """

    means: Tensor
    quats: Tensor
    log_scales: Tensor
    turn: Tensor | None = None
    shift: Tensor | None = None


class MotionField(nn.Module):
    """Hex-plane features and diffusion features (Eq. 6) decoded by three heads into offsets (Eq. 7).

    The centres are the static ones, fixed for the life of the field. Time is tau in [-1, 1]; frame i of T is at
    tau = -1 + 2 i / (T - 1). Frame 0 is not the field's business: ``MotionAsset`` never asks it for tau = -1.

    Args:
        means: [N, 3] static centres, world; not part of the state dictionary.
        planes: (samples along x, y and z; samples along t) of every Hex-plane; their features are concatenated.
        features, levels: of each ``HexPlane``.
        hidden, bias: of the heads.
        global_transform: a rotation and a translation of the whole object, read off the mean feature (Animate3D).
        table: diffusion features of every Gaussian, or None. It may be exchanged for another of the same width.
        seed: of the random start.
    """

    means: Tensor

    def __init__(
        self,
        means: Tensor,
        planes: Sequence[tuple[int | tuple[int, int, int], int]] = ((100, 8),),
        features: int = 16,
        levels: int = 5,
        hidden: int = 64,
        bias: bool = True,
        global_transform: bool = False,
        table: FeatureTable | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        spaces = [(space, space, space) if isinstance(space, int) else space for space, _ in planes]
        self.config: dict[str, Any] = {
            "planes": [[list(space), time] for space, (_, time) in zip(spaces, planes)],
            "features": features,
            "levels": levels,
            "hidden": hidden,
            "bias": bias,
            "global_transform": global_transform,
        }
        self.hexplanes = nn.ModuleList(
            [HexPlane(space, time, features, levels, generator) for space, (_, time) in zip(spaces, planes)]
        )
        self.table = table
        inputs, extra = features * len(planes), 0 if table is None else table.width + 1

        def heads(sizes: dict[str, int]) -> nn.ModuleDict:
            return nn.ModuleDict({n: Head(inputs, extra, hidden, s, bias, generator) for n, s in sizes.items()})

        self.heads = heads(OFFSETS)
        self.whole = heads({"euler": 3, "shift": 3} if global_transform else {})
        self.register_buffer("means", means.detach().clone(), persistent=False)
        self.to(means.device, means.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "MotionField":
        super()._apply(fn, recurse)  # pyright: ignore[reportCallIssue]
        if self.table is not None:
            self.table = type(self.table)(fn(self.table.values), fn(self.table.visible))
        return self

    def features(
        self,
        times: Tensor,  # [T]
    ) -> tuple[Tensor, Tensor | None]:
        """Eq. 6 for all Gaussians at times tau: Hex-plane features [T, N, F] and rows of the table [T, N, D + 1]."""
        parts = [plane(self.means, times) for plane in self.each_plane()]
        features = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        if self.table is None:
            return features, None
        # Rounding of tau must neither leave the clip nor miss whole frames.
        last = self.table.frames - 1
        frames = ((times + 1) / 2 * last).clamp(0, last)
        whole = frames.round()
        return features, self.table.at(torch.where((frames - whole).abs() < 1e-4, whole, frames)).to(features)

    def each_plane(self) -> list[HexPlane]:
        """The Hex-planes, one per resolution."""
        return list(self.hexplanes)  # pyright: ignore[reportReturnType]

    def each_head(self) -> dict[str, Head]:
        """The heads by the name of what they move."""
        return dict(self.heads.items())  # pyright: ignore[reportReturnType]

    def forward(
        self,
        times: Tensor,  # [T]
    ) -> Offsets:
        """Eq. 7: offsets at times tau."""
        features, rows = self.features(times)
        offsets = decode(list(self.each_head().values()), features, rows)
        if not self.whole:
            return Offsets(*offsets)
        mean = features.mean(dim=1), None if rows is None else rows.mean(dim=1)
        euler, shift = (self.whole[name](*mean) for name in ("euler", "shift"))
        turn = quat_of_euler(2 * math.pi * euler.sigmoid() - math.pi)
        return Offsets(*offsets, turn=turn, shift=2 * shift.sigmoid() - 1)


def quat_of_euler(
    angles: Tensor,  # [..., 3]
) -> Tensor:
    """Unit quaternion (w, x, y, z), w >= 0, of R = Rz(yaw) Ry(pitch) Rx(roll) for (roll, pitch, yaw) in radians."""
    (cr, cp, cy), (sr, sp, sy) = ((angles / 2).cos().unbind(-1), (angles / 2).sin().unbind(-1))
    quat = torch.stack(
        [
            cr * cp * cy + sr * sp * sy,
            sr * cp * cy - cr * sp * sy,
            cr * sp * cy + sr * cp * sy,
            cr * cp * sy - sr * sp * cy,
        ],
        dim=-1,
    )
    return torch.where(quat[..., :1] < 0, -quat, quat)
