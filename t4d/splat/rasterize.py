"""One entry for drawing 3D Gaussians, with the meaning of gsplat 1.5.3 and three back-ends."""

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

Backend = Literal["auto", "reference", "cpu", "gsplat"]
RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RasterizeMode = Literal["classic", "antialiased"]


def rasterize(
    means: Tensor,  # [..., N, 3]
    quats: Tensor,  # [..., N, 4]
    scales: Tensor,  # [..., N, 3]
    opacities: Tensor,  # [..., N]
    colors: Tensor,  # [..., N, D] or [..., C, N, D]
    viewmats: Tensor,  # [..., C, 4, 4]
    Ks: Tensor,  # [..., C, 3, 3]
    width: int,
    height: int,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    eps2d: float = 0.3,
    *,
    backgrounds: Tensor | None = None,  # [..., C, D]
    render_mode: RenderMode = "RGB",
    rasterize_mode: RasterizeMode = "classic",
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Draws N Gaussians into C cameras, for any leading batch dimensions (one call for all frames of a clip).

    Differentiable in ``means``, ``quats``, ``scales``, ``opacities``, ``colors``, ``viewmats`` and ``backgrounds``.
    EWA splatting with blur ``eps2d``; box of ceil(min(3.33, sqrt(2 ln(255 o))) sigma); alpha at most 0.999 and not
    drawn below 1/255; a pixel stops before its transmittance reaches 1e-4. No back-end draws a Gaussian with
    non-finite position, covariance or opacity.

    Args:
        means: world centres.
        quats: (w, x, y, z) of any length; normalised inside.
        scales: standard deviations, world units.
        opacities: 0..1.
        colors: any number D >= 1 of channels, evaluated (spherical harmonics are evaluated outside); per camera if the
            tensor has one more dimension. Ignored, but its shape checked, in the modes "D" and "ED".
        viewmats: world to camera, OpenCV (x right, y down, z forward).
        Ks: pinhole intrinsics, pixels; pixel centres at .5; no gradient.
        width: pixels.
        height: pixels.
        near_plane: least camera z drawn.
        far_plane: largest camera z drawn.
        radius_clip: Gaussians with a box of at most this many pixels are left out.
        eps2d: variance added in the picture, pixels^2.
        backgrounds: colour seen through, per camera; none means 0.
        render_mode: "D" is the accumulated camera z (sum of w z), "ED" the expected one (divided by alpha); with
            "RGB+" it is the last channel, and its background is 0.
        rasterize_mode: "antialiased" scales opacity by sqrt(det before / det after the blur).
        backend: "reference" (torch, any dtype and device, slow), "cpu" (numba, float32), "gsplat" (CUDA), or "auto":
            gsplat for CUDA tensors, cpu for float32 on the CPU, reference for float64.

    Returns:
        colours [..., C, H, W, D'] premultiplied by alpha (plus background); alphas [..., C, H, W, 1]; meta with
        ``radii`` [..., C, N, 2], ``means2d`` [..., C, N, 2], ``depths``, ``conics``, ``opacities``, ``width``,
        ``height`` (meta carries no gradient on the cpu back-end).

    Raises:
        ValueError: a shape, dtype, device or option does not fit.
        ModuleNotFoundError: the back-end's package is absent.
    """
    batch = means.shape[:-2]
    n, c = _sizes(means, viewmats)
    _check_shapes(means, quats, scales, opacities, colors, viewmats, Ks, backgrounds, render_mode)
    if width < 1 or height < 1:
        raise ValueError(f"picture is {width}x{height}, expected at least 1x1 pixels")
    for name, value, allowed in (
        ("render_mode", render_mode, get_args(RenderMode)),
        ("rasterize_mode", rasterize_mode, get_args(RasterizeMode)),
        ("backend", backend, get_args(Backend)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
    chosen = _choose(backend, means)

    b = math.prod(batch)
    with_color = render_mode.startswith("RGB")
    flat_colors = colors.reshape(b, *colors.shape[len(batch) :]) if with_color else None
    flat = (
        means.reshape(b, n, 3),
        quats.reshape(b, n, 4),
        scales.reshape(b, n, 3),
        opacities.reshape(b, n),
        flat_colors,
        viewmats.reshape(b, c, 4, 4),
        Ks.reshape(b, c, 3, 3),
    )
    pictures, alphas, meta = _backend(chosen)(
        *flat,
        width,
        height,
        append_depth=render_mode != "RGB",
        near_plane=near_plane,
        far_plane=far_plane,
        radius_clip=radius_clip,
        eps2d=eps2d,
        antialiased=rasterize_mode == "antialiased",
    )  # [B, C, H, W, D], [B, C, H, W, 1]
    if render_mode.endswith("ED"):
        expected = pictures[..., -1:] / alphas.clamp(min=1e-10)
        pictures = torch.cat([pictures[..., :-1], expected], dim=-1)
    if backgrounds is not None and with_color:
        seen = backgrounds.reshape(b, c, 1, 1, -1) * (1 - alphas)
        if render_mode != "RGB":
            seen = torch.nn.functional.pad(seen, (0, 1))
        pictures = pictures + seen
    meta = {k: v.unflatten(0, batch) if batch else v[0] for k, v in meta.items()}
    meta |= {"width": width, "height": height}
    shape = (*batch, c, height, width)
    return pictures.reshape(*shape, -1), alphas.reshape(*shape, 1), meta


def _choose(backend: Backend, means: Tensor) -> str:
    if backend == "auto":
        if means.is_cuda:
            return "gsplat"
        return "reference" if means.dtype == torch.float64 else "cpu"
    if backend == "gsplat" and not means.is_cuda:
        raise ValueError(f"the gsplat back-end needs CUDA tensors, means is on {means.device}; use backend='cpu'")
    if backend == "cpu" and means.device.type != "cpu":
        raise ValueError(f"the cpu back-end needs CPU tensors, means is on {means.device}; use backend='gsplat'")
    return backend


def _backend(name: str) -> Any:
    # Imported on use: numba and gsplat are heavy, and gsplat needs CUDA.
    if name == "cpu":
        from t4d.splat._cpu import rasterize_cpu

        return rasterize_cpu
    if name == "gsplat":
        from t4d.splat._gsplat import rasterize_gsplat

        return rasterize_gsplat
    from t4d.splat._reference import rasterize_reference

    return rasterize_reference


def _sizes(means: Tensor, viewmats: Tensor) -> tuple[int, int]:
    if means.dim() < 2:
        raise ValueError(f"means has shape {tuple(means.shape)}, expected [..., N, 3]")
    if viewmats.dim() < 3:
        raise ValueError(f"viewmats has shape {tuple(viewmats.shape)}, expected [..., C, 4, 4]")
    return means.shape[-2], viewmats.shape[-3]


def _check_shapes(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    backgrounds: Tensor | None,
    render_mode: str,
) -> None:
    batch = tuple(means.shape[:-2])
    n, c = _sizes(means, viewmats)
    channels = colors.shape[-1] if colors.dim() else 0
    expected: list[tuple[str, Tensor, list[tuple[int, ...]]]] = [
        ("means", means, [(*batch, n, 3)]),
        ("quats", quats, [(*batch, n, 4)]),
        ("scales", scales, [(*batch, n, 3)]),
        ("opacities", opacities, [(*batch, n)]),
        ("colors", colors, [(*batch, n, channels), (*batch, c, n, channels)]),
        ("viewmats", viewmats, [(*batch, c, 4, 4)]),
        ("Ks", Ks, [(*batch, c, 3, 3)]),
    ]
    if backgrounds is not None:
        expected.append(("backgrounds", backgrounds, [(*batch, c, channels)]))
    for name, tensor, shapes in expected:
        if tuple(tensor.shape) not in shapes:
            wanted = " or ".join(str(list(s)) for s in shapes)
            raise ValueError(f"{name} has shape {list(tensor.shape)}, expected {wanted} for means {list(means.shape)}")
        if tensor.dtype != means.dtype or tensor.device != means.device:
            raise ValueError(
                f"{name} is {tensor.dtype} on {tensor.device}, expected {means.dtype} on {means.device} as means"
            )
    if channels < 1 and render_mode.startswith("RGB"):
        raise ValueError(f"colors has shape {list(colors.shape)}, expected at least one channel")
    if math.prod(batch) * c == 0:
        raise ValueError(f"viewmats has shape {list(viewmats.shape)}, expected at least one camera and batch item")
