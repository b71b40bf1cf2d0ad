"""Back-ends against a float64 brute force that shares no code with them, and against each other."""

import pytest
import torch
from splat_scenes import NAMES, assert_gradient_close, brute_force, draw, gradients, mismatch, scene

W, H = 40, 52


def _single(args: list[torch.Tensor], K: torch.Tensor, camera: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    return [*args[:5], args[5][camera]], K[camera]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("antialiased", [False, True])
def test_backend_agrees_with_brute_force(backend: str, antialiased: bool) -> None:
    args, K = scene(60, cameras=1, width=W, height=H)
    exact = [a.clone().requires_grad_() for a in args]
    background = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    truth = brute_force([*exact[:5], exact[5][0]], K[0], W, H, antialiased=antialiased, background=background)
    dtype = torch.float64 if backend == "reference" else torch.float32
    ours = [a.to(dtype).requires_grad_() for a in args]
    colors, alphas, _ = draw(
        ours,
        K.to(dtype),
        W,
        H,
        backgrounds=background.to(dtype)[None],
        render_mode="RGB+D",
        rasterize_mode="antialiased" if antialiased else "classic",
        backend=backend,
    )
    tolerance = 1e-9 if backend == "reference" else 5e-6
    outputs = (colors[0, ..., :3], alphas[0, ..., 0], colors[0, ..., 3])
    for mine, expected, name in zip(outputs, truth, ("color", "alpha", "depth")):
        assert mismatch(mine, expected, tolerance, tolerance) <= 1e-3, name
    assert 0.2 < truth[1].mean() < 0.99  # the scene fills part of the picture
    got = gradients((outputs[0], outputs[1], outputs[2]), ours)
    wanted = gradients(truth, exact)
    for a, b, name in zip(got, wanted, NAMES):
        assert_gradient_close(a, b, name, 1e-8 if backend == "reference" else 3e-4)


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("per_camera", [False, True])
def test_cpu_agrees_with_reference_for_any_batch_and_channels(
    batch: tuple[int, ...], channels: int, per_camera: bool
) -> None:
    args, K = scene(70, width=W, height=H, channels=channels, batch=batch, dtype=torch.float32, seed=channels)
    if per_camera:
        args[4] = torch.rand(*batch, 2, 70, channels, generator=torch.Generator().manual_seed(1))
    backgrounds = torch.rand(*batch, 2, channels, generator=torch.Generator().manual_seed(2))
    results = {}
    for backend in ("reference", "cpu"):
        leaves = [a.clone().requires_grad_() for a in args]
        seen = backgrounds.clone().requires_grad_()
        colors, alphas, meta = draw(leaves, K, W, H, backgrounds=seen, render_mode="RGB+D", backend=backend)
        assert colors.shape == (*batch, 2, H, W, channels + 1)
        assert alphas.shape == (*batch, 2, H, W, 1)
        assert meta["radii"].shape == (*batch, 2, 70, 2)
        results[backend] = (colors, alphas, gradients((colors, alphas), [*leaves, seen]), meta)
    colors, alphas, grads, meta = results["cpu"]
    colors_r, alphas_r, grads_r, meta_r = results["reference"]
    assert mismatch(colors, colors_r, 5e-6, 5e-6) <= 1e-3
    assert mismatch(alphas, alphas_r, 5e-6) <= 1e-3
    assert mismatch(meta["radii"], meta_r["radii"], 0) <= 0.01  # a ceil may fall to the other side
    drawn = (meta["radii"] > 0).all(-1) & (meta_r["radii"] > 0).all(-1)
    for key in ("means2d", "depths", "conics", "opacities"):
        assert mismatch(meta[key][drawn], meta_r[key][drawn], 1e-4, 1e-4) == 0, key
    for a, b, name in zip(grads, grads_r, (*NAMES, "backgrounds")):
        assert a.shape == b.shape
        assert_gradient_close(a, b, name)


@pytest.mark.parametrize("mode", ["RGB", "D", "ED", "RGB+D", "RGB+ED"])
def test_render_modes_are_made_of_one_another(mode: str) -> None:
    args, K = scene(50, width=W, height=H, dtype=torch.float32)
    full, alphas, _ = draw(args, K, W, H, render_mode="RGB+D", backend="cpu")
    colors, alphas_m, _ = draw(args, K, W, H, render_mode=mode, backend="cpu")
    depth = full[..., 3:] / alphas.clamp(min=1e-10) if mode.endswith("ED") else full[..., 3:]
    parts = {"RGB": [full[..., :3]], "D": [depth], "ED": [depth], "RGB+D": [full[..., :3], depth]}
    expected = torch.cat(parts.get(mode, [full[..., :3], depth]), -1)
    assert torch.equal(alphas, alphas_m)
    assert mismatch(colors, expected, 1e-6, 1e-6) == 0
    if mode.endswith("ED"):
        seen = alphas[..., 0] > 0.5
        assert ((colors[..., -1][seen] > 2.0) & (colors[..., -1][seen] < 4.0)).all()  # cameras are 3 away


def test_large_scene_agrees_with_reference() -> None:
    args, K = scene(1500, cameras=1, width=97, height=64, dtype=torch.float32, scale=(0.01, 0.08))
    args[3] = args[3] * 0 + 0.97  # pixels saturate and stop
    out = {}
    for backend in ("reference", "cpu"):
        leaves = [a.clone().requires_grad_() for a in args]
        colors, alphas, _ = draw(leaves, K, 97, 64, backend=backend)
        out[backend] = (colors, alphas, gradients((colors, alphas), leaves))
    assert out["cpu"][1].max() > 0.9999 - 1e-4
    assert mismatch(out["cpu"][0], out["reference"][0], 1e-5) <= 2e-3
    assert mismatch(out["cpu"][1], out["reference"][1], 1e-5) <= 2e-3
    for a, b, name in zip(out["cpu"][2], out["reference"][2], NAMES):
        assert_gradient_close(a, b, name, 1e-2)


def test_gradcheck_of_reference() -> None:
    args, K = scene(5, cameras=1, width=7, height=9, scale=(0.2, 0.4), seed=3)
    args[3] = args[3] * 0.5 + 0.2  # away from the clamp at 0.999
    leaves = [a.clone().requires_grad_() for a in args]

    def pictures(*tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        colors, alphas, _ = draw(
            tensors, K, 7, 9, render_mode="RGB+D", rasterize_mode="antialiased", backend="reference"
        )
        return colors, alphas

    assert torch.autograd.gradcheck(pictures, leaves, eps=1e-7, atol=1e-5)
