"""Properties of the numba kernels: vector code, same bits for any number of threads, exact culling, sorting."""

import platform
import re

import numba
import numpy as np
import pytest
import torch
from numba.core.codegen import get_host_cpu_features
from splat_scenes import draw, gradients, scene

from t4d.splat import _cpu, _cpu_bin, _cpu_blend, _numba

PACKED = re.compile(r"\bvfn?m(?:add|sub)\d+ps\b")
SCALAR = re.compile(r"\bvfn?m(?:add|sub)\d+ss\b")


def _assembly(step, arrays: int) -> str:
    fresh = numba.njit(nogil=True, error_model="numpy", fastmath=_numba.FLAGS)(step.py_func)
    row = numba.float32[::1]
    signature = (*[row] * arrays, *[numba.float32] * 10, numba.boolean)
    fresh.compile(signature)
    return fresh.inspect_asm(signature)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
@pytest.mark.parametrize(("step", "arrays", "least"), [("_forward_step", 1, 10), ("_backward_step", 2, 20)])
def test_lane_loop_is_vector_code(step: str, arrays: int, least: int) -> None:
    if "+fma," not in get_host_cpu_features():
        pytest.skip("this processor has no fused multiply-add")
    assembly = _assembly(getattr(_cpu_blend, step), arrays)
    packed, scalar = len(PACKED.findall(assembly)), len(SCALAR.findall(assembly))
    # One pass over 16 lanes holds about a dozen (forward) and two dozen (backward) fused operations per vector.
    assert packed >= least, (packed, scalar)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
def test_the_assembly_test_can_fail() -> None:
    if "+fma," not in get_host_cpu_features():
        pytest.skip("this processor has no fused multiply-add")

    def scalar_twin(Q, mx, my, a, b, c, peak, c0, c1, c2, c3, four):  # each lane needs the one before
        carry = np.float32(0)
        for j in range(16):
            carry = a * carry * carry + Q[j]
            Q[j] = carry
        return carry

    class Step:
        py_func = staticmethod(scalar_twin)

    assert len(PACKED.findall(_assembly(Step, 1))) < 10


def _everything(args: list[torch.Tensor], K: torch.Tensor) -> list[torch.Tensor]:
    leaves = [a.clone().requires_grad_() for a in args]
    colors, alphas, _ = draw(leaves, K, 70, 50, render_mode="RGB+D", backend="cpu")
    return [colors.detach(), alphas.detach(), *gradients((colors, alphas), leaves)]


@pytest.mark.parametrize("cameras", [1, 3])
def test_same_bits_in_every_run_and_for_any_number_of_threads(cameras: int, monkeypatch: pytest.MonkeyPatch) -> None:
    args, K = scene(800, cameras=cameras, width=70, height=50, dtype=torch.float32)
    results = []
    for threads in (1, 1, 2, 3):
        monkeypatch.setattr(_cpu, "thread_count", lambda threads=threads: threads)
        results.append(_everything(args, K))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert torch.equal(a, b)


def test_two_python_threads_may_draw_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(_cpu, "thread_count", lambda: 2)
    args, K = scene(400, width=70, height=50, dtype=torch.float32)
    expected = _everything(args, K)
    with ThreadPoolExecutor(3) as pool:
        for result in pool.map(lambda _: _everything(args, K), range(6)):
            assert all(torch.equal(a, b) for a, b in zip(result, expected))


def test_depth_sort_is_stable() -> None:
    rng = np.random.default_rng(0)
    depths = rng.choice(np.array([0.01, 0.5, 1.0, 2.999, 3.0, 3.0000002, 1e9], np.float32), 500)
    radii = (rng.random((500, 2)) < 0.8).astype(np.int32)
    order, scratch, keys = np.zeros(500, np.int32), np.zeros(500, np.int32), np.zeros(2048, np.int32)
    count = _cpu_bin.sort_by_depth(depths, radii, order, keys, scratch)
    drawn = np.flatnonzero(radii[:, 0] > 0)
    assert count == len(drawn)
    assert np.array_equal(order[:count], drawn[np.argsort(depths[drawn], kind="stable")])


def test_outline_span_holds_the_ellipse_and_little_more() -> None:
    """The culling outline against a dense scan of the quadratic form."""
    rng = np.random.default_rng(1)
    from t4d.splat import _cpu_project as P

    worst = 0.0
    for _ in range(200):
        half = rng.uniform(0.6, 12, 2)
        angle = rng.uniform(0, np.pi)
        R = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        cov = R @ np.diag(half**2) @ R.T
        conic = np.linalg.inv(cov)
        g = np.zeros(P.ROW, np.float32)
        g[P.TILT_X], g[P.TILT_Y] = cov[0, 1] / cov[1, 1], cov[0, 1] / np.sqrt(cov[0, 0])
        g[P.HALF_X2], g[P.SHRINK] = 1 / conic[0, 0], 1 / np.linalg.det(cov) / conic[0, 0] ** 2
        reach = np.sqrt(cov[1, 1])
        top = rng.uniform(-reach, reach)
        bottom = rng.uniform(top, reach)
        y = np.linspace(top, bottom, 2001)
        middle = cov[0, 1] / cov[1, 1] * y
        width = np.sqrt(np.maximum(0, (1 - y**2 / cov[1, 1]) * np.linalg.det(cov) / cov[1, 1]))
        left, right = _cpu_bin.outline_span(g, np.float32(top), np.float32(bottom))
        worst = max(worst, abs(left - (middle - width).min()), abs(right - (middle + width).max()))
    assert worst < 2e-3


def test_cache_is_renewed_when_any_source_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = _cpu_blend.blend_range._cache._cache_file._source_stamp
    assert stamp[1] == _numba.sources_digest()
    monkeypatch.setattr(_numba, "sources_digest", lambda: "other")
    assert _numba.kernel(_cpu_blend.blend_range.py_func)._cache._cache_file._source_stamp != stamp


def test_numbas_own_threads_are_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be OpenMP's, which then also multiply under torch and spin: measured 4 times the CPU time."""
    import numba.np.ufunc.parallel as layer

    def started() -> None:
        raise AssertionError("numba's threading layer was started")

    monkeypatch.setattr(layer, "_launch_threads", started)
    monkeypatch.setattr(numba, "get_num_threads", started)
    args, K = scene(50, width=70, height=50, dtype=torch.float32)
    assert _everything(args, K)[1].max() > 0
