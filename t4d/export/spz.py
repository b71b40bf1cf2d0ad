"""SPZ files: Gaussians at about a tenth of the size of a PLY, written by gsply."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from t4d.errors import InputError
from t4d.export.files import atomic_path, write_sequence
from t4d.export.ply import WORLD_TO_FILE, UpAxis
from t4d.splat.gaussians import Gaussians
from t4d.splat.rotate import rotate_gaussians

VERSION = 3  # one gzip stream, quaternions by their smallest three: what the viewers of 2025 read
MOST_FRACTION_BITS = 16


def write_spz(path: Path, gaussians: Gaussians, *, up: UpAxis = "y") -> Path:
    """Write Gaussians as an SPZ file (Niantic), quantised.

    Steps: positions 2^-16 world units (coarser for objects beyond 128 units), scales 1/16 of their logarithm, colours
    1/38 of the first coefficient and 1/128 of the others, opacity 1/255, orientations about 0.2 degrees.

    Args:
        path: The .spz file to write.
        gaussians: N Gaussians without batch dimensions, world z up.
        up: Axis of the file that points up; SPZ's own convention is right, up, back, so "y" by default.

    Returns:
        `path`.

    Raises:
        InputError: For batch dimensions, values that are not finite, or an unknown axis.
    """
    import gsply

    if up not in WORLD_TO_FILE:
        raise InputError(f"up axis {up!r} is unknown, expected one of {', '.join(WORLD_TO_FILE)}.")
    if gaussians.means.ndim != 2:
        raise InputError(f"means have shape {tuple(gaussians.means.shape)}, expected [N, 3]: write one frame a file.")
    state = rotate_gaussians(gaussians.detach().to("cpu"), torch.tensor(WORLD_TO_FILE[up], dtype=torch.float64))
    values = {name: value.float().numpy() for name, value in state.state_dict().items()}
    if not all(np.isfinite(value).all() for value in values.values()):
        raise InputError(
            "the Gaussians hold NaN or infinite values, expected finite ones; check the fit before export."
        )
    data = gsply.GSData(
        means=values["means"],
        scales=values["log_scales"],
        quats=torch.nn.functional.normalize(state.quats, dim=-1).float().numpy(),
        opacities=values["opacity_logits"],
        sh0=np.ascontiguousarray(values["sh"][:, 0]),
        shN=np.ascontiguousarray(values["sh"][:, 1:]),
    )
    with atomic_path(path) as temporary:
        gsply.write_spz(temporary, data, version=VERSION, fractional_bits=fraction_bits(values["means"]))
    return Path(path)


def fraction_bits(means: np.ndarray) -> int:
    """Bits after the point of SPZ's 24-bit positions [N, 3]: as many as the farthest position leaves, at most 16."""
    farthest = float(np.abs(means).max(initial=0.0))
    return min(MOST_FRACTION_BITS, 23 - math.ceil(math.log2(farthest + 1)))


def write_spz_sequence(
    folder: Path, at: Callable[[int], Gaussians], frames: int, fps: float, *, up: UpAxis = "y"
) -> list[Path]:
    """Write every frame as `0000.spz`, `0001.spz`, ... and `spz.json` that says how to play them.

    Args:
        folder: Made when missing; SPZ files of an earlier, longer sequence in it are removed.
        at: Gaussians of a frame index in 0..frames-1.
        frames: Number of frames T.
        fps: Frames per second, recorded in `spz.json`.
        up: As `write_spz`.

    Returns:
        The T paths, in order.
    """
    return write_sequence(
        folder, ".spz", lambda path, frame: write_spz(path, at(frame), up=up), frames, "spz.json", fps=fps, up=up
    )
