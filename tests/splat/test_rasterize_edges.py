"""Degenerate scenes and bad arguments."""

import importlib

import pytest
import torch
from splat_scenes import NAMES, draw, gradients, mismatch, scene

W, H = 24, 36
BACKENDS = ["reference", "cpu"]


def _draw(args: list[torch.Tensor], K: torch.Tensor, backend: str, **options: object) -> tuple[torch.Tensor, ...]:
    leaves = [a.clone().requires_grad_() for a in args]
    colors, alphas, meta = draw(leaves, K, W, H, backend=backend, **options)
    grads = gradients((colors, alphas), leaves)
    for tensor, name in zip((colors, alphas, *grads), ("color", "alpha", *NAMES)):
        assert torch.isfinite(tensor).all(), name
    return colors, alphas, meta["radii"], *grads


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gaussians(backend: str) -> None:
    args, K = scene(0, width=W, height=H, dtype=torch.float32)
    leaves = [a.clone().requires_grad_() for a in args]
    colors, alphas, _ = draw(leaves, K, W, H, backgrounds=torch.full((2, 3), 0.25), backend=backend)
    assert (colors == 0.25).all()
    assert (alphas == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["behind", "beside", "transparent", "clipped", "far"])
def test_nothing_visible(backend: str, case: str) -> None:
    args, K = scene(20, width=W, height=H, dtype=torch.float32)
    options: dict[str, float] = {}
    if case == "behind":
        args[5][..., 2, 3] -= 10
    elif case == "beside":
        args[5][..., 0, 3] += 30
    elif case == "transparent":
        args[3] = args[3] * 0 + 1 / 256
    elif case == "clipped":
        options["radius_clip"] = 1000.0
    else:
        options["far_plane"] = 1.0
    colors, alphas, radii, *grads = _draw(args, K, backend, **options)
    assert (colors == 0).all()
    assert (alphas == 0).all()
    assert (radii == 0).all()
    assert all((g == 0).all() for g in grads)


@pytest.mark.parametrize("case", ["huge", "needle", "point", "grazing", "zero_quat", "opaque", "at_the_eye"])
def test_extreme_gaussians_agree_and_stay_finite(case: str) -> None:
    args, K = scene(12, width=W, height=H, dtype=torch.float32)
    if case == "huge":
        args[2][0] = 200.0
    elif case == "needle":
        args[2][:, 0], args[2][:, 1:] = 3.0, 1e-6
    elif case == "point":
        args[2][:] = 1e-8
    elif case == "grazing":  # far outside the picture but wide enough to reach in: the Jacobian is held there
        args[0][:6] *= 4
        args[2][:6] = 1.0
    elif case == "zero_quat":
        args[1][0] = 0
    elif case == "opaque":
        args[3][:] = 1.0
    else:
        args[5][..., 2, 3] -= 2.4  # some Gaussians in front of the near plane, some behind the eye
    for mode in ("classic", "antialiased"):
        mine = _draw(args, K, "cpu", rasterize_mode=mode)
        twin = _draw(args, K, "reference", rasterize_mode=mode)
        assert mine[1].max() > 0 or mode == "antialiased"
        assert mismatch(mine[0], twin[0], 2e-4, 1e-4) <= 5e-3
        assert mismatch(mine[1], twin[1], 2e-4) <= 5e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_gaussian_does_not_spoil_the_others(backend: str) -> None:
    args, K = scene(30, width=W, height=H, dtype=torch.float32)
    clean, alphas, _ = draw([a[3:] if a.shape[0] == 30 else a for a in args], K, W, H, backend=backend)
    args[0][0], args[2][1], args[3][2] = float("nan"), float("inf"), float("nan")
    broken, alphas_b, _ = draw(args, K, W, H, backend=backend)
    assert torch.equal(clean, broken)
    assert torch.equal(alphas, alphas_b)


