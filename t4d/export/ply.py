"""3D Gaussian splatting PLY files, one per frame, in the layout of the original implementation."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from t4d.errors import InputError
from t4d.export.files import atomic_path, write_sequence
from t4d.splat.gaussians import Gaussians
from t4d.splat.rotate import rotate_gaussians

UpAxis = Literal["z", "y", "-y"]

WORLD_TO_FILE: dict[str, list[list[float]]] = {
    "z": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],  # our world
    "y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],  # glTF, three.js, Unity-style viewers
    "-y": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],  # COLMAP-style scenes; most 3DGS web viewers turn these over
}


def ply_columns(sh_count: int) -> list[str]:
    """Property names of the file, in order, for K = `sh_count` coefficients a channel."""
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(3 * (sh_count - 1))),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


def write_ply(path: Path, gaussians: Gaussians, *, up: UpAxis = "z") -> Path:
    """Write Gaussians as a binary little-endian 3DGS PLY.

    The layout is that of the reference 3DGS code: x y z, nx ny nz (zero), f_dc (3), f_rest (channel by channel),
    opacity (logit), scale (log), rot (w, x, y, z, normalised), all float32. The axis convention is `up`.

    Args:
        path: The .ply file to write.
        gaussians: N Gaussians without batch dimensions, world z up.
        up: Axis of the file that points up: "z" (our world, the default), "y" (glTF, three.js) or "-y".

    Returns:
        `path`.

    Raises:
        InputError: For batch dimensions, values that are not finite, or an unknown axis.
    """
    if up not in WORLD_TO_FILE:
        raise InputError(f"up axis {up!r} is unknown, expected one of {', '.join(WORLD_TO_FILE)}.")
    if gaussians.means.ndim != 2:
        raise InputError(f"means have shape {tuple(gaussians.means.shape)}, expected [N, 3]: write one frame a file.")
    if up != "z":
        gaussians = rotate_gaussians(gaussians, torch.tensor(WORLD_TO_FILE[up], dtype=torch.float64))
    sh = gaussians.sh  # [N, K, 3]
    columns = torch.cat(
        [
            gaussians.means,
            torch.zeros_like(gaussians.means),
            sh[:, 0],
            sh[:, 1:].transpose(1, 2).flatten(1),
            gaussians.opacity_logits[:, None],
            gaussians.log_scales,
            torch.nn.functional.normalize(gaussians.quats, dim=-1),
        ],
        dim=1,
    )
    table = columns.detach().cpu().numpy().astype("<f4")
    if not np.isfinite(table).all():
        raise InputError(
            "the Gaussians hold NaN or infinite values, expected finite ones; check the fit before export."
        )
    names = ply_columns(sh.shape[1])
    header = ["ply", "format binary_little_endian 1.0", f"comment up {up}", f"element vertex {len(table)}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    with atomic_path(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + table.tobytes())
    return Path(path)


def write_ply_sequence(
    folder: Path, at: Callable[[int], Gaussians], frames: int, fps: float, *, up: UpAxis = "z"
) -> list[Path]:
    """Write every frame as `0000.ply`, `0001.ply`, ... and `frames.json` that says how to play them.

    Args:
        folder: Made when missing; PLY files of an earlier, longer sequence in it are removed.
        at: Gaussians of a frame index in 0..frames-1.
        frames: Number of frames T.
        fps: Frames per second, recorded in `frames.json`.
        up: As `write_ply`.

    Returns:
        The T paths, in order.
    """
    return write_sequence(
        folder, ".ply", lambda path, frame: write_ply(path, at(frame), up=up), frames, "frames.json", fps=fps, up=up
    )


def zip_folder(path: Path, folder: Path) -> Path:
    """Pack the files of `folder` (not its subfolders) under the folder's own name into a zip; returns `path`."""
    folder = Path(folder)
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive,
    ):
        for file in sorted(folder.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                archive.write(file, f"{folder.name}/{file.name}")
    return Path(path)
