"""Which views see which Gaussians: by rays against the object's triangles, or by rendered depth without triangles."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t4d.errors import InputError
from t4d.geometry.camera import Camera, stack
from t4d.geometry.visibility import cast_visibility
from t4d.splat.gaussians import Gaussians
from t4d.splat.rasterize import Backend, rasterize
from t4d.splat.render import PIXEL_FILTER

TOLERANCE = 0.02


def visible_from_mesh(vertices: np.ndarray, faces: np.ndarray, means: Tensor, cameras: Sequence[Camera]) -> Tensor:
    """Whether each view sees each Gaussian's centre past the triangles of one pose.

    Args:
        vertices: [Nv, 3] posed, world.
        faces: [F, 3].
        means: [N, 3] on the surface, world.
        cameras: V cameras.

    Returns:
        [V, N] bool, on the CPU; false outside the picture.
    """
    points = means.detach().double().cpu()
    rows = [
        torch.from_numpy(cast_visibility(vertices, faces, points.numpy(), camera.eye.numpy()))
        & _inside(points, camera)[2]
        for camera in cameras
    ]
    return torch.stack(rows)


@torch.no_grad()
def visible_from_depth(
    gaussians: Gaussians, cameras: Sequence[Camera], tolerance: float = TOLERANCE, backend: Backend = "auto"
) -> Tensor:
    """Whether each view sees each Gaussian's centre, judged by the depth the Gaussians themselves render.

    A centre is seen where it lies at most ``tolerance`` radii of the object (half the diagonal of its centres' bounds)
    behind the rendered depth. Two per cent of the *depth* instead, at the rig's distance four times as much, lets a
    view see through limbs (against rays on real objects: 8 to 19 % wrongly seen, 3 to 7 % with radii). Depth and
    coverage are interpolated before they are divided, so that pixels without coverage do not count; a centre where
    nothing covers its pixel is not seen.

    Args:
        gaussians: with any leading batch dimensions (frames).
        cameras: V cameras of one picture size.
        tolerance: in radii of the object.
        backend: of ``rasterize``.

    Returns:
        [..., V, N] bool; false outside the picture.

    Raises:
        InputError: The cameras differ in size.
    """
    width, height = cameras[0].width, cameras[0].height
    if any((c.width, c.height) != (width, height) for c in cameras):
        raise InputError("Cameras of different picture sizes were given; use one size for all views.")
    means = gaussians.means.detach()
    viewmats, Ks = (x.to(means) for x in stack(list(cameras)))
    batch = means.shape[:-2]
    depths, alphas, _ = rasterize(
        means,
        gaussians.quats.detach(),
        gaussians.scales.detach(),
        gaussians.opacities.detach(),
        means,
        viewmats.expand(*batch, *viewmats.shape),
        Ks.expand(*batch, *Ks.shape),
        width,
        height,
        render_mode="D",
        backend=backend,
        **PIXEL_FILTER,
    )
    radius = 0.5 * (means.amax(-2) - means.amin(-2)).norm(dim=-1)  # [...]
    layers = torch.cat([depths, alphas], -1).movedim(-1, -3)  # [..., V, 2, H, W]
    rows = []
    for view, camera in enumerate(cameras):
        xy, depth, inside = _inside(means, camera)
        places = (2 * xy / xy.new_tensor([width, height]) - 1).clamp(-2, 2)
        picture = layers[..., view, :, :, :]
        sampled = F.grid_sample(
            picture.reshape(-1, 2, height, width),
            places.reshape(-1, 1, *places.shape[-2:]),
            padding_mode="border",
            align_corners=False,
        )[:, :, 0].reshape(*batch, 2, -1)
        accumulated, alpha = sampled.unbind(-2)
        rows.append(inside & (alpha > 0) & ((depth - tolerance * radius[..., None]) * alpha <= accumulated))
    return torch.stack(rows, dim=-2)


def _inside(points: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels [..., 2], depth [...] and whether they lie in the picture and before the camera."""
    xy, depth = camera.project(points)
    size = xy.new_tensor([camera.width, camera.height])
    return xy, depth, (depth > 0) & (xy >= 0).all(-1) & (xy <= size).all(-1)
