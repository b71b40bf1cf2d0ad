"""A multi-view clip with its cameras, masks and, where known, exact tracks: the format clips travel in."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from t4d.errors import InputError
from t4d.geometry.camera import Camera

VERSION = "1"


@dataclass(frozen=True)
class Clip:
    """V views of T frames.

    Attributes:
        rgb: [V, T, 3, H, W] float32 sRGB in 0..1 over mid-grey.
        mask: [V, T, 1, H, W] float32 coverage in 0..1.
        cameras: V cameras of size W x H.
        fps: Frames per second, > 0.
        prompt: What it shows.
        tracks: [V, T, N, 2] float32 pixels (x right, y down, centres at .5), or None.
        visible: [V, T, N] bool, with tracks.
        flow: [V, T, 2, h, w] backward displacement to frame 0 (normalised, see `t4d.data.render`), or None.
        flow_valid: [V, T, 1, h, w], with flow.

    Raises:
        InputError: Shapes disagree or values are not finite or out of range, naming the first offender.
    """

    rgb: Tensor
    mask: Tensor
    cameras: list[Camera]
    fps: float
    prompt: str = ""
    tracks: Tensor | None = None
    visible: Tensor | None = None
    flow: Tensor | None = None
    flow_valid: Tensor | None = None

    def __post_init__(self) -> None:
        if self.rgb.ndim != 5 or self.rgb.shape[2] != 3 or self.rgb.numel() == 0:
            raise InputError(
                f"a clip's rgb has shape {list(self.rgb.shape)}; expected [views, frames, 3, height, width]"
            )
        v, t, _, h, w = self.rgb.shape
        if tuple(self.mask.shape) != (v, t, 1, h, w):
            raise InputError(
                f"the clip's mask has shape {list(self.mask.shape)}; its rgb needs {[v, t, 1, h, w]}: render it again"
            )
        if len(self.cameras) != v:
            raise InputError(f"the clip has {v} views but {len(self.cameras)} cameras; give one camera a view")
        for i, camera in enumerate(self.cameras):
            if (camera.width, camera.height) != (w, h):
                raise InputError(
                    f"camera {i} is {camera.width}x{camera.height} but the frames are {w}x{h}; resize one of them"
                )
        if not 0 < self.fps < math.inf:
            raise InputError(f"the clip has {self.fps} frames per second; give a positive number")
        _check_range("rgb", self.rgb)
        _check_range("mask", self.mask)
        if (self.tracks is None) != (self.visible is None) or (self.flow is None) != (self.flow_valid is None):
            raise InputError("the clip has tracks without visibility or flow without validity; store both or neither")
        if self.tracks is not None and self.visible is not None:
            if (
                tuple(self.tracks.shape) != (v, t, self.tracks.shape[2], 2)
                or self.visible.shape != self.tracks.shape[:3]
            ):
                raise InputError(
                    f"the clip's tracks have shape {list(self.tracks.shape)}, visibility {list(self.visible.shape)}; "
                    f"expected [{v}, {t}, points, 2] and [{v}, {t}, points]"
                )
            if not self.tracks.isfinite().all():
                raise InputError("the clip's tracks hold values that are not finite; track again")
        if self.flow is not None and self.flow_valid is not None:
            if self.flow.shape[:3] != (v, t, 2) or self.flow_valid.shape != (v, t, 1, *self.flow.shape[3:]):
                raise InputError(
                    f"the clip's flow has shape {list(self.flow.shape)} and validity {list(self.flow_valid.shape)}; "
                    f"expected [{v}, {t}, 2, h, w] and [{v}, {t}, 1, h, w]"
                )

    def save(self, path: Path | str) -> None:
        """Writes one .safetensors file: pictures as uint8, the rest as float32, text and cameras' sizes as metadata."""
        tensors = {
            "rgb": (self.rgb * 255).round().to(torch.uint8),
            "mask": (self.mask * 255).round().to(torch.uint8),
            "world_to_camera": torch.stack([c.world_to_camera for c in self.cameras]),
            "K": torch.stack([c.K for c in self.cameras]),
        }
        for name in ("tracks", "visible", "flow", "flow_valid"):
            value = getattr(self, name)
            if value is not None:
                tensors[name] = value
        meta = {"version": VERSION, "clip": json.dumps({"fps": self.fps, "prompt": self.prompt})}
        save_file({k: x.contiguous() for k, x in tensors.items()}, str(path), meta)

    @staticmethod
    def load(path: Path | str) -> "Clip":
        """Reads and validates a clip.

        Raises:
            InputError: Not a clip file, or its contents are inconsistent.
        """
        try:
            with safe_open(str(path), "pt") as stored:
                meta = stored.metadata() or {}
                if meta.get("version") != VERSION or "clip" not in meta:
                    raise InputError(f"{path} is not a clip of version {VERSION}; write it with Clip.save")
                data = {key: stored.get_tensor(key) for key in stored.keys()}
            info = json.loads(meta["clip"])
            height, width = data["rgb"].shape[-2:]
            cameras = [Camera(w2c, K, width, height) for w2c, K in zip(data["world_to_camera"], data["K"])]
            rgb, mask = (_unit(data[name]) for name in ("rgb", "mask"))
            fps, prompt = float(info["fps"]), str(info["prompt"])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path} is not a readable clip ({error}); write it with Clip.save") from error
        extra = {name: data.get(name) for name in ("tracks", "visible", "flow", "flow_valid")}
        return Clip(rgb, mask, cameras, fps, prompt, **extra)


def _unit(stored: Tensor) -> Tensor:
    return stored.float() / 255 if stored.dtype == torch.uint8 else stored.float()


def _check_range(name: str, value: Tensor) -> None:
    """Refuses values that are not finite or not in 0..1, naming view and frame."""
    flat = value.flatten(2)
    broken = ~flat.isfinite().all(-1)
    if broken.any():
        v, t = (int(i) for i in broken.nonzero()[0])
        raise InputError(
            f"frame {t} of view {v} of the clip's {name} holds values that are not finite; render it again"
        )
    if flat.min() < -1e-4 or flat.max() > 1 + 1e-4:
        raise InputError(
            f"the clip's {name} lies in {float(flat.min()):.3g}..{float(flat.max()):.3g}; expected 0..1: rescale it"
        )
