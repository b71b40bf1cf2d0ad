"""Small clips whose tracks are known by construction."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from t4d.geometry.camera import Camera, orbit_camera


@dataclass(frozen=True)
class MeshScene:
    """A posed mesh: vertices [T, Nv, 3], faces [F, 3], V cameras of H x W, H != W, V != T."""

    vertices: np.ndarray
    faces: np.ndarray
    cameras: list[Camera]

    @property
    def blank(self) -> Tensor:
        """[V, T, 3, H, W] pictures for trackers that only look at the size."""
        camera = self.cameras[0]
        return torch.full((len(self.cameras), len(self.vertices), 3, camera.height, camera.width), 0.5)


def soup(seed: int = 0, triangles: int = 40, frames: int = 5, views: int = 3) -> MeshScene:
    """Random triangles that move on their own, so that they hide each other."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-0.6, 0.6, (triangles, 1, 3)) + rng.uniform(-0.6, 0.6, (triangles, 3, 3))
    velocity = rng.uniform(-0.12, 0.12, (triangles, 1, 3))
    vertices = np.stack([(corners + t * velocity).reshape(-1, 3) for t in range(frames)])
    faces = np.arange(3 * triangles).reshape(-1, 3)
    cameras = [orbit_camera(20 + 360 * k / views, 15, width=40, height=32) for k in range(views)]
    return MeshScene(vertices, faces, cameras)


def texture(height: int, width: int, seed: int = 0) -> Tensor:
    """[3, H, W] smooth random colours: trackable everywhere."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 3, height // 6, width // 6, generator=generator)
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)[0]


def sliding(frames: int, height: int, width: int, dx: float, dy: float, seed: int = 0) -> Tensor:
    """[1, T, 3, H, W]: a texture whose content moves by (dx, dy) pixels a frame."""
    margin = 40
    big = texture(height + 2 * margin, width + 2 * margin, seed)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    size = torch.tensor([width + 2 * margin, height + 2 * margin])
    out = []
    for t in range(frames):
        at = torch.stack([x + margin - t * dx, y + margin - t * dy], -1)
        out.append(torch.nn.functional.grid_sample(big[None], (2 * at / size - 1)[None], align_corners=False)[0])
    return torch.stack(out)[None]
