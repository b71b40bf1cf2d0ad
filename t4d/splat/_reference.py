"""Readable twin of the rasteriser in plain torch: any device, any dtype, gradients by autograd.

Dense (every pixel against every visible Gaussian), so it is slow; it exists to be read and to be compared with.
The formulas and constants are those of gsplat 1.5.3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ALPHA_THRESHOLD = 1.0 / 255.0
ALPHA_MAX = 0.999
TRANSMITTANCE_MIN = 1e-4
EXTENT_MAX = 3.33  # standard deviations
PAIRS_PER_CHUNK = 2_000_000  # pixels x Gaussians held at once


@dataclass(frozen=True)
class Projection:
    """Gaussians as the cameras see them; entries whose ``radii`` are 0 are not drawn.

    Attributes:
        means2d: pixels, [..., C, N, 2].
        conics: inverse 2D covariance (xx, xy, yy), 1/pixels^2, [..., C, N, 3].
        depths: camera z, [..., C, N].
        opacities: after the antialiasing compensation, if any, [..., C, N].
        radii: half extent of the drawn box in pixels, int32 [..., C, N, 2].
    """

    means2d: Tensor
    conics: Tensor
    depths: Tensor
    opacities: Tensor
    radii: Tensor


def rotation_matrices(
    quats: Tensor,  # [..., 4]
) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions (w, x, y, z) of any length."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def project(
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4]
    scales: Tensor,  # [..., N, 3]
    opacities: Tensor,  # [..., N]
    viewmats: Tensor,  # [..., C, 4, 4]
    Ks: Tensor,  # [..., C, 3, 3]
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    antialiased: bool = False,
) -> Projection:
    """EWA projection of every Gaussian into every camera.

    Args:
        means: world centres.
        quats: (w, x, y, z), normalised here.
        scales: standard deviations along the Gaussian's own axes, world units.
        opacities: 0..1.
        viewmats: world to camera, OpenCV axes.
        Ks: pinhole intrinsics in pixels (pixel centres at .5).
        width: image width in pixels.
        height: image height in pixels.
        near_plane: Gaussians nearer than this are not drawn.
        far_plane: Gaussians farther than this are not drawn.
        radius_clip: Gaussians whose box is not larger than this in pixels are not drawn.
        eps2d: added to the diagonal of the 2D covariance, pixels^2.
        antialiased: scale opacity by sqrt(det before / det after) of that blur.

    Returns:
        The projection; differentiable in all but ``Ks`` and ``radii``.
    """
    factor = rotation_matrices(quats) * scales[..., None, :]  # [..., N, 3, 3], covariance = factor factor^T
    rotation, translation = viewmats[..., :3, :3], viewmats[..., :3, 3]
    means_c = torch.einsum("...cij,...nj->...cni", rotation, means) + translation[..., None, :]  # [..., C, N, 3]
    factor_c = torch.einsum("...cij,...njk->...cnik", rotation, factor)  # [..., C, N, 3, 3]

    x, y, z = means_c.unbind(-1)  # [..., C, N]
    in_depth = (z >= near_plane) & (z <= far_plane)
    z = torch.where(in_depth, z, torch.ones_like(z))  # keeps the branch not taken finite
    fx, fy, cx, cy = (v[..., None] for v in (Ks[..., 0, 0], Ks[..., 1, 1], Ks[..., 0, 2], Ks[..., 1, 2]))
    # The Jacobian is taken at most 15 % outside the picture, where the linearisation still holds.
    tan_x, tan_y = 0.5 * width / fx, 0.5 * height / fy
    tx = z * (x / z).clamp(min=-(cx / fx + 0.3 * tan_x), max=(width - cx) / fx + 0.3 * tan_x)
    ty = z * (y / z).clamp(min=-(cy / fy + 0.3 * tan_y), max=(height - cy) / fy + 0.3 * tan_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * tx / z**2, zero, fy / z, -fy * ty / z**2], dim=-1).unflatten(-1, (2, 3))
    factor2d = jacobian @ factor_c  # [..., C, N, 2, 3]
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)

    across, down = factor2d.unbind(-2)
    xx, xy, yy = (across * across).sum(-1), (across * down).sum(-1), (down * down).sum(-1)
    # Not xx yy - xy^2, which loses all digits for a needle.
    det_sharp = torch.linalg.cross(across, down).square().sum(-1)
    det = det_sharp + eps2d * (xx + yy + eps2d)
    xx, yy = xx + eps2d, yy + eps2d
    solvable = in_depth & (det > 0) & torch.isfinite(det)
    det = torch.where(solvable, det, torch.ones_like(det))
    conics = torch.stack([yy / det, -xy / det, xx / det], dim=-1)
    opacities_c = opacities[..., None, :].expand(det.shape)
    if antialiased:
        # The floor only keeps the square root's slope finite; such Gaussians are far below the alpha threshold.
        opacities_c = opacities_c * (det_sharp / det).clamp(min=1e-14).sqrt()

    with torch.no_grad():
        bright = opacities_c >= ALPHA_THRESHOLD
        extent = (2 * (opacities_c.clamp(min=ALPHA_THRESHOLD) / ALPHA_THRESHOLD).log()).sqrt().clamp(max=EXTENT_MAX)
        radius = torch.ceil(extent[..., None] * torch.stack([xx, yy], dim=-1).clamp(min=0).sqrt())
        size = torch.tensor([width, height], dtype=radius.dtype, device=radius.device)
        touching = ((means2d + radius > 0) & (means2d - radius < size)).all(-1)
        drawn = solvable & bright & touching & ~(radius <= radius_clip).all(-1)
        radii = torch.where(drawn[..., None], radius, torch.zeros_like(radius)).clamp(max=2.0**30).to(torch.int32)
    return Projection(means2d, conics, means_c[..., 2], opacities_c, radii)


def composite(
    means2d: Tensor,  # [M, 2], front to back
    conics: Tensor,  # [M, 3]
    opacities: Tensor,  # [M]
    colors: Tensor,  # [M, D]
    width: int,
    height: int,
) -> tuple[Tensor, Tensor]:
    """Blends depth-sorted 2D Gaussians into one picture, front to back.

    Returns:
        Premultiplied colours [H, W, D] and alphas [H, W, 1].
    """
    rows_at_once = max(1, PAIRS_PER_CHUNK // max(1, width * len(means2d)))
    pictures, alphas = [], []
    for top in range(0, height, rows_at_once):
        rows = torch.arange(top, min(height, top + rows_at_once), dtype=means2d.dtype, device=means2d.device)
        columns = torch.arange(width, dtype=means2d.dtype, device=means2d.device)
        dx = (columns[None, :, None] + 0.5) - means2d[:, 0]  # [1, W, M]
        dy = (rows[:, None, None] + 0.5) - means2d[:, 1]  # [R, 1, M]
        a, b, c = conics.unbind(-1)
        sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy  # [R, W, M]
        alpha = (opacities * torch.exp(-sigma.clamp(min=0))).clamp(max=ALPHA_MAX)
        alpha = torch.where((sigma >= 0) & (alpha >= ALPHA_THRESHOLD), alpha, torch.zeros_like(alpha))
        after = torch.cumprod(1 - alpha, dim=-1)
        # A pixel ends before the Gaussian that would take it to 1e-4; `after` never rises, so this cuts a tail.
        alpha = torch.where(after > TRANSMITTANCE_MIN, alpha, torch.zeros_like(alpha))
        before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], dim=-1)
        weights = alpha * before
        pictures.append(weights @ colors)
        alphas.append(1 - torch.prod(1 - alpha, dim=-1, keepdim=True))
    return torch.cat(pictures), torch.cat(alphas)


def rasterize_reference(
    means: Tensor,  # [B, N, 3]
    quats: Tensor,  # [B, N, 4]
    scales: Tensor,  # [B, N, 3]
    opacities: Tensor,  # [B, N]
    colors: Tensor | None,  # [B, C, N, D] or [B, N, D]
    viewmats: Tensor,  # [B, C, 4, 4]
    Ks: Tensor,  # [B, C, 3, 3]
    width: int,
    height: int,
    *,
    append_depth: bool,
    **projection_options: float | bool,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The ``reference`` back-end of ``rasterize``: colours [B, C, H, W, D(+1)], alphas [B, C, H, W, 1], meta."""
    p = project(means, quats, scales, opacities, viewmats, Ks.detach(), width, height, **projection_options)  # pyright: ignore[reportArgumentType]
    if colors is not None and colors.dim() == 3:
        colors = colors[:, None].expand(-1, p.depths.shape[1], -1, -1)
    channels = [] if colors is None else [colors]
    if append_depth:
        channels.append(p.depths[..., None])
    features = torch.cat(channels, dim=-1)  # [B, C, N, D]
    pictures, alphas = [], []
    for b in range(means.shape[0]):
        for c in range(viewmats.shape[1]):
            drawn = (p.radii[b, c] > 0).all(-1).nonzero()[:, 0]
            order = drawn[torch.argsort(p.depths[b, c, drawn].detach(), stable=True)]
            picture, alpha = composite(
                p.means2d[b, c, order],
                p.conics[b, c, order],
                p.opacities[b, c, order],
                features[b, c, order],
                width,
                height,
            )
            pictures.append(picture)
            alphas.append(alpha)
    shape = (means.shape[0], viewmats.shape[1])
    meta = {k: getattr(p, k) for k in ("radii", "means2d", "depths", "conics", "opacities")}
    return torch.stack(pictures).unflatten(0, shape), torch.stack(alphas).unflatten(0, shape), meta