def test_translating_camera_and_gaussians_together_changes_nothing() -> None:
    args, K = scene(80, width=W, height=H)
    shift = torch.tensor([0.3, -0.2, 0.4], dtype=torch.float64)
    moved = [args[0] + shift, *args[1:5], args[5].clone()]
    moved[5][..., :3, 3] -= args[5][..., :3, :3] @ shift
    a, _, _ = draw(args, K, W, H)
    b, _, _ = draw(moved, K, W, H)
    assert mismatch(a, b, 1e-9) == 0


def test_order_of_gaussians_does_not_matter() -> None:
    args, K = scene(80, width=W, height=H, dtype=torch.float32)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    a, _, _ = draw(args, K, W, H, backend="cpu")
    b, _, _ = draw([*(x[order] for x in args[:5]), args[5]], K, W, H, backend="cpu")
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("index", "shape"),
    [(0, (20, 4)), (1, (20, 3)), (2, (19, 3)), (3, (20, 1)), (4, (3, 20, 3)), (5, (2, 3, 4))],
)
def test_bad_shapes_are_named(index: int, shape: tuple[int, ...]) -> None:
    args, K = scene(20, width=W, height=H, dtype=torch.float32)
    args[index] = torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"{NAMES[index]} has shape \[{', '.join(map(str, shape))}\], expected"):
        draw(args, K, W, H)


def test_bad_options_are_named() -> None:
    args, K = scene(20, width=W, height=H, dtype=torch.float32)
    with pytest.raises(ValueError, match="render_mode is 'rgb'"):
        draw(args, K, W, H, render_mode="rgb")
    with pytest.raises(ValueError, match="backend is 'cuda'"):
        draw(args, K, W, H, backend="cuda")
    with pytest.raises(ValueError, match="picture is 0x36"):
        draw(args, K, 0, H)
    with pytest.raises(ValueError, match="backgrounds has shape"):
        draw(args, K, W, H, backgrounds=torch.zeros(3))
    with pytest.raises(ValueError, match="gsplat back-end needs CUDA tensors"):
        draw(args, K, W, H, backend="gsplat")
    with pytest.raises(ValueError, match=r"quats is torch.float64 .* expected torch.float32"):
        draw([args[0], args[1].double(), *args[2:]], K, W, H)
    with pytest.raises(ValueError, match="draws float32"):
        draw([a.double() for a in args], K.double(), W, H, backend="cpu")


def test_auto_chooses_by_device_and_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    args, K = scene(5, width=W, height=H, dtype=torch.float32)
    chosen = []
    module = importlib.import_module("t4d.splat.rasterize")  # the package re-exports the function of this name
    original = module._backend
    monkeypatch.setattr(module, "_backend", lambda name: chosen.append(name) or original(name))
    draw(args, K, W, H)
    draw([a.double() for a in args], K.double(), W, H)
    assert chosen == ["cpu", "reference"]


def test_absent_gsplat_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from t4d.splat._gsplat import rasterize_gsplat

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (means, quats, scales, opacities, colors, viewmats), K = scene(
        5, width=W, height=H, batch=(1,), dtype=torch.float32
    )
    with pytest.raises(ModuleNotFoundError, match=r"pip install gsplat==1\.5\.3"):
        rasterize_gsplat(
            *(means, quats, scales, opacities, colors, viewmats, K, W, H),
            append_depth=False,
            near_plane=0.01,
            far_plane=1e10,
            radius_clip=0.0,
            eps2d=0.3,
            antialiased=False,
        )


@pytest.mark.parametrize("changed", ["means", "color", "alpha"])
def test_changes_in_place_before_backward_are_noticed(changed: str) -> None:
    args, K = scene(20, width=W, height=H, dtype=torch.float32)
    leaves = [a.clone().requires_grad_() for a in args]
    colors, alphas, _ = draw(leaves, K, W, H, backend="cpu")
    loss = colors.sum() + alphas.sum()
    with torch.no_grad():
        {"means": leaves[0], "color": colors, "alpha": alphas}[changed].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
