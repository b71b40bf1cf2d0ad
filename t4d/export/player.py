"""A moving asset as one web page that needs no server, no network and no installed program."""

import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from t4d.errors import InputError
from t4d.export.files import atomic_path
from t4d.geometry.rotations import quat_to_matrix
from t4d.splat.gaussians import Gaussians
from t4d.splat.sh import sh0_to_rgb

# Viser draws splats as quads whose corners have two coordinates; three.js, asking for a third when it first computes
# the culling sphere, logs one error and then (rightly) never culls them. Only that sentence is kept off the console.
_KNOWN_LOG = "THREE.BufferGeometry.computeBoundingSphere(): Computed radius is NaN"
_LOG_FILTER = (
    "<script>(()=>{const log=console.error;console.error=(...a)=>{"
    f'if(!String(a[0]).startsWith("{_KNOWN_LOG}"))log.apply(console,a)}}}})()</script>'
)
# Positions are rounded to this grid: far below a pixel of any screen, and the zeroed mantissa bits compress.
_POSITION_STEP = 2.0**-14


def viewer_splats(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Gaussians as the viewer takes them.

    The viewer shows one colour a Gaussian, so of view-dependent colour only the constant term is kept.

    Args:
        gaussians: N Gaussians without batch dimensions.

    Returns:
        centers [N, 3], covariances [N, 3, 3], rgbs [N, 3] and opacities [N, 1] in 0..1, float32.

    Raises:
        InputError: For batch dimensions or values that are not finite.
    """
    if gaussians.means.ndim != 2:
        raise InputError(f"means have shape {tuple(gaussians.means.shape)}, expected [N, 3] for one frame.")
    axes = quat_to_matrix(gaussians.quats) * gaussians.log_scales.exp()[:, None, :]
    arrays = {
        "centers": (gaussians.means / _POSITION_STEP).round() * _POSITION_STEP,
        "covariances": axes @ axes.transpose(-1, -2),
        "rgbs": sh0_to_rgb(gaussians.sh[:, 0]).clamp(0, 1),
        "opacities": torch.sigmoid(gaussians.opacity_logits)[:, None],
    }
    splats = {name: value.detach().float().cpu().numpy() for name, value in arrays.items()}
    if not all(np.isfinite(value).all() for value in splats.values()):
        raise InputError("the Gaussians hold NaN or infinite values, expected finite ones; check the fit.")
    return splats


def player_html(
    at: Callable[[int], Gaussians],
    frames: int,
    fps: float,
    *,
    title: str = "",
    azimuth: float = 30.0,
    elevation: float = 15.0,
    distance: float = 3.0,
    vfov: float = 40.0,
    background: float = 0.5,
) -> str:
    """The page: viser's own client with the recording inside; it plays in a loop, pauses, scrubs and orbits.

    Viser needs its server object to record a scene; it is bound to the loopback interface on a port of the system's
    choice for the moment this takes, and stopped.

    Args:
        at: Gaussians of a frame index in 0..frames-1, world z up; the same count in every frame.
        frames: Number of frames T.
        fps: Playing speed at "1x".
        title: Page title and caption, any text (escaped).
        azimuth: First camera's azimuth in degrees, 0 on +x toward +y.
        elevation: First camera's elevation in degrees.
        distance: First camera's distance from the origin.
        vfov: Vertical field of view in degrees.
        background: Grey level 0..1 behind the asset.

    Returns:
        A complete HTML document.

    Raises:
        InputError: For no frames, fps <= 0, or Gaussians that are not finite.
    """
    if frames < 1:
        raise InputError(f"a player of {frames} frames was asked for; give at least 1.")
    if not fps > 0:
        raise InputError(f"fps is {fps}, expected a number above 0.")
    splats = [viewer_splats(at(frame)) for frame in range(frames)]

    with _recording_server() as server:
        around, above = np.deg2rad(azimuth), np.deg2rad(elevation)
        direction = np.array([np.cos(above) * np.cos(around), np.cos(above) * np.sin(around), np.sin(above)])
        server.initial_camera.position = distance * direction
        server.initial_camera.look_at = (0.0, 0.0, 0.0)
        server.initial_camera.up = (0.0, 0.0, 1.0)
        server.initial_camera.fov = np.deg2rad(vfov)
        level = round(255 * min(max(background, 0.0), 1.0))
        server.scene.set_background_image(np.full((2, 2, 3), level, dtype=np.uint8), format="png")
        node = server.scene.add_gaussian_splats("/asset", **splats[0])
        recording = server.get_scene_serializer()
        for frame in splats[1:]:
            recording.insert_sleep(1.0 / fps)
            node.set_gaussians(**frame)
        if frames > 1:
            recording.insert_sleep(1.0 / fps)
        page = recording.as_html()
    return _with_title(page, title)


def write_player(path: Path, at: Callable[[int], Gaussians], frames: int, fps: float, **options) -> Path:
    """Write `player_html(at, frames, fps, **options)` and return its path; it works from file:// and http."""
    page = player_html(at, frames, fps, **options)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(path)


@contextmanager
def _recording_server() -> Iterator[Any]:
    """A viser server on a loopback port, stopped afterwards; its banner would advertise an address that is gone."""
    import rich
    import viser  # slow to import, and only this module needs it

    console = rich.get_console()
    was_quiet, console.quiet = console.quiet, True
    try:
        server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
        try:
            yield server
        finally:
            server.stop()
    finally:
        console.quiet = was_quiet


def _with_title(page: str, title: str) -> str:
    """Put an escaped title into the page's head and a caption over its canvas."""
    shown = html.escape(title or "4D asset", quote=True)
    head, marker, rest = page.partition("<title>Viser</title>")  # stands before the client's scripts
    body, end, tail = rest.rpartition("</body>")
    if not (marker and end):
        raise RuntimeError("viser's page has changed its form; the tested version is in requirements.txt")
    caption = (
        '<div style="position:fixed;bottom:56px;left:14px;max-width:80%;z-index:2;pointer-events:none;color:#fff;'
        'font:500 15px system-ui,sans-serif;text-shadow:0 0 4px #000">' + shown + "</div>"
    )
    return f"{head}<title>{shown}</title>{_LOG_FILTER}{body}{caption if title else ''}{end}{tail}"
