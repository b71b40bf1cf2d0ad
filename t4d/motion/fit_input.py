"""What a fit refuses, each in one sentence."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from t4d.errors import InputError
from t4d.geometry.camera import Camera
from t4d.splat.gaussians import Gaussians


def check_fit(
    gaussians: Gaussians, cameras: Sequence[Camera], rgb: Tensor, mask: Tensor, iterations: int, images: int, table: Any
) -> None:
    """Whether object, cameras, clip [V, T, ...] and feature table (or None) fit each other.

    Raises:
        InputError: they do not, or the clip has values that are not finite or an empty mask in frame 0.
    """
    if rgb.dim() != 5 or rgb.shape[2] != 3 or mask.shape != (*rgb.shape[:2], 1, *rgb.shape[3:]):
        raise InputError(
            f"The clip has colours {list(rgb.shape)} and masks {list(mask.shape)}; "
            "expected [views, frames, 3, height, width] and the same with 1 channel."
        )
    views, frames, _, height, width = rgb.shape
    if frames < 2:
        raise InputError(f"The clip has {frames} frame; at least 2 are needed to fit a motion.")
    if len(cameras) != views or any((camera.width, camera.height) != (width, height) for camera in cameras):
        sizes = sorted({f"{camera.width}x{camera.height}" for camera in cameras})
        raise InputError(
            f"The clip has {views} views of {width}x{height} pixels but there are {len(cameras)} cameras of "
            f"{', '.join(sizes)}; give one camera per view with the clip's size."
        )
    for name, tensor in (("colours", rgb), ("masks", mask)):
        if not bool(torch.isfinite(tensor).all()):
            bad = (~torch.isfinite(tensor)).nonzero()[0].tolist()
            raise InputError(f"The clip's {name} are not finite in view {bad[0]}, frame {bad[1]}; render it again.")
    if not bool((mask[:, 0] > 0.5).any()):
        raise InputError("The clip's mask is empty in frame 0; expected the static object there, so check the masks.")
    if gaussians.means.dim() != 2:
        raise InputError(f"The object has Gaussians of shape {list(gaussians.means.shape)}; expected one set [N, 3].")
    if iterations < 1 or images < 1:
        raise InputError(
            f"A fit of {iterations} iterations and {images} images was asked for; both must be at least 1."
        )
    if table is not None and table.values.shape[:2] != (len(gaussians), frames):
        points, times = table.values.shape[:2]
        raise InputError(
            f"The diffusion features are of {points} Gaussians and {times} frames, object and clip have "
            f"{len(gaussians)} and {frames}; compute the features again."
        )
