"""Losses of Stage Two on pictures."""

from torch import Tensor


def reconstruction_loss(
    rendered: Tensor,  # [..., 4, H, W]
    rgb: Tensor,  # [..., 3, H, W]
    mask: Tensor,  # [..., 1, H, W]
) -> tuple[Tensor, Tensor]:
    """L_rec, Eq. 10, and its companion on coverage.

    Eq. 10 compares M C with the rendering's own masked colour, which is the rasterised colour without background
    (premultiplied by alpha). Alone it cannot see a Gaussian of the colour of the void, so alpha is compared as well.

    Args:
        rendered: premultiplied colour without background and alpha, as ``render_gaussians`` gives for background 0.
        rgb: colour C of the clip, 0..1.
        mask: object mask M of the clip, 0..1.

    Returns:
        mean (M C - C_premultiplied)^2 and mean (M - alpha)^2, scalars.

    Raises:
        ValueError: the shapes do not belong to the same pictures.
    """
    batch, size = rgb.shape[:-3], rgb.shape[-2:]
    for name, tensor, channels in (("rendered", rendered, 4), ("rgb", rgb, 3), ("mask", mask, 1)):
        if tensor.shape != (*batch, channels, *size):
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {[*batch, channels, *size]}")
    color = (mask * rgb - rendered[..., :3, :, :]).square().mean()
    coverage = (mask - rendered[..., 3:, :, :]).square().mean()
    return color, coverage
