"""Hex-plane against its readable twin, by law and by gradient."""

import pytest
import torch

from t4d.motion.hexplane import PAIRS, HexPlane, hexplane_reference


def build(levels=1, space=(7, 5, 6), time=4, features=3):
    generator = torch.Generator().manual_seed(1)
    plane = HexPlane(space, time, features, levels, generator).double()
    with torch.no_grad():
        for parameter in plane.parameters():
            parameter.uniform_(-1, 1, generator=generator)
    return plane


POINTS = torch.tensor(
    [[0.1, -0.4, 0.9], [-1.0, 1.0, 0.0], [0.33, 0.2, -0.77], [1.4, -2.0, 0.5]], dtype=torch.float64
)  # the last lies outside: border
TIMES = torch.tensor([-1.0, -0.2, 0.61, 1.0, 1.5], dtype=torch.float64)


@pytest.mark.parametrize("levels", [1, 3])
def test_agrees_with_the_twin_forward_and_backward(levels):
    plane = build(levels)
    planes = [plane.plane(first, second) for first, second in PAIRS]
    assert [tuple(p.shape[1:]) for p in planes] == [(3, 5, 7), (3, 6, 7), (3, 4, 7), (3, 6, 5), (3, 4, 5), (3, 4, 6)]
    fast, slow = plane(POINTS, TIMES), hexplane_reference(planes, POINTS, TIMES)
    assert fast.shape == (5, 4, 3)
    torch.testing.assert_close(fast, slow, atol=1e-12, rtol=0)
    cotangent = torch.randn(fast.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    parameters = list(plane.parameters())
    for a, b in zip(torch.autograd.grad(fast, parameters, cotangent), torch.autograd.grad(slow, parameters, cotangent)):
        torch.testing.assert_close(a, b, atol=1e-11, rtol=0)


def test_gradients_by_finite_differences():
    plane = build(space=(4, 3, 5), time=3, features=2)
    names = [name for name, _ in plane.named_parameters()]

    def run(*values):
        return torch.func.functional_call(plane, dict(zip(names, values)), (POINTS, TIMES[1:3]))

    assert torch.autograd.gradcheck(run, tuple(plane.parameters()))


def test_starts_independent_of_time_and_reads_samples_on_the_corners():
    plane = HexPlane((7, 5, 6), 4, 3, generator=torch.Generator().manual_seed(0))
    feature = plane(POINTS.float(), TIMES.float())
    assert torch.equal(feature, feature[:1].expand_as(feature))
    corner = plane(torch.tensor([[-1.0, -1.0, -1.0]]), torch.tensor([-1.0]))[0, 0]
    expected = torch.stack([plane.plane(*pair)[0, :, 0, 0] for pair in PAIRS]).prod(0)
    torch.testing.assert_close(corner, expected)
    assert float(expected.min()) > 0.1**3 and float(expected.max()) < 0.5**3


def test_hold_time_freezes_what_follows_a_sample():
    plane = build(levels=2)
    before = plane(POINTS, torch.tensor([-1.0, -1 / 3, 1 / 3, 1.0], dtype=torch.float64))
    plane.hold_time(1)
    after = plane(POINTS, torch.tensor([-1.0, -1 / 3, 1 / 3, 1.0], dtype=torch.float64))
    torch.testing.assert_close(after[:2], before[:2])
    torch.testing.assert_close(after[2:], before[1:2].expand(2, -1, -1))
    assert not torch.allclose(before[2], before[1])


@pytest.mark.parametrize("bad", [{"space": (7, 1, 6)}, {"time": 1}, {"levels": 0}, {"features": 0}])
def test_impossible_sizes_are_refused(bad):
    with pytest.raises(ValueError, match="expected three"):
        HexPlane(**bad)
