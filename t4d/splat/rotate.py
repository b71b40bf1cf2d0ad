"""Turning Gaussians: means, orientations and view-dependent colour together."""

import torch

from t4d.geometry.rotations import matrix_to_quat, quat_multiply
from t4d.splat.gaussians import Gaussians
from t4d.splat.sh import sh_bases


def sh_rotation(degree: int, rotation: torch.Tensor) -> torch.Tensor:
    """The matrix that turns spherical-harmonic coefficients.

    Each degree spans a rotation-invariant space, so the matrix between both coefficient sets (block diagonal, Wigner's
    D in the real basis) is found exactly by least squares on directions, for any basis convention of
    `t4d.splat.sh.sh_bases`.

    Args:
        degree: 0 to 3.
        rotation: [3, 3] R, proper.

    Returns:
        [K, K] float64 D with K = (degree + 1)^2, orthogonal: the colour of D c along R d is that of c along d.
    """
    count = (degree + 1) ** 2
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(
        torch.randn(8 * count, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    # c' with Y(R d) c' = Y(d) c for every d
    turned = directions @ rotation.detach().double().cpu().T
    return torch.linalg.lstsq(sh_bases(degree, turned), sh_bases(degree, directions)).solution


def rotate_sh(sh: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Rotate spherical-harmonic colours, so that the colour seen along R d is what was seen along d.

    Args:
        sh: [..., K, 3] coefficients, K = 1, 4, 9 or 16.
        rotation: [3, 3] R.

    Returns:
        [..., K, 3] coefficients of the rotated object.
    """
    count = sh.shape[-2]
    if count == 1:
        return sh
    matrix = sh_rotation(round(count**0.5) - 1, rotation).to(sh.device)
    return torch.einsum("ij,...jc->...ic", matrix, sh.double()).to(sh)


def rotate_gaussians(gaussians: Gaussians, rotation: torch.Tensor) -> Gaussians:
    """The same Gaussians in a frame turned by `rotation` [3, 3]: means, orientations and view-dependent colour."""
    rotation = rotation.to(gaussians.means)
    turn = matrix_to_quat(rotation).to(gaussians.quats).expand_as(gaussians.quats)
    return Gaussians(
        means=gaussians.means @ rotation.T,
        quats=quat_multiply(turn, gaussians.quats),
        log_scales=gaussians.log_scales,
        opacity_logits=gaussians.opacity_logits,
        sh=rotate_sh(gaussians.sh, rotation),
    )
