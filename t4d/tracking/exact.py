"""Exact tracks: surface points bound to triangles of a posed mesh, followed through its poses."""

from collections.abc import Sequence

import numba
import numpy as np
import torch
from torch import Tensor

from t4d.errors import InputError
from t4d.geometry.camera import Camera
from t4d.tracking.tracker import assemble, check_input, starting
from t4d.tracking.tracks import Tracks

NEAR = 0.05  # world units; triangles reaching nearer to the camera's plane are not drawn (cameras stand outside)


class ExactTracker:
    """The truth about a rendered clip: a query binds to the triangle seen there in frame 0.

    Nothing is rendered: the nearest triangle is asked for at the points themselves, so neither positions nor visibility
    depend on a picture's resolution. The pictures given to `track` only say how large they are.

    Args:
        vertices: [T, Nv, 3] world, the posed mesh.
        faces: [F, 3] drawn from both sides.
        cameras: V cameras of one size.
        tolerance: World units of depth within which two surfaces count as one (thin shells).

    Raises:
        InputError: Shapes disagree or vertices are not finite.
    """

    name = "exact"

    def __init__(
        self, vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera], tolerance: float = 0.005
    ) -> None:
        vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
        if vertices.ndim != 3 or vertices.shape[2] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
            raise InputError(
                f"a posed mesh has vertices {vertices.shape} and faces {faces.shape}; give [T, Nv, 3] and [F, 3]."
            )
        if not np.isfinite(vertices).all() or (faces.size and not 0 <= faces.min() <= faces.max() < vertices.shape[1]):
            raise InputError("the posed mesh has vertices that are not finite or faces that do not exist; repair it.")
        if not cameras or len({(c.width, c.height) for c in cameras}) != 1:
            raise InputError(f"{len(cameras)} cameras were given; exact tracks need at least one, all of one size.")
        self.vertices, self.faces, self.cameras, self.tolerance = vertices, faces, list(cameras), tolerance

    def track(self, rgb: Tensor, queries: Tensor, mask: Tensor | None = None) -> Tracks:
        """See `t4d.tracking.tracker.Tracker.track`; a query that hits no triangle in frame 0 is not valid.

        Raises:
            InputError: The clip has other views, frames or size than the mesh and cameras.
        """
        check_input(rgb, queries, mask)
        camera = self.cameras[0]
        expected = (len(self.cameras), len(self.vertices), camera.height, camera.width)
        if (*rgb.shape[:2], *rgb.shape[3:]) != expected:
            raise InputError(
                f"the clip has (views, frames, height, width) {(*rgb.shape[:2], *rgb.shape[3:])} but mesh and cameras "
                f"have {expected}; track the clip that was rendered from them."
            )
        pixels = queries.detach().cpu().double().numpy()
        face, bary = bind_points(self.vertices[0], self.faces, self.cameras, pixels)
        xy, visible = follow_points(self.vertices, self.faces, face, bary, self.cameras, self.tolerance)
        valid = starting(rgb, queries, mask) & torch.from_numpy(face >= 0).to(queries.device)
        return assemble(torch.from_numpy(xy).to(queries), torch.from_numpy(visible).to(queries.device), queries, valid)


