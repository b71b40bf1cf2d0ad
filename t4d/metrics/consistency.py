"""Agreement of pictures of one moving object with each other, where no truth is known."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from t4d.geometry.camera import Camera
from t4d.metrics.pictures import psnr


def sample_at(
    pictures: Tensor,  # [T, C, H, W]
    camera: Camera,
    points: Tensor,  # [T, N, 3]
) -> Tensor:
    """Pictures where points project, bilinearly (align_corners False, border held), [T, N, C]."""
    xy, _ = camera.project(points)
    grid = 2 * xy / xy.new_tensor([camera.width, camera.height]) - 1
    return grid_sample(pictures, grid[:, None], padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)


def photometric_agreement(
    held: Tensor,  # [J, T, 4, H, W]
    judges: Sequence[Camera],
    clip: Tensor,  # [V, T, 4, H, W]
    cameras: Sequence[Camera],
    points: Tensor,  # [T, N, 3]
    seen_held: Tensor,  # [J, T, N] bool
    seen_clip: Tensor,  # [V, T, N] bool
    angle: float = 60.0,
) -> float:
    """How well renderings at views that were never fitted carry the colours of the clip's neighbouring views, dB.

    Every point that is seen from a held-out camera and from a clip camera less than `angle` degrees away links a pixel
    of the rendering with a pixel of the clip in the same frame; their colours should be equal. A point that has left
    the clip's silhouette meets its background there and is charged. Pictures are composited over one background.

    Args:
        held: renderings at the held-out cameras, sRGB 0..1 and coverage.
        judges: J held-out cameras.
        clip: the clip the object was made from.
        cameras: its V cameras.
        points: centres of the Gaussians, world.
        seen_held, seen_clip: which camera sees which point in which frame.
        angle: between the two directions from the origin, degrees.

    Returns:
        PSNR of the linked pairs of colours.

    Raises:
        ValueError: shapes do not fit, or no point is linked.
    """
    frames, count = points.shape[:2]
    for name, tensor, views in (("held-out", seen_held, judges), ("clip", seen_clip, cameras)):
        if tuple(tensor.shape) != (len(views), frames, count):
            raise ValueError(
                f"visibility of the {name} views has shape {list(tensor.shape)}, expected {[len(views), frames, count]}"
            )
    error, pairs = 0.0, 0
    clip_colors = [sample_at(picture[:, :3], camera, points) for picture, camera in zip(clip, cameras)]
    for j, judge in enumerate(judges):
        mine = sample_at(held[j][:, :3], judge, points)
        for v, camera in enumerate(cameras):
            if _angle(judge, camera) >= angle:
                continue
            both = seen_held[j] & seen_clip[v]
            error += float((mine - clip_colors[v])[both].square().sum(dtype=torch.float64))
            pairs += 3 * int(both.sum())
    if not pairs:
        raise ValueError("no point is seen from a held-out view and a neighbouring view of the clip at once")
    return psnr(error / pairs)


def _angle(a: Camera, b: Camera) -> float:
    """Degrees between the directions of two cameras from the origin."""
    cosine = torch.nn.functional.cosine_similarity(a.eye, b.eye, dim=0).clamp(-1, 1)
    return float(torch.rad2deg(torch.acos(cosine)))
