"""A set of 3D Gaussians in the parameters that are optimised and stored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from t4d.splat.sh import eval_sh


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians in the world (z up), with any leading batch dimensions.

    Attributes:
        means: centres, [..., N, 3].
        quats: (w, x, y, z), not necessarily of unit length, [..., N, 4].
        log_scales: natural logarithm of the standard deviations along the Gaussian's own axes, [..., N, 3].
        opacity_logits: [..., N].
        sh: spherical-harmonic colour, K = (degree + 1)^2 coefficients of sRGB, [..., N, K, 3].

    Raises:
        ValueError: shapes do not fit each other.
    """

    means: Tensor
    quats: Tensor
    log_scales: Tensor
    opacity_logits: Tensor
    sh: Tensor

    def __post_init__(self) -> None:
        batch = tuple(self.means.shape[:-1])
        k = self.sh.shape[-2] if self.sh.dim() > 1 else 0
        for name, tail in (
            ("means", (3,)),
            ("quats", (4,)),
            ("log_scales", (3,)),
            ("opacity_logits", ()),
            ("sh", (k, 3)),
        ):
            shape = tuple(getattr(self, name).shape)
            if shape != batch + tail:
                raise ValueError(
                    f"{name} has shape {list(shape)}, expected {list(batch + tail)} as means {list(batch)}"
                )
        if k not in (1, 4, 9, 16):
            raise ValueError(f"sh has {k} coefficients, expected 1, 4, 9 or 16")

    def __len__(self) -> int:
        return self.means.shape[-2]

    @property
    def scales(self) -> Tensor:
        """Standard deviations, world units, [..., N, 3]."""
        return self.log_scales.exp()

    @property
    def opacities(self) -> Tensor:
        """0..1, [..., N]."""
        return self.opacity_logits.sigmoid()

    @property
    def sh_degree(self) -> int:
        """0 to 3."""
        return {1: 0, 4: 1, 9: 2, 16: 3}[self.sh.shape[-2]]

    def colors(
        self,
        eyes: Tensor | None = None,  # [..., C, 3]
    ) -> Tensor:
        """sRGB colours, not below 0.

        Args:
            eyes: world positions of C cameras; needed unless the degree is 0.

        Returns:
            [..., N, 3] for degree 0, else [..., C, N, 3].

        Raises:
            ValueError: the colour depends on the view and no eyes are given.
        """
        if self.sh_degree == 0:
            return (eval_sh(0, torch.ones_like(self.means), self.sh) + 0.5).clamp(min=0)
        if eyes is None:
            raise ValueError(f"colours of degree {self.sh_degree} depend on the view: pass the cameras' eyes")
        dirs = self.means[..., None, :, :] - eyes[..., None, :]  # [..., C, N, 3]
        return (eval_sh(self.sh_degree, dirs, self.sh[..., None, :, :, :]) + 0.5).clamp(min=0)

    def map(self, f: Callable[[Tensor], Tensor]) -> "Gaussians":
        """Applies f to every tensor."""
        return Gaussians(**{k: f(v) for k, v in self.state_dict().items()})

    def to(self, *args: object, **kwargs: object) -> "Gaussians":
        """As ``torch.Tensor.to``, on every tensor."""
        return self.map(lambda t: t.to(*args, **kwargs))  # pyright: ignore[reportCallIssue, reportArgumentType]

    def detach(self) -> "Gaussians":
        """The same numbers without gradient."""
        return self.map(Tensor.detach)

    def replace(self, **changes: Tensor) -> "Gaussians":
        """A copy with some tensors exchanged."""
        return replace(self, **changes)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors by name, as for safetensors."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "Gaussians":
        """The inverse of ``state_dict``.

        Raises:
            ValueError: names are missing or unknown.
        """
        names = {f.name for f in fields(cls)}
        if set(state) != names:
            raise ValueError(f"Gaussians have tensors {sorted(state)}, expected {sorted(names)}")
        return cls(**state)


def stack_gaussians(items: list[Gaussians]) -> Gaussians:
    """Stacks sets of equal size along a new first dimension (frames, for one call of the rasteriser).

    Raises:
        ValueError: the list is empty.
    """
    if not items:
        raise ValueError("no Gaussians to stack, expected at least one set")
    return Gaussians(**{k: torch.stack([g.state_dict()[k] for g in items]) for k in items[0].state_dict()})
