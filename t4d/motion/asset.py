"""The result of Stage Two: static Gaussians, the field that moves them (Eq. 9) and their colour over time (Eq. 8)."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from t4d.errors import InputError
from t4d.geometry.rotations import quat_multiply, quat_to_matrix
from t4d.motion.appearance import Appearance
from t4d.motion.feature_table import FeatureTable
from t4d.motion.field import MotionField
from t4d.splat.gaussians import Gaussians

FORMAT = "t4d-motion-asset-2"
OLD_FORMAT = "t4d-motion-asset-1"
# How names of the first format's tensors begin and read, and what the same ones are called now.
RENAMED = ((r"^field\.hexplane\.", "field.hexplanes.0."), (r"^(field\.heads\.\w+)\.0\.", r"\1.first."))
RENAMED += ((r"^(field\.heads\.\w+)\.2\.", r"\1.last."),)


@dataclass(frozen=True)
class MotionAsset:
    """A moving object of T frames.

    Attributes:
        gaussians: the static object, no batch dimensions; frame 0 is exactly this.
        field: offsets over time.
        frames: T >= 2.
        appearance: colour over time; None where colour is static.
    """

    gaussians: Gaussians
    field: MotionField
    frames: int
    appearance: Appearance | None = None

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise InputError(f"A moving asset of {self.frames} frame was asked for; at least 2 are needed.")

    def at(self, frame: float) -> Gaussians:
        """The object at a frame, whole or between two.

        Frame 0 bypasses the field and the appearance and returns the static object itself (with zero coefficients up
        to the degree of the other frames, which do not change its colour). Between frames 0 and 1 the offsets grow
        linearly, so that the motion is continuous; the colour of Eq. 8 is by itself.

        Args:
            frame: 0..T-1.

        Returns:
            Gaussians without gradient.

        Raises:
            ValueError: the frame is outside the clip.
        """
        if not 0 <= frame <= self.frames - 1:
            raise ValueError(f"frame {frame} was asked for, the asset has frames 0 to {self.frames - 1}")
        if frame == 0:
            still = self.gaussians
            return still if self.appearance is None else still.replace(sh=self.appearance.still)
        with torch.no_grad():
            return self.batch(torch.tensor([float(frame)])).map(lambda tensor: tensor[0])

    def batch(
        self,
        frames: Tensor,  # [B]
    ) -> Gaussians:
        """Eq. 9 for several frames at once, differentiable in the field and the appearance.

        G_4D = {X + dX, C_4D, alpha, r + dr, s + ds}: scales add as logarithms, r + dr is brought to unit length. A
        field with a global transform turns and shifts the static object first.

        Args:
            frames: frame numbers in (0, T-1], whole or not; frame 0 has no field, use ``at``.

        Returns:
            Gaussians with one batch dimension B.

        Raises:
            ValueError: a frame is outside (0, T-1].
        """
        if frames.numel() == 0 or float(frames.min()) <= 0 or float(frames.max()) > self.frames - 1:
            raise ValueError(
                f"frames {frames.tolist()} were asked for, the field covers those in (0, {self.frames - 1}]"
            )
        still, b = self.gaussians, len(frames)
        frames = frames.to(still.means)
        growth = frames.clamp(max=1)[:, None, None]  # 1 from frame 1 on
        offsets = self.field(frames.clamp(min=1) / (self.frames - 1) * 2 - 1)
        d_means, d_quats, quats = offsets.means, offsets.quats, normalize(still.quats, dim=-1)
        if offsets.turn is not None:
            turned = still.means @ quat_to_matrix(offsets.turn).mT + offsets.shift[:, None]
            d_means = d_means + (turned - still.means)
            d_quats = d_quats + (quat_multiply(offsets.turn[:, None], quats.expand(b, -1, -1)) - quats)
        if self.appearance is None:
            sh = still.sh.expand(b, *still.sh.shape).contiguous()
        else:
            sh = self.appearance.sh(frames)
        return Gaussians(
            means=still.means + growth * d_means,
            quats=normalize(quats + growth * d_quats, dim=-1),
            log_scales=still.log_scales + growth * offsets.log_scales,
            opacity_logits=still.opacity_logits.expand(b, *still.opacity_logits.shape).contiguous(),
            sh=sh,
        )

    def to(self, device: torch.device | str) -> "MotionAsset":
        """The asset on another device (field and appearance are moved in place, as torch modules are)."""
        appearance = None if self.appearance is None else self.appearance.to(device)
        return MotionAsset(self.gaussians.to(device), self.field.to(device), self.frames, appearance)

    def state_dict(self) -> dict[str, Tensor]:
        """What a fit changes, by name: field, its table of diffusion features, appearance. Not the static object."""
        state = {f"field.{name}": value for name, value in self.field.state_dict().items()}
        if self.field.table is not None:
            state |= {f"table.{name}": value for name, value in self.field.table.state_dict().items()}
        if self.appearance is not None:
            state |= {f"appearance.{name}": value for name, value in self.appearance.state_dict().items()}
        return state

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file; the configuration is JSON in its metadata."""
        tensors = {f"gaussians.{name}": value for name, value in self.gaussians.state_dict().items()}
        tensors |= self.state_dict()
        config = {"format": FORMAT, "frames": self.frames, "field": self.field.config}
        if self.appearance is not None:
            config["appearance"] = self.appearance.config
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            path,
            metadata={"asset": json.dumps(config)},
        )

    @classmethod
    def load(cls, path: str | Path) -> "MotionAsset":
        """The inverse of ``save``: every tensor with the same bits. Files of the first format are read as well.

        Raises:
            InputError: the file is absent, not an asset, or damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                config = json.loads((file.metadata() or {})["asset"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if config["format"] == OLD_FORMAT:
                config, tensors = _from_first_format(config, tensors)
            elif config["format"] != FORMAT:
                raise ValueError(f"format {config['format']}")
            return cls._of(config, tensors)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{Path(path).name} is not a readable moving asset ({str(error).splitlines()[0]}); "
                "give an asset.safetensors written by this program."
            ) from error

    @classmethod
    def _of(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> "MotionAsset":
        parts = {
            part: {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
            for part in ("gaussians.", "field.", "table.", "appearance.")
        }
        gaussians = Gaussians.from_state_dict(parts["gaussians."])
        options = dict(config["field"])
        planes = [(tuple(space), time) for space, time in options.pop("planes")]
        table = FeatureTable.from_state_dict(parts["table."]) if parts["table."] else None
        field = MotionField(gaussians.means, planes, table=table, **options)
        field.load_state_dict(parts["field."])
        appearance = None
        if "appearance" in config:
            appearance = Appearance(gaussians, config["frames"], **config["appearance"])
            appearance.load_state_dict(parts["appearance."])
        return cls(gaussians, field, config["frames"], appearance)


def _from_first_format(config: dict[str, Any], tensors: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    field = dict(config["field"])
    field |= {"planes": [[field.pop("space"), field.pop("time")]], "hidden": 64, "bias": True}
    for before, after in RENAMED:
        tensors = {re.sub(before, after, name): value for name, value in tensors.items()}
    return {**config, "field": field}, tensors
