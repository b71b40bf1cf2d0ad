"""How alike two pictures of an object are, judged inside the object: error, PSNR, SSIM, silhouette.

Pictures are [..., 4, H, W]: sRGB colour 0..1 composited over the same background, and coverage 0..1. The region judged
is the union of both silhouettes (coverage above one half), so that an object in the wrong place is charged twice: where
it is and where it should be.
"""

import math

import torch
from torch import Tensor

SIGMA, RADIUS = 1.5, 5  # the Gaussian window of SSIM: 11 x 11 pixels
C1, C2 = 0.01**2, 0.03**2  # its constants for values in 0..1


def mask_union(truth: Tensor, rendered: Tensor) -> Tensor:
    """Where either picture shows the object.

    Args:
        truth, rendered: [..., 4, H, W], coverage last.

    Returns:
        [..., 1, H, W] bool.

    Raises:
        ValueError: the shapes differ or are not pictures.
    """
    if truth.shape != rendered.shape or truth.dim() < 3 or truth.shape[-3] != 4:
        raise ValueError(
            f"pictures have shapes {list(truth.shape)} and {list(rendered.shape)}, expected the same [..., 4, H, W]"
        )
    return (truth[..., 3:, :, :] > 0.5) | (rendered[..., 3:, :, :] > 0.5)


def masked_mse(truth: Tensor, rendered: Tensor) -> float:
    """Mean squared error of colour over the mask union, pooled over all pictures.

    Args:
        truth, rendered: [..., 4, H, W].

    Raises:
        ValueError: the shapes differ, or no picture shows anything.
    """
    union = _seen(truth, rendered).to(truth)
    error = (truth[..., :3, :, :] - rendered[..., :3, :, :]).square() * union
    return float(error.sum(dtype=torch.float64) / (3 * union.sum(dtype=torch.float64)))


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of values in 0..1; at most 100 dB (equal pictures).

    Raises:
        ValueError: the error is negative or not finite.
    """
    if not (math.isfinite(mse) and mse >= 0):
        raise ValueError(f"a mean squared error is {mse}, expected a finite number >= 0")
    return -10 * math.log10(max(mse, 1e-10))


def ssim_map(
    a: Tensor,  # [..., H, W]
    b: Tensor,  # [..., H, W]
) -> Tensor:
    """Structural similarity at every pixel (Wang et al. 2004), each channel for itself.

    Gaussian window of standard deviation 1.5 px cut at 5 px, population covariances, values in 0..1, borders mirrored
    with the edge repeated: what ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1, full=True)`` gives.

    Returns:
        [..., H, W] in -1..1.

    Raises:
        ValueError: the shapes differ.
    """
    if a.shape != b.shape or a.dim() < 2:
        raise ValueError(f"pictures have shapes {list(a.shape)} and {list(b.shape)}, expected the same [..., H, W]")
    # Variances are small differences of large squares: double keeps flat regions at exactly 1.
    x, y = a.double(), b.double()
    mx, my, xx, yy, xy = _blur(x), _blur(y), _blur(x * x), _blur(y * y), _blur(x * y)
    vx, vy, cov = xx - mx * mx, yy - my * my, xy - mx * my
    value = (2 * mx * my + C1) * (2 * cov + C2) / ((mx * mx + my * my + C1) * (vx + vy + C2))
    return value.to(a)


def masked_ssim(truth: Tensor, rendered: Tensor) -> float:
    """Mean of the SSIM map of the three colours over the mask union, pooled over all pictures.

    Args:
        truth, rendered: [..., 4, H, W].

    Raises:
        ValueError: the shapes differ, or no picture shows anything.
    """
    union = _seen(truth, rendered)
    rows, columns = union.flatten(0, -3).any(0).any(1).nonzero(), union.flatten(0, -3).any(0).any(0).nonzero()
    # Only the neighbourhood of the object counts: a window further away never enters the mean.
    height, width = truth.shape[-2:]
    top, bottom = max(0, int(rows.min()) - 2 * RADIUS), min(height, int(rows.max()) + 1 + 2 * RADIUS)
    left, right = max(0, int(columns.min()) - 2 * RADIUS), min(width, int(columns.max()) + 1 + 2 * RADIUS)
    inside = (..., slice(top, bottom), slice(left, right))
    a, b, weight = (t[inside].flatten(0, -4) if t.dim() > 3 else t[inside][None] for t in (truth, rendered, union))
    total = 0.0
    for i in range(len(a)):  # picture by picture: what a window needs stays in the processor's cache
        total += float((ssim_map(a[i, :3], b[i, :3]).double() * weight[i]).sum())
    return total / (3 * float(weight.sum()))


def silhouette_iou(truth: Tensor, rendered: Tensor) -> float:
    """Intersection over union of the silhouettes (coverage above one half): mean over the pictures.

    Args:
        truth, rendered: [..., 4, H, W].

    Returns:
        0..1; a picture in which neither shows anything counts 1.

    Raises:
        ValueError: the shapes differ.
    """
    union = mask_union(truth, rendered).flatten(-3).sum(-1).double()
    both = ((truth[..., 3, :, :] > 0.5) & (rendered[..., 3, :, :] > 0.5)).flatten(-2).sum(-1).double()
    return float(torch.where(union > 0, both / union.clamp(min=1), torch.ones_like(union)).mean())


def _seen(truth: Tensor, rendered: Tensor) -> Tensor:
    union = mask_union(truth, rendered)
    if not bool(union.any()):
        raise ValueError("no picture shows the object, expected coverage above one half somewhere")
    return union


def _blur(pictures: Tensor) -> Tensor:
    """Gaussian window over the last two axes of [..., H, W]: a product with one matrix on each side."""
    height, width = pictures.shape[-2:]
    return _window(height).to(pictures) @ pictures @ _window(width).to(pictures).T


def _window(size: int) -> Tensor:
    """[size, size] matrix of the window along one axis; beyond the border indices fold back: 1 0 | 0 1 ..."""
    offset = torch.arange(-RADIUS, RADIUS + 1)
    weight = torch.exp(-0.5 * (offset.double() / SIGMA) ** 2)
    index = (torch.arange(size)[:, None] + offset) % (2 * size)
    index = torch.where(index < size, index, 2 * size - 1 - index)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, index, (weight / weight.sum()).expand(size, -1))
