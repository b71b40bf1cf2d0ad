"""Tracks of points on the moving object: where they are in space and in each view, and whether they are seen."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from t4d.errors import InputError
from t4d.export.files import atomic_path
from t4d.geometry.camera import Camera
from t4d.motion.visibility import visible_from_depth
from t4d.splat.binding import MeshBinding
from t4d.splat.gaussians import Gaussians
from t4d.splat.rasterize import Backend

# Visibility is judged in pictures at least this wide and high: coarser ones lose surfaces that are seen at an angle.
JUDGED_AT = 256


def write_tracks(
    folder: Path,
    at: Callable[[int], Gaussians],
    frames: int,
    fps: float,
    cameras: Sequence[Camera],
    *,
    points: int = 512,
    binding: MeshBinding | None = None,
    seed: int = 0,
    backend: Backend = "auto",
) -> dict[str, Path]:
    """Writes tracks.npz and tracks.csv of Gaussians drawn at random.

    The NPZ holds, for M points, T frames and V views:
        ``gaussian`` [M] int64, index of each point's Gaussian, rising;
        ``xyz`` [T, M, 3] float32, world (z up);
        ``xy`` [V, T, M, 2] float32, pixels (x right, y down, centres at .5), NaN nowhere, also outside the picture;
        ``visible`` [V, T, M] bool: inside the picture and not behind the rendered surface;
        ``fps``, ``size`` (width, height), ``world_to_camera`` [V, 4, 4] and ``K`` [V, 3, 3] float64 (OpenCV);
        with a binding also ``face`` [M] int64 and ``barycentric`` [M, 3] float32 on the object's triangles.

    The CSV holds one row per frame and point: frame, seconds, gaussian, x, y, z, then view0_x, view0_y, view0_visible
    (0 or 1), view1_x, ...

    Args:
        folder: Made when missing.
        at: Gaussians of a frame 0..T-1.
        frames: T.
        fps: frames per second.
        cameras: V cameras of one picture size.
        points: M, fewer where there are fewer Gaussians.
        binding: of the Gaussians to a mesh, or None.
        seed: of the drawing.
        backend: of the rasteriser that judges visibility.

    Returns:
        {"npz": path, "csv": path}.

    Raises:
        InputError: no points, no cameras, or positions that are not finite.
    """
    still = at(0)
    if points < 1 or len(cameras) == 0:
        raise InputError(f"tracks of {points} points in {len(cameras)} views were asked for; give at least 1 each.")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(still), generator=generator)[:points].sort().values
    factor = max(1, -(-JUDGED_AT // min(cameras[0].width, cameras[0].height)))
    judges = [camera.resized(factor * camera.width, factor * camera.height) for camera in cameras]
    places, pixels, seen = [], [], []
    for frame in range(frames):
        gaussians = at(frame).detach()
        visible = visible_from_depth(gaussians, judges, backend=backend)  # [V, N]
        centres = gaussians.means[chosen.to(gaussians.means.device)]
        places.append(centres.float().cpu())
        pixels.append(torch.stack([camera.project(centres.double().cpu())[0] for camera in cameras]).float())
        seen.append(visible.cpu()[:, chosen])
    xyz, xy, visible = torch.stack(places), torch.stack(pixels, 1), torch.stack(seen, 1)
    if not bool(torch.isfinite(xyz).all()):
        raise InputError("the Gaussians hold NaN or infinite centres, expected finite ones; check the fit first.")
    arrays = {
        "gaussian": chosen.numpy(),
        "xyz": xyz.numpy(),
        "xy": xy.numpy(),
        "visible": visible.numpy(),
        "fps": np.float64(fps),
        "size": np.array([cameras[0].width, cameras[0].height]),
        "world_to_camera": torch.stack([camera.world_to_camera for camera in cameras]).numpy(),
        "K": torch.stack([camera.K for camera in cameras]).numpy(),
    }
    if binding is not None:
        arrays |= {"face": binding.faces[chosen.numpy()], "barycentric": binding.barycentrics[chosen.numpy()]}
    folder = Path(folder)
    with atomic_path(folder / "tracks.npz") as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    with atomic_path(folder / "tracks.csv") as temporary:
        _write_csv(temporary, arrays, fps)
    return {"npz": folder / "tracks.npz", "csv": folder / "tracks.csv"}


def _write_csv(path: Path, arrays: dict[str, np.ndarray], fps: float) -> None:
    xyz, xy, visible = arrays["xyz"], arrays["xy"], arrays["visible"]
    views = [f"view{view}_{name}" for view in range(len(xy)) for name in ("x", "y", "visible")]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["frame", "seconds", "gaussian", "x", "y", "z", *views])
        for frame in range(len(xyz)):
            for point, gaussian in enumerate(arrays["gaussian"]):
                row = [frame, f"{frame / fps:.6g}", int(gaussian), *(f"{value:.6f}" for value in xyz[frame, point])]
                for view in range(len(xy)):
                    row += [*(f"{value:.3f}" for value in xy[view, frame, point]), int(visible[view, frame, point])]
                writer.writerow(row)
