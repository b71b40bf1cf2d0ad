"""Colour over time: 4D spherical harmonics (Eq. 8)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from t4d.splat.gaussians import Gaussians


class Appearance(nn.Module):
    """Eq. 8: every spherical-harmonic coefficient is a cosine series in time.

    k(t) = k_static + sum over i = 1..w-1 of fr_i (cos(i pi t / T) - 1), with t in frames and N_t = T. This is the
    series of Eq. 8 with fr_0 = k_static - sum of the others, so that frame 0 is the static colour exactly.

    Args:
        gaussians: the static object, N Gaussians without batch dimensions, fixed for the life of the module.
        frames: T of the clip.
        degree: l_max, 0 to 3. Coefficients of the object beyond it stay as they are; ones it lacks start at zero.
        terms: w, at least 2; fr_0 among them is not free.

    Raises:
        ValueError: degree or terms cannot be used.
    """

    still: Tensor

    def __init__(self, gaussians: Gaussians, frames: int, degree: int = 0, terms: int = 5) -> None:
        super().__init__()
        if degree not in (0, 1, 2, 3) or terms < 2 or frames < 2:
            raise ValueError(
                f"appearance of degree {degree}, {terms} terms and {frames} frames; expected degree 0 to 3, "
                "at least 2 terms and 2 frames"
            )
        self.config: dict[str, Any] = {"degree": degree, "terms": terms}
        self.frames = frames
        moving = (degree + 1) ** 2
        sh = gaussians.sh.detach()
        self.fr = nn.Parameter(sh.new_zeros(terms - 1, len(gaussians), moving, 3))
        still = pad(sh, (0, 0, 0, max(0, moving - sh.shape[-2])))  # [N, K, 3], K the larger of the two degrees
        self.register_buffer("still", still.clone(), persistent=False)

    def sh(
        self,
        times: Tensor,  # [B]
    ) -> Tensor:
        """Coefficients k(t) at times in frames, whole or not: [B, N, K, 3], K of the larger of both degrees."""
        times = times.to(self.fr)
        i = torch.arange(1, len(self.fr) + 1).to(times)
        basis = torch.cos(i * (math.pi / self.frames) * times[:, None]) - 1  # [B, w-1]
        change = (basis @ self.fr.flatten(1)).unflatten(1, self.fr.shape[1:])
        moving = self.fr.shape[2]
        if moving == self.still.shape[1]:
            return self.still + change
        rest = self.still[:, moving:].expand(len(times), -1, -1, -1)
        return torch.cat([self.still[:, :moving] + change, rest], dim=2)


def sh_over_time_reference(still: Tensor, fr: Tensor, frames: int, time: float) -> Tensor:
    """Slow readable twin of ``Appearance.sh`` at one time: Eq. 8 term by term.

    Args:
        still: [N, K, 3] static coefficients.
        fr: [w-1, N, K', 3], K' <= K.
        frames: T.
        time: in frames.

    Returns:
        [N, K, 3].
    """
    moved = still.clone()
    for n in range(fr.shape[1]):
        for k in range(fr.shape[2]):
            first = still[n, k] - fr[:, n, k].sum(0)  # fr_0
            series = first + sum(fr[i - 1, n, k] * math.cos(i * math.pi / frames * time) for i in range(1, len(fr) + 1))
            moved[n, k] = series
    return moved
