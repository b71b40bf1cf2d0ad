"""From an object's file space into the z-up world that cameras look at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from t4d.geometry.camera import Camera, rig
from t4d.geometry.object3d import Object3D

# glTF: y up, front +z. World: z up, so (x, y, z) -> (x, -z, y) and the front faces -y, towards azimuth 270.
Y_UP_TO_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])

UP_AXES = {"y": Y_UP_TO_Z_UP, "z": np.eye(3), "-y": Y_UP_TO_Z_UP.T}

STATIC_RADIUS = 0.7
CLIP_RADIUS_RANGE = (0.5, 0.85)


def up_rotation(up: str) -> np.ndarray:
    """[3, 3] rotation of a file whose up axis is "y", "z" or "-y" (COLMAP-style captures) into the world."""
    if up not in UP_AXES:
        raise ValueError(f'the up axis is "y", "z" or "-y", found {up!r}')
    return UP_AXES[up].copy()


@dataclass(frozen=True, eq=False)
class Normaliser:
    """World = scale * (rotation @ file - centre).

    Attributes:
        rotation: [3, 3] file space -> z up.
        centre: [3] in rotated, unscaled units; becomes the origin.
        scale: file units -> world units.
        radius: resulting rest-pose radius (largest distance of a rest vertex from the centre of its bounds), world.
        notes: sentences about compromises made, for the user.
    """

    rotation: np.ndarray
    centre: np.ndarray
    scale: float
    radius: float
    notes: list[str] = field(default_factory=list)

    @property
    def matrix(self) -> np.ndarray:
        """[4, 4] float64 file space -> world."""
        out = np.eye(4)
        out[:3, :3] = self.scale * self.rotation
        out[:3, 3] = -self.scale * self.centre
        return out

    def apply(self, vertices: np.ndarray) -> np.ndarray:
        """World positions [..., 3] float32 of file-space positions [..., 3]."""
        points = np.asarray(vertices, np.float64) @ self.rotation.T
        return ((points - self.centre) * self.scale).astype(np.float32)

    def invert(self, world: np.ndarray) -> np.ndarray:
        """File-space positions [..., 3] float32 of world positions [..., 3]."""
        return ((np.asarray(world, np.float64) / self.scale + self.centre) @ self.rotation).astype(np.float32)

    @staticmethod
    def fit_static(obj: Object3D, radius: float = STATIC_RADIUS) -> "Normaliser":
        """Centres the rest pose on its bounds and scales it to a radius, leaving room to move.

        Args:
            obj: the object.
            radius: world units, > 0.
        """
        rotation = up_rotation(obj.up)
        centre, extent = _centre_and_radius(obj.rest_vertices().astype(np.float64) @ rotation.T)
        return Normaliser(rotation, centre, radius / extent, radius)

    @staticmethod
    def fit_clip(
        frames: Sequence[np.ndarray],
        up: str = "y",
        radius: float = STATIC_RADIUS,
        radius_range: tuple[float, float] = CLIP_RADIUS_RANGE,
        cameras: Sequence[Camera] | None = None,
        margin: float = 0.02,
    ) -> "Normaliser":
        """Places a moving object so that every frame stays inside every camera.

        The first frame is the clip's static object: it is centred and scaled to ``radius`` as ``fit_static`` does where
        the motion allows. Otherwise the centre moves, no further than needed, towards the centre of the whole clip's
        bounds, and only then the scale shrinks, below the range if it must (then ``notes`` says so).

        Args:
            frames: [Nv, 3] each, file space, in time order.
            up: the file's up axis, "y", "z" or "-y".
            radius: wanted radius of the first frame, world units; clipped to the range.
            radius_range: smallest and largest radius wanted.
            cameras: the cameras; the default rig if None. All must see the origin.
            margin: share of the picture's width and height kept free on each side.

        Returns:
            The normaliser.
        """
        rotation = up_rotation(up)
        turned = [np.asarray(frame, np.float64) @ rotation.T for frame in frames]
        first_centre, extent = _centre_and_radius(turned[0])
        every = np.concatenate(turned)
        low, high = every.min(0), every.max(0)
        cameras = rig() if cameras is None else cameras
        wanted = min(max(radius, radius_range[0]), radius_range[1])
        best = (-1.0, first_centre)
        for blend in np.linspace(0.0, 1.0, 9):
            centre = first_centre + blend * (0.5 * (low + high) - first_centre)
            possible = extent * largest_scale(every - centre, cameras, margin)
            if possible > best[0] * (1 + 1e-9):
                best = (possible, centre)
            if possible >= wanted:
                break
        fitted = min(wanted, best[0])
        notes = []
        if fitted < radius_range[0]:
            notes.append(
                f"the motion is so wide that the first frame gets radius {fitted:.2f} instead of at least "
                f"{radius_range[0]:.2f} to keep every frame in view"
            )
        return Normaliser(rotation, best[1], fitted / extent, fitted, notes)


def _centre_and_radius(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre [3] of the bounds of [N, 3] and the largest distance from it (1 for a single point)."""
    centre = 0.5 * (points.min(0) + points.max(0))
    radius = float(np.linalg.norm(points - centre, axis=1).max())
    return centre, radius if radius > 0 else 1.0


def largest_scale(points: np.ndarray, cameras: Sequence[Camera], margin: float = 0.0) -> float:
    """The largest k for which every k * point is inside the picture of every camera.

    Each picture border is a plane through the eye, a . x <= 0 inside; with x = k R p + t this is linear in k, so the
    answer is exact.

    Args:
        points: [N, 3] world offsets from the origin.
        cameras: all must see the origin strictly inside the margins.
        margin: share of width and height kept free on each side.
    """
    best = math.inf
    for camera in cameras:
        K = camera.K.numpy()
        left, right = margin * camera.width, (1 - margin) * camera.width
        top, bottom = margin * camera.height, (1 - margin) * camera.height
        planes = np.array([left * K[2] - K[0], K[0] - right * K[2], top * K[2] - K[1], K[1] - bottom * K[2]])
        w2c = camera.world_to_camera.numpy()
        room = -planes @ w2c[:3, 3]
        if (room <= 0).any():
            raise ValueError("every camera must see the origin")
        needed = (points @ w2c[:3, :3].T @ planes.T) / room
        most = float(needed.max(initial=0.0))
        best = min(best, 1 / most) if most > 0 else best
    return best
