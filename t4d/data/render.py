"""Renders clips of a posed mesh with vertex colours: RGBA, exact flow to frame 0, exact tracks.

Needs numpy, numba and torch only, so that it runs where neither trimesh nor embreex is installed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from t4d.data.raster import render_batch
from t4d.geometry.camera import Camera, stack

NEAR = 0.05  # world units; every rig camera stands far outside the object
TOLERANCE = 0.005  # world units of depth within which two surfaces count as one


@dataclass(frozen=True)
class Samples:
    """What every supersample shows.

    Attributes:
        depth: [V, T, H s, W s] float32 camera depth, inf where empty.
        face: [V, T, H s, W s] int32, -1 where empty.
        bary: [V, T, H s, W s, 2] float32, barycentrics of the face's first two corners; undefined where empty.
    """

    depth: np.ndarray
    face: np.ndarray
    bary: np.ndarray


@dataclass(frozen=True)
class ClipRender:
    """A rendered clip.

    Attributes:
        rgba: [V, T, 4, H, W] float32, sRGB colour composited over the background, and coverage.
        flow: [V, T, 2, H/c, W/c] float32 backward flow in normalised units (the image spans -1..1): a point p of
            frame t was at p + flow(p) in frame 0 of the same view. Zero off the object.
        flow_valid: [V, T, 1, H/c, W/c] float32, 1 where the object is seen and frame 0 sees the same point.
        samples: What each supersample shows, where asked for.
        tracks: [V, T, N, 2] float32 pixels (x right, y down, centres at .5): exact tracks of the surface points under
            a regular grid over frame 0 of each view, N = grid * grid, row by row. Points off the object stay put.
        visible: [V, T, N] bool, inside the image and not hidden; False off the object.
        query_valid: [V, N] bool, the grid point lies on the object in frame 0.
    """

    rgba: np.ndarray
    flow: np.ndarray
    flow_valid: np.ndarray
    samples: Samples | None
    tracks: np.ndarray
    visible: np.ndarray
    query_valid: np.ndarray


def render_clip(
    vertices: np.ndarray,
    faces: np.ndarray,
    srgb: np.ndarray,
    cameras: Sequence[Camera],
    *,
    supersample: int = 2,
    flow_cell: int = 2,
    background: float = 0.5,
    keep_samples: bool = False,
    grid: int = 0,
) -> ClipRender:
    """Z-buffer render of all views and frames.

    Args:
        vertices: [T, Nv, 3] float32 world.
        faces: [F, 3] int32, drawn from both sides.
        srgb: [T, Nv, 3] float32 vertex colours from `shade_clip`.
        cameras: V cameras of one size.
        supersample: Samples per pixel side.
        flow_cell: Pixels per side of a flow cell; divides height and width.
        background: Grey behind the object, 0..1.
        keep_samples: Whether to return `ClipRender.samples`.
        grid: Query points per side, at ((i + .5) W / grid, (j + .5) H / grid); 0: no tracks (N = 0).

    Raises:
        ValueError: Cameras differ in size, or flow_cell does not divide it.
    """
    width, height = cameras[0].width, cameras[0].height
    if any((c.width, c.height) != (width, height) for c in cameras) or width % flow_cell or height % flow_cell:
        raise ValueError(
            f"cameras must share one size that flow_cell={flow_cell} divides; the first is {width}x{height}"
        )
    views, frames = len(cameras), len(vertices)
    viewmats, Ks = (x.numpy() for x in stack(cameras))
    rgba = np.empty((views, frames, 4, height, width), np.float32)
    flow = np.empty((views, frames, 2, height // flow_cell, width // flow_cell), np.float32)
    valid = np.empty((views, frames, 1, height // flow_cell, width // flow_cell), np.float32)
    lead = (views, frames, height * supersample, width * supersample) if keep_samples else (0, 0, 1, 1)
    samples = (np.empty(lead, np.float32), np.empty(lead, np.int32), np.empty((*lead, 2), np.float32))
    tracks = np.empty((views, frames, grid * grid, 2), np.float32)
    visible, query_valid = np.empty((views, frames, grid * grid), bool), np.empty((views, grid * grid), bool)
    render_batch(
        np.ascontiguousarray(vertices, np.float32),
        np.ascontiguousarray(faces, np.int32),
        np.ascontiguousarray(srgb, np.float32),
        viewmats,
        Ks,
        supersample,
        np.float32(background),
        np.float32(NEAR),
        np.float32(TOLERANCE),
        flow_cell,
        (rgba, flow, valid),
        samples,
        grid,
        (tracks, visible, query_valid),
    )
    kept = Samples(*samples) if keep_samples else None
    return ClipRender(rgba, flow, valid, kept, tracks, visible, query_valid)
