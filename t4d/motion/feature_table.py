"""Features of every Gaussian over time, as the motion field reads them (second half of Eq. 6)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from t4d.errors import InputError


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """One vector per Gaussian and frame, and whether any view shows the Gaussian then.

    Values are kept to float16 precision from the start, so that a stored table reads back the same.

    Attributes:
        values: [N, T, D] float32; where ``visible`` is not, a stand-in (see ``Projector``).
        visible: [N, T] bool, the flag channel.

    Raises:
        InputError: Shapes disagree, or values are not finite in float16.
    """

    values: Tensor
    visible: Tensor

    def __post_init__(self) -> None:
        values, visible = self.values, self.visible
        if values.ndim != 3 or values.shape[1] < 1 or tuple(visible.shape) != tuple(values.shape[:2]):
            raise InputError(
                f"A feature table has values {list(values.shape)} and visibility {list(visible.shape)}; expected "
                "[Gaussians, frames, width] and [Gaussians, frames]: project the features again."
            )
        visible = visible.bool()
        values = values.detach().half().float()
        if not bool(values.isfinite().all()):
            raise InputError("A feature table holds values that are not finite in float16; project the features again.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "visible", visible)
        # Frames first: the fit reads whole frames, which are then single runs of memory.
        rows = torch.cat([values, visible[..., None].float()], dim=-1).transpose(0, 1).contiguous()
        object.__setattr__(self, "_rows", rows)

    def __len__(self) -> int:
        """N."""
        return self.values.shape[0]

    @property
    def frames(self) -> int:
        """T."""
        return self.values.shape[1]

    @property
    def width(self) -> int:
        """D, without the flag channel."""
        return self.values.shape[2]

    def at(
        self,
        frames: Tensor,  # [B]
    ) -> Tensor:
        """The f_diff(X, t) of Eq. 6: rows of some moments, linear in time between frames.

        Args:
            frames: frame numbers in 0..T-1, whole or not.

        Returns:
            [B, N, D + 1]; the last channel is the flag (1 seen, 0 not, between them linear too).

        Raises:
            ValueError: a frame lies outside the table.
        """
        rows: Tensor = self._rows  # type: ignore[attr-defined]
        frames = frames.to(device=rows.device, dtype=torch.float32)
        if frames.numel() and not (0 <= float(frames.min()) and float(frames.max()) <= self.frames - 1):
            raise ValueError(f"frames {frames.tolist()} were asked for, the feature table has 0 to {self.frames - 1}")
        low = frames.floor().long()
        share = frames - low
        if not bool(share.any()):
            return rows[low]
        high = (low + 1).clamp(max=self.frames - 1)
        return torch.lerp(rows[low], rows[high], share[:, None, None])

    def to(self, device: torch.device | str) -> "FeatureTable":
        """The same table on another device."""
        return FeatureTable(self.values.to(device), self.visible.to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """``values`` float16 and ``visible`` bool, as for safetensors; nothing is lost."""
        return {"values": self.values.half().contiguous(), "visible": self.visible.contiguous()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "FeatureTable":
        """The inverse of ``state_dict``.

        Raises:
            InputError: Tensors are missing, unknown or do not fit each other.
        """
        if set(state) != {"values", "visible"}:
            raise InputError(
                f"A feature table has tensors {sorted(state)}; expected values and visible: project the features again."
            )
        return cls(state["values"].float(), state["visible"].bool())
