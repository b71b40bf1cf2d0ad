"""Where an object stands and how large it is, so that a whole clip stays in every camera's picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from t4d.geometry.camera import Camera

MIN_RADIUS = 0.3  # a clip that must shrink below this to stay in frame is dropped for another
MARGIN = 0.03  # share of the picture kept free around the moving object


@dataclass(frozen=True)
class Placement:
    """A moving object as the cameras see it: `vertices` = `scale` * (given vertices - `shift`).

    Attributes:
        vertices: [T, Nv, 3] float32 world.
        radius: Largest distance of a vertex of frame 0 from the origin.
        scale: Factor.
        shift: [T, 3], in the given vertices' units.
    """

    vertices: np.ndarray
    radius: float
    scale: float
    shift: np.ndarray


def place(vertices: np.ndarray, cameras: Sequence[Camera], radius: float) -> tuple[np.ndarray, float] | None:
    """Vertices and radius of `placement`, where nothing else is wanted."""
    found = placement(vertices, cameras, radius)
    return None if found is None else (found.vertices, found.radius)


def placement(vertices: np.ndarray, cameras: Sequence[Camera], radius: float) -> Placement | None:
    """Centres and scales a moving object for the cameras.

    The static object (frame 0) is centred on its bounds with the wanted radius, as inference does. Where the clip then
    leaves a picture, steady travel over the ground is removed first, then the scale shrinks.

    Args:
        vertices: [T, Nv, 3] world, any units.
        cameras: They must all see it.
        radius: Wanted largest distance of a vertex of frame 0 from the origin.

    Returns:
        Where it stands and how large it is, or None where its radius would fall below `MIN_RADIUS`.
    """
    best: Placement | None = None
    for keep_travel in (True, False):
        moved, travel = vertices, np.zeros((len(vertices), 3), vertices.dtype)
        if not keep_travel:
            middle = (vertices.min(1) + vertices.max(1)) / 2
            middle[:, 2] = middle[0, 2]
            travel = middle - middle[0]
            moved = vertices - travel[:, None]
        low, high = moved[0].min(0), moved[0].max(0)
        centred = moved - (low + high) / 2
        extent = float(np.linalg.norm(centred[0], axis=1).max())
        corners = _silhouette(centred)
        scale = radius / max(extent, 1e-9)
        for _ in range(40):
            if _inside(corners * scale, cameras):
                break
            scale *= 0.95
        used = scale * extent
        if best is None or used > best.radius + 1e-6:
            best = Placement(centred * np.float32(scale), used, scale, travel + (low + high) / 2)
        if used >= 0.85 * radius:
            break
    return best if best is not None and best.radius >= MIN_RADIUS else None


def about_z(degrees: float) -> np.ndarray:
    """[3, 3] float32 turn about z."""
    a = np.radians(degrees)
    return np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]], np.float32)


def turned(vertices: np.ndarray, degrees: float) -> np.ndarray:
    """Vertices [..., 3] turned about z."""
    return vertices @ about_z(degrees).T


def _silhouette(vertices: np.ndarray) -> np.ndarray:
    """Extreme points of each frame in 26 directions: [T * 26, 3] stands in for all vertices."""
    grid = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    directions = grid[np.abs(grid).sum(1) > 0].astype(np.float32)
    extreme = np.argmax(directions @ vertices.transpose(0, 2, 1), axis=2)  # [T, 26]
    return np.take_along_axis(vertices, extreme[..., None], 1).reshape(-1, 3)


def _inside(points: np.ndarray, cameras: Sequence[Camera]) -> bool:
    tensor = torch.from_numpy(points)
    for camera in cameras:
        xy, depth = camera.project(tensor)
        size = torch.tensor([camera.width, camera.height], dtype=xy.dtype)
        if depth.min() < 0.2 or (xy < MARGIN * size).any() or (xy > (1 - MARGIN) * size).any():
            return False
    return True
