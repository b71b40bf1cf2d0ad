"""CPU time of the rasteriser per image, as ratios against its readable twin measured in the same run.

    python -m eval.bench.rasterizer [--quick]

The scene is a torus and a sphere of Gaussians (scale 0.02 to 0.04, opacity 0.9) seen by four cameras; forward, and
forward plus backward to means, quaternions, scales, opacities and colours. One thread; the least of several runs, since
other work on the machine only adds. `pip install --no-deps metal-gauss` adds a second peer. Writes
eval/results/bench_rasterizer.json.
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

# Before numba and torch read them: the figures are CPU time of one thread.
os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from t4d.geometry.camera import rig, stack
from t4d.splat.rasterize import Backend, rasterize

RESULT = Path(__file__).parents[1] / "results" / "bench_rasterizer.json"
SIZES = [(3000, 64), (3000, 128), (3000, 256), (20000, 64), (20000, 128), (20000, 256)]
TWIN_PAIRS = 60e6  # the twin is dense: larger pictures x Gaussians than this would take minutes


def scene(count: int, seed: int = 0) -> list[Tensor]:
    """Means, quats, scales, opacities and colours of ``count`` Gaussians on a torus and a sphere."""
    g = torch.Generator().manual_seed(seed)
    half = count // 2
    u, v = 2 * math.pi * torch.rand(2, half, generator=g)
    torus = torch.stack([(0.6 + 0.22 * v.cos()) * u.cos(), (0.6 + 0.22 * v.cos()) * u.sin(), 0.22 * v.sin()], -1)
    sphere = torch.randn(count - half, 3, generator=g)
    sphere = 0.35 * sphere / sphere.norm(dim=-1, keepdim=True)
    return [
        torch.cat([torus, sphere]),
        torch.randn(count, 4, generator=g),
        0.02 + 0.02 * torch.rand(count, 3, generator=g),
        torch.full((count,), 0.9),
        torch.rand(count, 3, generator=g),
    ]


def least(call: Callable[[], object], seconds: float, most: int = 30) -> float:
    """CPU milliseconds of the fastest of several calls."""
    call()
    best, spent = math.inf, 0.0
    for _ in range(most):
        start = time.process_time()
        call()
        taken = time.process_time() - start
        best, spent = min(best, taken), spent + taken
        if spent > seconds:
            break
    return 1e3 * best


def measure_metal_gauss(count: int, size: int) -> tuple[float, float] | None:
    """CPU milliseconds per image of the only other library that draws and differentiates on a CPU, if installed."""
    try:
        from metal_gauss.torch_ref import render  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    leaves = [t.requires_grad_() for t in scene(count)]
    views, Ks = stack(rig(width=size, height=size)[:1])

    def forward() -> tuple[Tensor, Tensor]:
        means, quats, scales, opacities, colors = leaves
        output = render(means, quats, scales, opacities, None, Ks[0], views[0], size, size, colors=colors)
        return output[0], output[1]

    def both() -> None:
        outputs = forward()
        torch.autograd.grad(outputs, leaves, [torch.ones_like(o) for o in outputs])

    return least(forward, 2.0), least(both, 2.0)


def measure(count: int, size: int, backend: Backend, cameras: int, frames: int | None = None) -> tuple[float, float]:
    """CPU milliseconds per image, forward and forward plus backward."""
    tensors = scene(count)
    if frames is not None:
        tensors = [t.expand(frames, *t.shape).clone() for t in tensors]
        tensors[0] += 0.01 * torch.randn(frames, 1, 3, generator=torch.Generator().manual_seed(1))
    leaves = [t.requires_grad_() for t in tensors]
    views, Ks = stack(rig(width=size, height=size)[:cameras])
    if frames is not None:
        views, Ks = views.expand(frames, -1, -1, -1), Ks.expand(frames, -1, -1, -1)
    images = cameras * (frames or 1)

    def forward() -> tuple[Tensor, Tensor]:
        means, quats, scales, opacities, colors = leaves
        picture, alpha, _ = rasterize(
            means,
            quats,
            scales,
            opacities,
            colors,
            views,
            Ks,
            size,
            size,
            backend="cpu" if backend == "cpu" else "reference",
        )
        return picture, alpha

    def both() -> None:
        outputs = forward()
        torch.autograd.grad(outputs, leaves, [torch.ones_like(o) for o in outputs])

    budget = 1.0 if backend == "cpu" else 0.0
    return least(forward, budget) / images, least(both, budget) / images


def hardware() -> str:
    """The processor as the system names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line]
        fields = {key.strip(): value.strip() for key, value in reversed(lines)}
        name = f"{fields.get('model name', platform.processor())} (model {fields.get('model')})"
        flags = fields.get("flags", "").split()
        vector = next((f for f in ("avx512f", "avx2", "sse2") if f in flags), "no vector unit named")
        return f"{name}, {os.cpu_count()} cores, {vector}"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the two smallest sizes, nothing written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(hardware())
    print("   N    size   cpu-ms/image fwd / fwd+bwd     twin fwd / fwd+bwd     twin / ours")
    for count, size in SIZES[:2] if arguments.quick else SIZES:
        ours = measure(count, size, "cpu", 4)
        row = {"gaussians": count, "size": size, "cpu_ms_forward": ours[0], "cpu_ms_both": ours[1]}
        text = f"{count:6d} {size:5d}    {ours[0]:8.2f} / {ours[1]:8.2f}"
        if count * size * size <= TWIN_PAIRS:
            twin = measure(count, size, "reference", 1)
            row |= {"twin_ms_forward": twin[0], "twin_ms_both": twin[1]}
            row |= {"ratio_forward": twin[0] / ours[0], "ratio_both": twin[1] / ours[1]}
            text += f"       {twin[0]:9.0f} / {twin[1]:9.0f}     {twin[0] / ours[0]:6.0f} / {twin[1] / ours[1]:6.0f}"
        if size <= 128 and (peer := measure_metal_gauss(count, size)):
            row |= {"metal_gauss_ms_forward": peer[0], "metal_gauss_ms_both": peer[1]}
            row |= {"metal_gauss_ratio_forward": peer[0] / ours[0], "metal_gauss_ratio_both": peer[1] / ours[1]}
            text += (
                f"   metal-gauss {peer[0]:.0f} / {peer[1]:.0f}, {peer[0] / ours[0]:.0f} / {peer[1] / ours[1]:.0f} times"
            )
        print(text, flush=True)
        rows.append(row)
    ours = measure(3000, 64, "cpu", 4, frames=16)
    print(
        f"64 images in one call (16 frames of own means x 4 cameras), 3000, 64: {ours[0]:.2f} / {ours[1]:.2f} per image"
    )
    batch = {"gaussians": 3000, "size": 64, "images": 64, "cpu_ms_forward": ours[0], "cpu_ms_both": ours[1]}
    if not arguments.quick:
        result = {"hardware": hardware(), "threads": 1, "torch": torch.__version__, "rows": rows, "batch": batch}
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written to {RESULT.relative_to(Path(__file__).parents[2])}")


if __name__ == "__main__":
    main()
