"""Small training clips without rendering, and videos of moving discs."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from t4d.errors import InputError
from t4d.export.video import write_video

V, T, H, W = 2, 3, 20, 36


def make_item(
    seed: int, *, flow: bool = True, tracks: bool = True, latents: bool = False, side=(H, W)
) -> dict[str, Any]:
    """A clip of random values that survive 8 bits, float16 and nothing else."""
    g = torch.Generator().manual_seed(seed)
    height, width = side
    item: dict[str, Any] = {
        "rgba": torch.randint(0, 256, (V, T, 4, height, width), generator=g).float() / 255,
        "cameras": torch.randn(V, 16, generator=g),
    }
    if flow:
        item["flow"] = torch.randn(V, T, 2, height // 2, width // 2, generator=g).half().float()
        item["flow_valid"] = (torch.rand(V, T, 1, height // 2, width // 2, generator=g) > 0.5).float()
    if tracks:
        item["tracks"] = 30 * torch.randn(V, T, 9, 2, generator=g)
        item["visible"] = torch.rand(V, T, 9, generator=g) > 0.5
        item["query_valid"] = torch.rand(V, 9, generator=g) > 0.5
    if latents:
        item["latents"] = torch.randn(V, T, 8, 2, 4, generator=g).half()
    return {**item, "caption": f"clip {seed} läuft", "verb": "run", "noun": "dog", "name": f"n{seed}", "clip": "Run"}


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Equal keys, types and values."""
    return a.keys() == b.keys() and all(
        torch.equal(x, b[k]) and x.dtype == b[k].dtype if isinstance(x, torch.Tensor) else x == b[k]
        for k, x in a.items()
    )


class Items(Dataset):
    """`count` clips; those in `bad` cannot be made, and `dies` stops everything."""

    def __init__(self, count: int, bad: tuple[int, ...] = (), dies: int | None = None, **options: Any):
        self.count, self.bad, self.dies, self.options = count, bad, dies, options
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.asked.append(index)
        if index == self.dies:
            raise RuntimeError("killed")
        if index in self.bad:
            raise InputError(f"clip {index} is broken")
        return make_item(index, **self.options)


def disc(
    x: float, y: float, radius: float, height: int, width: int, color, background
) -> tuple[np.ndarray, np.ndarray]:
    """An antialiased disc: picture [H, W, 3] in 0..1 and its exact coverage [H, W]."""
    fine = (np.arange(8 * max(height, width)) + 0.5) / 8
    hit = (fine[None, : 8 * width] - x) ** 2 + (fine[: 8 * height, None] - y) ** 2 < radius**2
    alpha = hit.reshape(height, 8, width, 8).mean((1, 3))
    picture = alpha[..., None] * np.asarray(color) + (1 - alpha[..., None]) * np.asarray(background)
    return picture, alpha


def write_disc_video(
    path: Path, view: int, frames: int, *, height=48, width=80, color=(0.9, 0.3, 0.1), background=(1.0, 1.0, 1.0)
) -> None:
    """The disc's centre says which picture it is: x = 12 + frame, y = 14 + view."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [disc(12 + t, 14 + view, 8, height, width, color, background)[0] for t in range(frames)]
    write_video(path, np.stack(pictures).astype(np.float32), 24, crf=4)


def centre(alpha: torch.Tensor) -> tuple[float, float]:
    """Centre (x, y) of coverage [H, W] in pixels."""
    height, width = alpha.shape
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return float((alpha * x).sum() / alpha.sum()), float((alpha * y).sum() / alpha.sum())