def bind_points(
    vertices: np.ndarray, faces: np.ndarray, cameras: Sequence[Camera], pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The surface points seen at pixels.

    Args:
        vertices: [Nv, 3] world.
        faces: [F, 3].
        cameras: V.
        pixels: [V, N, 2].

    Returns:
        face: [V, N] int64, -1 where nothing is seen; bary: [V, N, 3] float64 on the surface, rows sum to 1.
    """
    views, count = pixels.shape[:2]
    face, bary = np.full((views, count), -1), np.full((views, count, 3), 1 / 3)
    depth = np.empty(count)
    for v, camera in enumerate(cameras):
        screen = project(vertices, camera)
        nearest(screen, faces, NEAR, np.ascontiguousarray(pixels[v], np.float64), depth, face[v], bary[v])
    return face, bary


def follow_points(
    vertices: np.ndarray,
    faces: np.ndarray,
    face: np.ndarray,
    bary: np.ndarray,
    cameras: Sequence[Camera],
    tolerance: float = 0.005,
) -> tuple[np.ndarray, np.ndarray]:
    """Where bound points are in every frame.

    Args:
        vertices: [T, Nv, 3] world.
        faces: [F, 3].
        face: [V, N] triangle of each point of each view; -1 for none.
        bary: [V, N, 3] barycentrics on the surface.
        cameras: V.
        tolerance: World units of depth.

    Returns:
        xy: [V, T, N, 2] float32 pixels (arbitrary but finite where face is -1); visible: [V, T, N] bool: inside the
        picture with nothing nearer in front.
    """
    views, count, frames = *face.shape, len(vertices)
    xy, visible = np.zeros((views, frames, count, 2), np.float32), np.zeros((views, frames, count), bool)
    depth, front, unused = np.empty(count), np.empty(count, np.int64), np.empty((count, 3))
    for v, camera in enumerate(cameras):
        bound = face[v] >= 0
        corner = faces[np.maximum(face[v], 0)]  # [N, 3]
        for t in range(frames):
            screen = project(vertices[t], camera)
            points = np.einsum("nkc,nk->nc", vertices[t][corner], bary[v])
            at = project(points, camera)
            nearest(screen, faces, NEAR, np.ascontiguousarray(at[:, :2]), depth, front, unused)
            inside = (at[:, 2] > NEAR) & (at[:, :2] >= 0).all(1) & (at[:, :2] < (camera.width, camera.height)).all(1)
            xy[v, t] = at[:, :2]
            visible[v, t] = bound & inside & ((depth >= at[:, 2] - tolerance) | (front == face[v]))
    return xy, visible


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """World points [N, 3] as x, y in pixels and depth along the optical axis, [N, 3] float64."""
    xy, depth = camera.project(torch.from_numpy(np.ascontiguousarray(points, np.float64)))
    return torch.cat([xy, depth[:, None]], 1).numpy()


@numba.njit(cache=True, nogil=True)
def nearest(screen, faces, near, xy, depth, face, bary):  # pragma: no cover (compiled)
    """Nearest triangle at each point of a picture.

    Args:
        screen: [Nv, 3] from `project`.
        faces: [F, 3].
        near: Triangles with a vertex nearer than this are skipped.
        xy: [N, 2] pixels.
        depth, face, bary: [N] inf where nothing is, [N] -1 where nothing is, [N, 3] surface barycentrics; outputs.
    """
    depth[:] = np.inf
    face[:] = -1
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        az, bz, cz = screen[a, 2], screen[b, 2], screen[c, 2]
        if az < near or bz < near or cz < near:
            continue
        ax, ay, bx, by = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        x0, x1 = min(ax, bx, cx), max(ax, bx, cx)
        y0, y1 = min(ay, by, cy), max(ay, by, cy)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-12:
            continue
        for n in range(xy.shape[0]):
            x, y = xy[n, 0], xy[n, 1]
            if x < x0 or x > x1 or y < y0 or y > y1:
                continue
            wa = ((x - cx) * (by - cy) + (y - cy) * (cx - bx)) / area
            wb = ((x - cx) * (cy - ay) + (y - cy) * (ax - cx)) / area
            wc = 1.0 - wa - wb
            if wa < 0 or wb < 0 or wc < 0:
                continue
            # Weights on the surface: those in the picture over depth, normalised (perspective).
            pa, pb, pc = wa / az, wb / bz, wc / cz
            z = 1.0 / (pa + pb + pc)
            if z < depth[n]:
                depth[n] = z
                face[n] = f
                bary[n, 0], bary[n, 1], bary[n, 2] = pa * z, pb * z, pc * z
