"""Pinhole cameras and the orbit rig.

World: right-handed, z up; azimuth 0 lies on +x and grows towards +y. Camera: OpenCV (x right, y down, z forward).
Pixels: x right, y down, pixel centres at .5, so the image spans ``[0, width] x [0, height]``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Turns OpenCV camera axes (right, down, forward) into OpenGL's (right, up, backward) and back: its own inverse.
OPENCV_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))

RIG_AZIMUTHS = (0.0, 90.0, 180.0, 270.0)


@dataclass(frozen=True, eq=False)
class Camera:
    """One pinhole camera.

    Attributes:
        world_to_camera: [4, 4] float64, rigid, world -> OpenCV camera.
        K: [3, 3] float64 intrinsics in pixels.
        width: image width in pixels.
        height: image height in pixels.
    """

    world_to_camera: Tensor
    K: Tensor
    width: int
    height: int

    def __post_init__(self) -> None:
        if tuple(self.world_to_camera.shape) != (4, 4) or tuple(self.K.shape) != (3, 3):
            raise ValueError(
                f"Camera expects world_to_camera [4, 4] and K [3, 3], found {tuple(self.world_to_camera.shape)} "
                f"and {tuple(self.K.shape)}"
            )
        object.__setattr__(self, "world_to_camera", self.world_to_camera.to(torch.float64))
        object.__setattr__(self, "K", self.K.to(torch.float64))

    @property
    def c2w_opencv(self) -> Tensor:
        """[4, 4] float64 camera -> world, camera axes right, down, forward."""
        rotation = self.world_to_camera[:3, :3].T
        out = torch.eye(4, dtype=torch.float64)
        out[:3, :3] = rotation
        out[:3, 3] = -rotation @ self.world_to_camera[:3, 3]
        return out

    @property
    def c2w_opengl(self) -> Tensor:
        """[4, 4] float64 camera -> world, camera axes right, up, backward (OpenGL, Blender)."""
        return self.c2w_opencv @ OPENCV_OPENGL

    @property
    def eye(self) -> Tensor:
        """[3] float64 camera centre in the world."""
        return self.c2w_opencv[:3, 3]

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Projects world points; differentiable to the points.

        Args:
            points: [..., 3] world.

        Returns:
            xy: [..., 2] pixels, finite everywhere but meaningful only where depth > 0.
            depth: [...] distance along the optical axis, negative behind the camera.
        """
        w2c, K = self.world_to_camera.to(points), self.K.to(points)
        camera = points @ w2c[:3, :3].T + w2c[:3, 3]
        depth = camera[..., 2]
        # A point on the camera plane has no image; keep it finite instead of emitting inf or NaN.
        safe = torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
        image = camera @ K.T
        return image[..., :2] / safe[..., None], depth

    def rays(self) -> tuple[Tensor, Tensor]:
        """Rays through all pixel centres.

        Returns:
            origin: [3] float64 world, and unit directions: [H, W, 3] float64 world.
        """
        y, x = torch.meshgrid(
            torch.arange(self.height, dtype=torch.float64) + 0.5,
            torch.arange(self.width, dtype=torch.float64) + 0.5,
            indexing="ij",
        )
        camera = torch.stack([x, y, torch.ones_like(x)], -1) @ torch.linalg.inv(self.K).T
        directions = camera @ self.world_to_camera[:3, :3]
        return self.eye, directions / directions.norm(dim=-1, keepdim=True)

    def resized(self, width: int, height: int) -> "Camera":
        """The same camera over the same picture area with another pixel grid."""
        scale = torch.diag(torch.tensor([width / self.width, height / self.height, 1.0], dtype=torch.float64))
        return Camera(self.world_to_camera, scale @ self.K, width, height)


def orbit_camera(
    azimuth_deg: float,
    elevation_deg: float,
    distance: float = 3.0,
    vfov_deg: float = 40.0,
    width: int = 128,
    height: int = 128,
) -> Camera:
    """A camera on a sphere about the origin, looking at the origin with z up.

    Args:
        azimuth_deg: degrees, 0 on +x, 90 on +y.
        elevation_deg: degrees above the xy plane, in [-90, 90]; at the poles right stays the limit of its meridian.
        distance: from the origin, world units, > 0.
        vfov_deg: vertical field of view, degrees in (0, 180); pixels are square.
        width: pixels.
        height: pixels.

    Returns:
        The camera.

    Raises:
        ValueError: for a distance, field of view or size out of range.
    """
    if not (distance > 0 and 0 < vfov_deg < 180 and width > 0 and height > 0):
        raise ValueError(
            f"orbit_camera expects distance > 0, vfov in (0, 180) and a positive size, "
            f"found {distance}, {vfov_deg}, {width}x{height}"
        )
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    centre = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)], dtype=torch.float64)
    right = torch.tensor([-math.sin(a), math.cos(a), 0.0], dtype=torch.float64)  # = normalize(forward x z)
    forward = -centre
    up = torch.linalg.cross(right, forward)
    w2c = torch.eye(4, dtype=torch.float64)
    w2c[:3, :3] = torch.stack([right, -up, forward])
    w2c[:3, 3] = -w2c[:3, :3] @ (centre * distance)
    focal = 0.5 * height / math.tan(math.radians(vfov_deg) / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Camera(w2c, K, width, height)


def rig(
    azimuths: Sequence[float] = RIG_AZIMUTHS,
    elevation: float = 15.0,
    distance: float = 3.0,
    vfov: float = 40.0,
    width: int = 128,
    height: int = 128,
) -> list[Camera]:
    """The ring of cameras used for training and conditions (degrees, world units, pixels; see ``orbit_camera``)."""
    return [orbit_camera(azimuth, elevation, distance, vfov, width, height) for azimuth in azimuths]


def stack(cameras: Sequence[Camera]) -> tuple[Tensor, Tensor]:
    """View matrices [V, 4, 4] and intrinsics [V, 3, 3], both float32, as the rasteriser takes them."""
    viewmats = torch.stack([camera.world_to_camera for camera in cameras]).float()
    return viewmats, torch.stack([camera.K for camera in cameras]).float()


def network_camera(camera: Camera) -> Tensor:
    """The 16 numbers the network sees: row-major OpenGL camera-to-world with its centre on the unit sphere.

    Args:
        camera: any camera; its distance is discarded.

    Returns:
        [16] float32, last row 0, 0, 0, 1.
    """
    c2w = camera.c2w_opengl.clone()
    c2w[:3, 3] = c2w[:3, 3] / (c2w[:3, 3].norm() + 1e-8)
    return c2w.reshape(16).float()
