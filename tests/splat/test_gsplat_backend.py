"""The gsplat back-end without a GPU: gsplat's own Python over CPU kernels must give the reference's pictures."""

import sys
from types import SimpleNamespace
from typing import Any

import gsplat_on_cpu
import pytest
import torch
from splat_scenes import NAMES, assert_gradient_close, gradients, mismatch, scene
from torch import Tensor

import t4d.splat._gsplat as backend
from t4d.splat._reference import rasterize_reference

W, H, B, C, N = 40, 52, 3, 2, 40
CLASSIC = {"eps2d": 0.3, "antialiased": False}
FILTERS = [CLASSIC, {"eps2d": 0.1, "antialiased": True}]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    return gsplat_on_cpu.install(monkeypatch)


def inputs(channels: int = 3, seed: int = 0, n: int = N) -> tuple[list[Tensor], Tensor]:
    args, K = scene(n, cameras=C, width=W, height=H, channels=channels, batch=(B,), seed=seed, dtype=torch.float32)
    args[2][..., 2] = 0.004  # flat, as on a surface
    return args, K


def drawn(draw: Any, args: list[Tensor], K: Tensor, **options: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    means, quats, scales, opacities, colors, viewmats = args
    options = {"near_plane": 0.01, "far_plane": 1e10, "radius_clip": 0.0, "append_depth": True, **CLASSIC, **options}
    return draw(means, quats, scales, opacities, colors, viewmats, K, W, H, **options)


@pytest.mark.parametrize("options", FILTERS, ids=["classic", "antialiased"])
@pytest.mark.parametrize("colors", ["of 3", "of 7", "per camera", "none"])
def test_pictures_and_gradients_are_the_reference_s_in_one_call(calls, options: dict, colors: str) -> None:
    args, K = inputs(7 if colors == "of 7" else 3)
    if colors == "per camera":
        args[4] = torch.rand(B, C, N, 3, generator=torch.Generator().manual_seed(1))
    results = []
    for draw in (backend.rasterize_gsplat, rasterize_reference):
        leaves = [a.clone().requires_grad_() for a in args]
        used = [*leaves[:4], None if colors == "none" else leaves[4], leaves[5]]
        pictures, alphas, meta = drawn(draw, used, K, **options)  # type: ignore[arg-type]
        inputs_ = [leaf for leaf, name in zip(leaves, NAMES) if name != "colors" or colors != "none"]
        results.append((pictures, alphas, meta, gradients((pictures, alphas), inputs_)))
    (pictures, alphas, meta, grads), (pictures_r, alphas_r, meta_r, grads_r) = results
    assert len(calls) == 1 and calls[0]["means"].shape == (B, N, 3) and calls[0]["viewmats"].shape == (B, C, 4, 4)
    assert pictures.shape == pictures_r.shape == (B, C, H, W, {"of 7": 8, "none": 1}.get(colors, 4))
    assert 0.1 < float(alphas.detach().mean()) < 0.99
    assert mismatch(pictures, pictures_r, 2e-5, 2e-5) <= 2e-3 and mismatch(alphas, alphas_r, 2e-5) <= 2e-3
    for a, b, name in zip(grads, grads_r, [n for n in NAMES if n != "colors" or colors != "none"]):
        assert_gradient_close(a, b, name, 5e-3)
    shown = (meta_r["radii"] > 0).all(-1)
    assert 0.3 < float(shown.float().mean()) <= 1
    for name in backend.META:
        assert meta[name].shape == meta_r[name].shape
    assert (meta["radii"] != meta_r["radii"]).any(-1).float().mean() < 0.01, "the same boxes and thresholds"
    for name in ("means2d", "depths", "conics", "opacities"):
        assert mismatch(meta[name][shown], meta_r[name][shown], 1e-4, 1e-3) <= 5e-3, name


def test_box_clip_and_planes_reach_gsplat(calls) -> None:
    args, K = inputs()
    for options in ({"radius_clip": 9.0}, {"near_plane": 2.9}, {"far_plane": 3.0}):
        pictures, _, meta = drawn(backend.rasterize_gsplat, args, K, **options)
        expected, _, meta_r = drawn(rasterize_reference, args, K, **options)
        assert mismatch(pictures, expected, 2e-5, 2e-5) <= 2e-3
        assert (meta["radii"] != meta_r["radii"]).any(-1).float().mean() < 0.01
        everything = drawn(rasterize_reference, args, K)[0]
        assert mismatch(expected, everything, 1e-3) > 0.05, f"{options} should have changed the picture"


@pytest.mark.parametrize(("pairs", "expected"), [(10**6, 1), (2 * C * N, 2), (C * N, 3), (N, 6), (1, 6)])
@pytest.mark.parametrize("per_camera", [False, True])
def test_many_pictures_go_in_several_calls_of_bounded_size(
    calls, monkeypatch: pytest.MonkeyPatch, pairs: int, expected: int, per_camera: bool
) -> None:
    args, K = inputs()
    if per_camera:
        args[4] = torch.rand(B, C, N, 3, generator=torch.Generator().manual_seed(1))
    whole = drawn(backend.rasterize_gsplat, args, K)
    calls.clear()
    monkeypatch.setattr(backend, "PAIRS_PER_CALL", pairs)
    pictures, alphas, meta = drawn(backend.rasterize_gsplat, args, K)
    assert len(calls) == expected
    for call in calls:
        frames, cameras = call["viewmats"].shape[:2]
        assert frames * cameras * N <= max(pairs, N)
    # not bit by bit: CPU matrix products round differently in batches of other sizes
    assert mismatch(pictures, whole[0], 1e-5, 1e-5) <= 1e-3 and mismatch(alphas, whole[1], 1e-5) <= 1e-3
    shown = (meta["radii"] > 0).all(-1)
    assert all(mismatch(meta[name][shown], whole[2][name][shown], 1e-4, 1e-4) <= 1e-2 for name in backend.META)


def test_broken_gaussians_are_made_invisible_before_gsplat_sees_them(calls) -> None:
    args, K = inputs()
    whole = [a[:, 4:] if a.dim() > 1 and a.shape[1] == N else a for a in args]
    expected, alphas_e, _ = drawn(backend.rasterize_gsplat, whole, K)
    args[0][:, 0], args[1][:, 1], args[2][:, 2, 1], args[3][:, 3] = (
        float("nan"),
        float("nan"),
        float("inf"),
        float("nan"),
    )
    leaves = [a.clone().requires_grad_() for a in args]
    pictures, alphas, meta = drawn(backend.rasterize_gsplat, leaves, K)
    assert torch.equal(pictures, expected) and torch.equal(alphas, alphas_e)
    assert int(meta["radii"][:, :, :4].abs().max()) == 0
    for grad, name in zip(gradients((pictures, alphas), leaves), NAMES):
        assert bool(grad.isfinite().all()), name


def test_a_zero_quaternion_is_no_rotation(calls) -> None:
    args, K = inputs()
    args[1][:, :10] = 0
    pictures, _, _ = drawn(backend.rasterize_gsplat, args, K)
    expected, _, _ = drawn(rasterize_reference, args, K)
    assert mismatch(pictures, expected, 2e-5, 2e-5) <= 2e-3


def test_no_gaussians_never_reach_gsplat(calls) -> None:
    args, K = inputs(n=0)
    pictures, alphas, meta = drawn(backend.rasterize_gsplat, args, K)
    expected, _, meta_r = drawn(rasterize_reference, args, K)
    assert calls == [] and torch.equal(pictures, expected) and float(alphas.abs().max()) == 0
    for name in backend.META:
        assert meta[name].shape == meta_r[name].shape and meta[name].dtype == meta_r[name].dtype


def test_other_precisions_are_refused_with_what_to_do() -> None:
    pytest.importorskip("gsplat", reason="gsplat is not installed")
    args, K = inputs()
    with pytest.raises(ValueError, match="convert it or use backend='reference'"):
        drawn(backend.rasterize_gsplat, [a.double() for a in args], K.double())


@pytest.mark.parametrize(
    ("kernels", "told"),
    [(SimpleNamespace(_C=None), "no nvcc was found"), (SimpleNamespace(_C=object()), ""), (None, "gsplat")],
)
def test_kernels_that_were_not_built_are_found_out_before_they_are_called(kernels, told, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", kernels)  # None: importing it fails
    backend.unbuilt.cache_clear()
    found = backend.unbuilt()
    backend.unbuilt.cache_clear()
    assert (told in found) if told else found == ""
