"""cameras.json of a clip folder: one camera per view.

World: z up, the object at the origin as `t4d.steps.prepare` places it (rest-pose radius ``geometry.radius``). Each
entry is one of
    {"azimuth": 0, "elevation": 15, "distance": 3, "vfov": 40}: a camera of the rig, degrees and world units
    {"world_to_camera": [4 rows of 4], "K": [3 rows of 3]}: OpenCV axes, pixels of the frames, centres at .5
"""

import json
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from t4d.errors import InputError
from t4d.geometry.camera import Camera, orbit_camera

CAMERAS = "cameras.json"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OrbitEntry(_Entry):
    """A camera on a sphere about the origin (see ``orbit_camera``)."""

    azimuth: float
    elevation: float = Field(ge=-90, le=90)
    distance: float = Field(default=3.0, gt=0)
    vfov: float = Field(default=40.0, gt=0, lt=180)


_Row3 = tuple[float, float, float]
_Row4 = tuple[float, float, float, float]


class PinholeEntry(_Entry):
    """A camera by its matrices."""

    world_to_camera: tuple[_Row4, _Row4, _Row4, _Row4]
    K: tuple[_Row3, _Row3, _Row3]


_LIST = TypeAdapter(list[OrbitEntry | PinholeEntry])


def read_cameras(path: Path, views: int, width: int, height: int) -> list[Camera]:
    """The cameras of a clip of `views` views.

    Args:
        path: the JSON file.
        views: V, the number of entries expected.
        width, height: of the frames, pixels.

    Raises:
        InputError: not such a file, another number of entries, numbers that are not finite, matrices of no camera.
    """
    try:
        entries = _LIST.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"{path.name}: {where} cannot be used ({first['msg']}); expected a list with azimuth, elevation, distance "
            "and vfov, or world_to_camera and K, per view."
        ) from error
    if len(entries) != views:
        raise InputError(f"{path.name} has {len(entries)} cameras but the clip has {views} views; give one per view.")
    return [_camera(entry, view, path.name, width, height) for view, entry in enumerate(entries)]


def write_cameras(path: Path, cameras: list[Camera]) -> None:
    """The inverse of `read_cameras`, by matrices."""
    rows = [{"world_to_camera": c.world_to_camera.tolist(), "K": c.K.tolist()} for c in cameras]
    path.write_text(json.dumps(rows, indent=1))


def _camera(entry: OrbitEntry | PinholeEntry, view: int, name: str, width: int, height: int) -> Camera:
    if isinstance(entry, OrbitEntry):
        return orbit_camera(entry.azimuth, entry.elevation, entry.distance, entry.vfov, width, height)
    pose, K = (torch.tensor(m, dtype=torch.float64) for m in (entry.world_to_camera, entry.K))
    return checked_camera(Camera(pose, K, width, height), view, name)


def checked_camera(camera: Camera, view: int, name: str) -> Camera:
    """The camera, where its matrices are what everything that renders and projects takes them for.

    Args:
        camera: as it was stored.
        view: its number, for the sentence.
        name: of the file it comes from.

    Raises:
        InputError: the pose is not rigid, or the intrinsics are not those of a pinhole without skew.
    """
    pose, K = camera.world_to_camera, camera.K
    turn = pose[:3, :3]
    rigid = torch.allclose(turn @ turn.T, torch.eye(3).double(), atol=1e-4) and float(torch.linalg.det(turn)) > 0
    if not rigid or not bool(pose.isfinite().all()) or pose[3].tolist() != [0, 0, 0, 1]:
        raise InputError(
            f"{name}: world_to_camera of view {view} is not a rotation and a translation; expected OpenCV axes without "
            "scale or mirroring, last row 0 0 0 1."
        )
    square = K[2].tolist() == [0, 0, 1] and float(K[1, 0]) == 0 and float(K[0, 1]) == 0  # the rasteriser knows no skew
    if not (square and K[0, 0] > 0 and K[1, 1] > 0 and bool(K.isfinite().all())):
        raise InputError(
            f"{name}: K of view {view} is no pinhole matrix; expected fx, fy > 0, no skew and last row 0 0 1."
        )
    return camera
