"""The result of Stage Two: static Gaussians and the field that moves them (Eq. 9)."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from t4d.errors import InputError
from t4d.motion.field import MotionField
from t4d.splat.gaussians import Gaussians

FORMAT = "t4d-motion-asset-1"


@dataclass(frozen=True)
class MotionAsset:
    """A moving object of T frames.

    Attributes:
        gaussians: the static object, no batch dimensions; frame 0 is exactly this.
        field: offsets over time.
        frames: T >= 2.
    """

    gaussians: Gaussians
    field: MotionField
    frames: int

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise InputError(f"A moving asset of {self.frames} frame was asked for; at least 2 are needed.")

    def at(self, frame: float) -> Gaussians:
        """The object at a frame, whole or between two.

        Frame 0 bypasses the field and returns the static object itself. Between frames 0 and 1 the offsets grow
        linearly, so that the motion is continuous.

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
            return self.gaussians
        with torch.no_grad():
            return self.batch(torch.tensor([float(frame)])).map(lambda tensor: tensor[0])

    def batch(
        self,
        frames: Tensor,  # [B]
    ) -> Gaussians:
        """Eq. 9 for several frames at once, differentiable in the field.

        G_4D = {X + dX, C, alpha, r + dr, s + ds}: scales add as logarithms, r + dr is brought to unit length. Colour
        is static.

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
        still = self.gaussians
        frames = frames.to(still.means)
        growth = frames.clamp(max=1)[:, None, None]  # 1 from frame 1 on
        d_means, d_quats, d_log_scales = self.field(frames.clamp(min=1) / (self.frames - 1) * 2 - 1)
        b = len(frames)
        return Gaussians(
            means=still.means + growth * d_means,
            quats=normalize(normalize(still.quats, dim=-1) + growth * d_quats, dim=-1),
            log_scales=still.log_scales + growth * d_log_scales,
            opacity_logits=still.opacity_logits.expand(b, *still.opacity_logits.shape).contiguous(),
            sh=still.sh.expand(b, *still.sh.shape).contiguous(),
        )

    def to(self, device: torch.device | str) -> "MotionAsset":
        """The asset on another device (the field is moved in place, as torch modules are)."""
        return MotionAsset(self.gaussians.to(device), self.field.to(device), self.frames)

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file; the configuration is JSON in its metadata."""
        tensors = {f"gaussians.{name}": value for name, value in self.gaussians.state_dict().items()}
        tensors |= {f"field.{name}": value for name, value in self.field.state_dict().items()}
        config = {"format": FORMAT, "frames": self.frames, "field": self.field.config}
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in tensors.items()},
            path,
            metadata={"asset": json.dumps(config)},
        )

    @classmethod
    def load(cls, path: str | Path) -> "MotionAsset":
        """The inverse of ``save``: every tensor with the same bits.

        Raises:
            InputError: the file is absent, not an asset, or damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                config = json.loads((file.metadata() or {})["asset"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if config["format"] != FORMAT:
                raise ValueError(f"format {config['format']}")
            parts = {
                part: {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
                for part in ("gaussians.", "field.")
            }
            gaussians = Gaussians.from_state_dict(parts["gaussians."])
            options = {**config["field"], "space": tuple(config["field"]["space"])}
            field = MotionField(gaussians.means, **options)
            field.load_state_dict(parts["field."])
            return cls(gaussians, field, config["frames"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{Path(path).name} is not a readable moving asset ({str(error).splitlines()[0]}); "
                "give an asset.safetensors written by this program."
            ) from error
