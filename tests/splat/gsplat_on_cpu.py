"""gsplat's own Python code over CPU kernels, so that what the back-end hands to it can be checked without a GPU.

``gsplat.rendering.rasterization`` runs as released, with its checks, broadcasting and compensation; the four CUDA
functions under it are replaced: projection and tiles by gsplat's torch versions, blending tile by tile with our
readable ``composite``. Entries that the CUDA kernel leaves unwritten hold NaN here, so that a use of them shows.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from t4d.splat._reference import composite


def install(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Puts the kernels in place; returns the list to which every call of ``rasterization`` adds its arguments."""
    reason = "gsplat (or a package it imports) is not installed"
    impl = pytest.importorskip("gsplat.cuda._torch_impl", reason=reason)
    wrapper = pytest.importorskip("gsplat.cuda._wrapper", reason=reason)
    rendering = pytest.importorskip("gsplat.rendering", reason=reason)

    class Projection:
        @staticmethod
        def apply(
            *inputs: Any,
        ) -> tuple[Tensor | None, ...]:
            means, covars, quats, scales, viewmats, Ks, width, height, eps2d, near, far, clip, aa, camera, opac = inputs
            assert covars is None and camera == "pinhole"
            for tensor in (means, quats, scales, viewmats, Ks, opac):
                assert tensor.is_contiguous() and tensor.dtype == torch.float32
                assert bool(tensor.isfinite().all()), "CUDA's min and max would make something of a NaN"
            assert bool((quats.norm(dim=-1) > 0).all()), "gsplat divides by the length"
            covars, _ = impl._quat_scale_to_covar_preci(quats, scales, compute_preci=False)
            _, means2d, depths, conics, factor = impl._fully_fused_projection(
                means, covars, viewmats, Ks, width, height, eps2d, near, far, calc_compensations=True
            )
            with torch.no_grad():  # the box of ProjectionEWA3DGSFused.cu
                after = opac[..., None, :] * (factor if aa else 1)
                extent = (2 * (255 * after).clamp(min=1).log()).sqrt().clamp(max=3.33)
                blurred = torch.linalg.inv(conics[..., [0, 1, 1, 2]].unflatten(-1, (2, 2)))
                radius = (extent[..., None] * blurred.diagonal(dim1=-2, dim2=-1).sqrt()).ceil()
                size = torch.tensor([width, height])
                inside = ((means2d + radius > 0) & (means2d - radius < size)).all(-1)
                drawn = inside & (after >= 1 / 255) & (depths >= near) & (depths <= far) & (radius > clip).any(-1)
            radii = torch.where(drawn[..., None], radius, 0).int()
            unwritten = torch.tensor(float("nan"))
            means2d = torch.where(drawn[..., None], means2d, unwritten)
            conics = torch.where(drawn[..., None], conics, unwritten)
            factor = torch.where(drawn, factor, 0.0) if aa else None  # this one gsplat zeroes
            return radii, means2d, torch.where(drawn, depths, unwritten), conics, factor

    class Pixels:
        @staticmethod
        def apply(*inputs: Any) -> tuple[Tensor, Tensor]:
            means2d, conics, colors, opacities, backgrounds, masks, width, height, tile, offsets, ids, _ = inputs
            assert backgrounds is None and masks is None and ids.dtype == torch.int32
            assert colors.is_contiguous() and colors.shape[:-1] == means2d.shape[:-1]
            flat = [t.reshape(-1, *t.shape[means2d.dim() - 1 :]) for t in (means2d, conics, opacities, colors)]
            ends = torch.cat([offsets.flatten()[1:], torch.tensor([len(ids)])]).reshape(offsets.shape)
            rows, columns = offsets.shape[-2:]
            pictures, alphas = [], []
            for first, last in zip(offsets.reshape(-1, rows, columns), ends.reshape(-1, rows, columns)):
                parts = []
                for y in range(rows):
                    for x in range(columns):
                        use = ids[int(first[y, x]) : int(last[y, x])].long()
                        at, conic, opacity, color = (t[use] for t in flat)
                        corner = torch.tensor([x * tile, y * tile], dtype=at.dtype)
                        parts.append(torch.cat(composite(at - corner, conic, opacity, color, tile, tile), dim=-1))
                whole = torch.stack(parts).unflatten(0, (rows, columns)).transpose(1, 2)
                whole = whole.reshape(rows * tile, columns * tile, -1)[:height, :width]
                pictures.append(whole[..., :-1])
                alphas.append(whole[..., -1:])
            shape = means2d.shape[:-2]
            return torch.stack(pictures).unflatten(0, shape), torch.stack(alphas).unflatten(0, shape)

    def kernel(name: str) -> Any:
        if name == "intersect_tile":
            return lambda means2d, radii, depths, *rest: impl._isect_tiles(means2d, radii, depths, *rest[3:6])
        assert name == "intersect_offset"
        return impl._isect_offset_encode

    monkeypatch.setattr(wrapper, "_FullyFusedProjection", Projection)
    monkeypatch.setattr(wrapper, "_RasterizeToPixels", Pixels)
    monkeypatch.setattr(wrapper, "_make_lazy_cuda_func", kernel)
    calls: list[dict[str, Any]] = []
    original = rendering.rasterization

    def noted(**arguments: Any) -> Any:
        calls.append(arguments)
        return original(**arguments)

    monkeypatch.setattr(rendering, "rasterization", noted)
    return calls
