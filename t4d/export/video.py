"""H.264 videos: the grid of views and the camera orbit around the moving asset."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from t4d.errors import InputError
from t4d.export.files import atomic_path
from t4d.export.tiles import Frames, clip_bytes, draw_labels, enlarge, grid_shape, tile, to_uint8
from t4d.geometry.camera import orbit_camera
from t4d.splat.gaussians import Gaussians
from t4d.splat.rasterize import Backend
from t4d.splat.render import render_gaussians


def write_video(path: Path, frames: Frames, fps: float, *, crf: int = 16) -> Path:
    """Write an mp4 that every browser plays: H.264, yuv420p (BT.709, limited range), index at the front.

    Args:
        path: The .mp4 file to write (atomically).
        frames: [T, H, W, 3] RGB, uint8 or sRGB 0..1, numpy or torch. An odd height or width is padded by
            repeating the last row or column, since 4:2:0 chroma needs even sizes.
        fps: Frames per second, > 0.
        crf: x264's constant rate factor, 0 (lossless) .. 51.

    Returns:
        `path`.

    Raises:
        InputError: For a wrong shape, no frames, NaN, or fps <= 0.
    """
    shape = tuple(frames.shape)
    if len(shape) != 4 or shape[-1] != 3 or 0 in shape:
        raise InputError(f"the video's frames have shape {shape}, expected [frames, height, width, 3], none empty.")
    if not 0 < fps <= 1000:
        raise InputError(f"fps is {fps}, expected a number above 0 (at most 1000).")
    pixels = to_uint8(frames, "the video's frames")
    pixels = np.pad(pixels, ((0, 0), (0, shape[1] % 2), (0, shape[2] % 2), (0, 0)), mode="edge")
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = pixels.shape[2], pixels.shape[1], "yuv420p"
        # two threads: more cost memory and change nothing at these sizes
        stream.options = {"crf": str(crf), "preset": "medium", "tune": "animation", "threads": "2"}
        codec = stream.codec_context
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for image in pixels:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            # untagged RGB would be converted by the BT.601 matrix and shown by the BT.709 one: a colour shift
            frame = frame.reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                dst_colorspace=Colorspace.ITU709,
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return Path(path)


def write_grid(
    path: Path,
    clip: Frames,
    fps: float,
    *,
    labels: Sequence[str] | None = None,
    min_side: int = 480,
    crf: int = 16,
) -> Path:
    """Write all views of a clip side by side, in a nearly square grid (four views: 2 x 2, in reading order).

    Args:
        path: The .mp4 file to write.
        clip: [V, T, 3 or 4, H, W] uint8 or sRGB 0..1.
        fps: Frames per second.
        labels: V short texts drawn in the corner of each view; None draws none and keeps the pixels exact.
        min_side: The grid is enlarged by a whole factor (Lanczos) until its shorter side has this many pixels,
            which also spares small clips the loss of 4:2:0 chroma; 0 keeps the clip's own size.
        crf: As in `write_video`.

    Returns:
        `path`.

    Raises:
        InputError: As `write_video`, and when the labels do not match the views.
    """
    views = clip_bytes(clip)
    if labels is not None and len(labels) != len(views):
        raise InputError(f"{len(labels)} labels were given for {len(views)} views; give one each.")
    rows, columns = grid_shape(len(views))
    factor = max(1, -(-min_side // min(rows * views.shape[2], columns * views.shape[3])))
    views = enlarge(views, factor)
    frames = tile(views, columns, fill=128)
    if labels is not None:
        height, width = views.shape[2:4]
        places = [((i % columns) * width + 6, (i // columns) * height + 4, text) for i, text in enumerate(labels)]
        frames = np.stack([draw_labels(frame, places) for frame in frames])
    return write_video(path, frames, fps, crf=crf)


def render_orbit(
    at: Callable[[int], Gaussians],
    frames: int,
    *,
    length: int = 64,
    size: int = 256,
    elevation: float = 15.0,
    start_azimuth: float = 0.0,
    turns: float = 1.0,
    distance: float = 3.0,
    vfov: float = 40.0,
    background: float = 0.5,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Render a camera that circles the moving asset while its animation loops.

    Args:
        at: Gaussians of an animation frame index in 0..frames-1, world z up.
        frames: Animation frames T; picture i shows animation frame i mod T.
        length: Pictures in the orbit.
        size: Width and height in pixels.
        elevation: Degrees above the ground plane.
        start_azimuth: Degrees, 0 on +x toward +y.
        turns: Turns of the camera over `length`; 1 closes the loop.
        distance: Camera distance from the origin, world units.
        vfov: Vertical field of view in degrees.
        background: Grey level 0..1.
        backend: Rasteriser, as `t4d.splat.rasterize.rasterize`.

    Returns:
        [length, size, size, 3] float32 sRGB 0..1.

    Raises:
        InputError: When `frames` or `length` is below 1.
    """
    if frames < 1 or length < 1:
        raise InputError(f"an orbit of {length} pictures over {frames} frames was asked for; both must be at least 1.")
    pictures = torch.empty(length, size, size, 3)
    with torch.no_grad():
        # grouped by animation frame: each pose is evaluated once however often the animation loops
        for frame in range(min(frames, length)):
            shown = list(range(frame, length, frames))
            angles = [start_azimuth + 360.0 * turns * index / length for index in shown]
            cameras = [orbit_camera(angle, elevation, distance, vfov, size, size) for angle in angles]
            rgba = render_gaussians(at(frame), cameras, background=background, backend=backend)
            pictures[shown] = rgba[:, :3].permute(0, 2, 3, 1).float().cpu()
    return pictures


def write_orbit(path: Path, at: Callable[[int], Gaussians], frames: int, fps: float, **options: Any) -> Path:
    """Write `render_orbit(at, frames, **options)` as an mp4 at `fps`; returns `path`."""
    return write_video(path, render_orbit(at, frames, **options), fps)
