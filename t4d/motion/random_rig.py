"""The cameras of one 4D-SDS step: a ring about the object at random height, turn, lens and distance."""

import math

import torch

from t4d.errors import InputError
from t4d.geometry.camera import Camera, rig

MOST_ELEVATION = 30.0  # degrees
FOV = (15.0, 60.0)  # vertical, degrees
HALF_EXTENT = (0.8, 1.0)  # half of what a picture's height spans at the origin, world units


def random_rig(generator: torch.Generator, size: int | tuple[int, int], views: int = 4) -> list[Camera]:
    """Draws a rig as Animate3D does for its guidance.

    Elevation in 0..30 degrees, shared by all views: in half of the draws uniform in angle, in the other half uniform on
    the sphere. Azimuths are evenly spaced from a random start, ((u + k) / V) 360 - 180 degrees. The vertical field of
    view is uniform in 15..60 degrees, and the distance is U(0.8, 1.0) / tan(fov / 2), so that the object of radius 0.7
    has about the same size in every picture.

    Args:
        generator: on the CPU; five numbers are drawn, whatever their values.
        size: side of the square pictures, pixels, or (height, width).
        views: V >= 1.

    Returns:
        V cameras, azimuth growing.

    Raises:
        InputError: size or number of views is not positive.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width, views) < 1:
        raise InputError(
            f"A random rig of {views} views of {width}x{height} pixels was asked for; all must be at least 1."
        )
    by_angle, height_u, turn, lens, closeness = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    elevation = height_u * MOST_ELEVATION
    if by_angle >= 0.5:
        elevation = math.degrees(math.asin(height_u * math.sin(math.radians(MOST_ELEVATION))))
    vfov = FOV[0] + lens * (FOV[1] - FOV[0])
    extent = HALF_EXTENT[0] + closeness * (HALF_EXTENT[1] - HALF_EXTENT[0])
    azimuths = [(turn + k) / views * 360 - 180 for k in range(views)]
    return rig(azimuths, elevation, extent / math.tan(math.radians(vfov) / 2), vfov, width, height)
