"""gsplat's CUDA kernels against the readable twin and the CPU kernels, forward and backward; needs a CUDA device.

Tolerances: gsplat computes in float32 with fast exponentials and logarithms and without cross products, so a Gaussian
at a threshold may be drawn by one and not by the other: shares of differing pixels are bounded, not the largest one.
"""

import math

import pytest
import torch
from splat_scenes import NAMES, assert_gradient_close, draw, mismatch, scene
from torch import Tensor

import t4d.splat._gsplat as backend
from t4d.geometry.camera import rig
from t4d.splat.gaussians import Gaussians
from t4d.splat.render import PIXEL_FILTER, render_gaussians

W, H = 40, 52
CLASSIC = {"eps2d": 0.3, "rasterize_mode": "classic"}
FILTERS = pytest.mark.parametrize("options", [CLASSIC, PIXEL_FILTER], ids=["classic", "ours"])
BACKENDS = (("gsplat", "cuda"), ("reference", "cuda"), ("cpu", "cpu"))
pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _cuda() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("gsplat", reason="gsplat is not installed")


def results_of(args: list[Tensor], K: Tensor, **options: object) -> dict[str, list[Tensor]]:
    """Colours with depth, alphas, gradients (in the order of `NAMES`) and boxes of all back-ends, on the CPU."""
    found = {}
    for name, device in BACKENDS:
        leaves = [a.to(device).requires_grad_() for a in args]
        colors, alphas, meta = draw(leaves, K.to(device), W, H, render_mode="RGB+D", backend=name, **options)
        g = torch.Generator().manual_seed(0)
        weights = [torch.randn(t.shape, generator=g).to(device) for t in (colors, alphas)]
        grads = torch.autograd.grad((colors, alphas), leaves, weights)
        found[name] = [t.detach().cpu() for t in (colors, alphas, *grads, meta["radii"])]
    return found


@FILTERS
@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3, 4, 7])
def test_pictures_gradients_and_boxes_agree(batch: tuple[int, ...], options: dict, channels: int) -> None:
    args, K = scene(400, width=W, height=H, batch=batch, channels=channels, dtype=torch.float32)
    results = results_of(args, K, **options)
    for other in ("reference", "cpu"):
        for i, name in enumerate(("colors", "alphas")):
            assert mismatch(results["gsplat"][i], results[other][i], 2e-4, 2e-4) <= 5e-3, (other, name)
        for a, b, name in zip(results["gsplat"][2:-1], results[other][2:-1], NAMES):
            assert_gradient_close(a, b, f"{other}: {name}", 1e-2)
        boxes, expected = results["gsplat"][-1], results[other][-1]
        assert ((expected > 0).all(-1)).float().mean() > 0.5
        assert (boxes != expected).any(-1).float().mean() <= 0.01, other


@FILTERS
def test_flat_gaussians_of_a_surface_agree(options: dict) -> None:
    args, K = scene(600, width=W, height=H, batch=(3,), dtype=torch.float32)
    args[2] = torch.tensor([0.05, 0.05, 0.002]).expand_as(args[2]).clone()
    results = results_of(args, K, **options)
    for other in ("reference", "cpu"):
        for i in (0, 1):
            assert mismatch(results["gsplat"][i], results[other][i], 1e-3, 1e-3) <= 1e-2, other
        for a, b, name in zip(results["gsplat"][2:-1], results[other][2:-1], NAMES):
            assert_gradient_close(a, b, f"{other}: {name}", 3e-2)


@pytest.mark.parametrize(
    "case", ["behind", "beside", "transparent", "clipped", "huge", "needle", "zero_quat", "opaque"]
)
@FILTERS
def test_extreme_scenes_agree_and_stay_finite(case: str, options: dict) -> None:
    args, K = scene(20, width=W, height=H, dtype=torch.float32)
    more: dict[str, float] = {}
    if case == "behind":
        args[5][..., 2, 3] -= 10
    elif case == "beside":
        args[5][..., 0, 3] += 30
    elif case == "transparent":
        args[3] = args[3] * 0 + 1 / 256
    elif case == "clipped":
        more["radius_clip"] = 1000.0
    elif case == "huge":
        args[2][0] = 200.0
    elif case == "needle":
        args[2][:, 0], args[2][:, 1:] = 0.3, 0.01  # thinner ones lose all digits of gsplat's xx yy - xy^2
    elif case == "zero_quat":
        args[1][0] = 0
    else:
        args[3][:] = 1.0
    results = results_of(args, K, **options, **more)
    for found in results.values():
        assert all(bool(t.isfinite().all()) for i, t in enumerate(found) if not (case == "zero_quat" and i == 3))
    for other in ("reference", "cpu"):
        assert mismatch(results["gsplat"][0], results[other][0], 1e-3, 1e-3) <= 1e-2, other
        assert mismatch(results["gsplat"][1], results[other][1], 1e-3) <= 1e-2, other


def test_broken_and_absent_gaussians_change_nothing() -> None:
    args, K = scene(30, width=W, height=H, dtype=torch.float32)
    device = [a.cuda() for a in args]
    clean = draw([a[3:] if a.shape[0] == 30 else a for a in device], K.cuda(), W, H, backend="gsplat")
    device[0][0], device[2][1], device[3][2] = float("nan"), float("inf"), float("nan")
    broken = draw(device, K.cuda(), W, H, backend="gsplat")
    assert torch.equal(clean[0], broken[0]) and torch.equal(clean[1], broken[1])
    empty = draw([a[:0] if a.shape[0] == 30 else a for a in device], K.cuda(), W, H, backend="gsplat")
    assert float(empty[1].abs().max()) == 0 and empty[0].shape == clean[0].shape


def test_one_call_and_many_give_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    args, K = scene(300, width=W, height=H, batch=(5,), dtype=torch.float32)
    device = [a.cuda() for a in args]
    whole = draw(device, K.cuda(), W, H, backend="gsplat")
    monkeypatch.setattr(backend, "PAIRS_PER_CALL", 2 * 2 * 300)
    parts = draw(device, K.cuda(), W, H, backend="gsplat")
    assert mismatch(whole[0], parts[0], 1e-6, 1e-6) == 0 and mismatch(whole[1], parts[1], 1e-6) == 0


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_render_gaussians_on_cuda_is_what_it_is_on_the_cpu(degree: int) -> None:
    g = torch.Generator().manual_seed(degree)
    frames, n, k = 3, 500, (degree + 1) ** 2
    cameras = rig(width=W, height=H)
    still = Gaussians(
        means=0.4 * torch.randn(frames, n, 3, generator=g),
        quats=torch.randn(frames, n, 4, generator=g),
        log_scales=torch.full((frames, n, 3), math.log(0.05)) + 0.3 * torch.randn(frames, n, 3, generator=g),
        opacity_logits=torch.randn(frames, n, generator=g) + 1,
        sh=0.5 * torch.randn(frames, n, k, 3, generator=g),
    )
    pictures, slopes = [], []
    for device in ("cuda", "cpu"):
        leaves = {name: value.to(device).requires_grad_() for name, value in still.state_dict().items()}
        picture = render_gaussians(Gaussians.from_state_dict(leaves), cameras)
        weight = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1)).to(device)
        slopes.append([s.cpu() for s in torch.autograd.grad(picture, list(leaves.values()), weight)])
        pictures.append(picture.detach().cpu())
    assert pictures[0].shape == (frames, 4, 4, H, W)
    assert mismatch(pictures[0], pictures[1], 3e-4) <= 5e-3
    for a, b, name in zip(*slopes, still.state_dict()):
        assert_gradient_close(a, b, name, 1e-2)
