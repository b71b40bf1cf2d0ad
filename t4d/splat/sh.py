"""Real spherical harmonics as colours of Gaussians, degrees 0 to 3, in the order and sign of 3DGS and gsplat."""

import torch
from torch import Tensor

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
C3 = (0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154, 1.445305721320277)


def sh_bases(
    degree: int,
    dirs: Tensor,  # [..., 3]
) -> Tensor:
    """The (degree + 1)^2 basis functions at unit directions.

    Args:
        degree: 0 to 3.
        dirs: unit vectors from the camera to the Gaussian, world axes.

    Returns:
        [..., (degree + 1)^2].

    Raises:
        ValueError: degree is outside 0..3.
    """
    if degree not in (0, 1, 2, 3):
        raise ValueError(f"spherical harmonics degree is {degree}, expected 0, 1, 2 or 3")
    x, y, z = dirs.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    bases = [torch.full_like(x, C0)]
    if degree > 0:
        bases += [-C1 * y, C1 * z, -C1 * x]
    if degree > 1:
        bases += [
            C2[0] * x * y,
            -C2[0] * y * z,
            C2[1] * (2 * zz - xx - yy),
            -C2[0] * x * z,
            C2[2] * (xx - yy),
        ]
    if degree > 2:
        bases += [
            -C3[0] * y * (3 * xx - yy),
            C3[1] * x * y * z,
            -C3[2] * y * (4 * zz - xx - yy),
            C3[3] * z * (2 * zz - 3 * xx - 3 * yy),
            -C3[2] * x * (4 * zz - xx - yy),
            C3[4] * z * (xx - yy),
            -C3[0] * x * (xx - 3 * yy),
        ]
    return torch.stack(bases, dim=-1)


def eval_sh(
    degree: int,
    dirs: Tensor,  # [..., 3]
    coeffs: Tensor,  # [..., K, D]
) -> Tensor:
    """Sum of coefficients times bases, without the 0.5 of ``sh0_to_rgb``; differentiable in both tensors.

    Args:
        degree: 0 to 3; coefficients beyond (degree + 1)^2 are not used.
        dirs: any length, from the camera to the Gaussian, world axes; broadcast against ``coeffs``.
        coeffs: K >= (degree + 1)^2 coefficients of D channels.

    Returns:
        [..., D].

    Raises:
        ValueError: degree is outside 0..3 or there are too few coefficients.
    """
    bases = sh_bases(degree, torch.nn.functional.normalize(dirs, dim=-1))
    k = bases.shape[-1]
    if coeffs.dim() < 2 or coeffs.shape[-2] < k:
        raise ValueError(f"coeffs has shape {list(coeffs.shape)}, expected [..., K >= {k}, D] for degree {degree}")
    return (bases[..., None] * coeffs[..., :k, :]).sum(-2)


def rgb_to_sh0(rgb: Tensor) -> Tensor:
    """Degree-0 coefficient of a colour in 0..1, any shape."""
    return (rgb - 0.5) / C0


def sh0_to_rgb(sh0: Tensor) -> Tensor:
    """Colour of a degree-0 coefficient, any shape; the inverse of ``rgb_to_sh0``."""
    return sh0 * C0 + 0.5
