"""Quaternions by law: homomorphism, double cover, inverse, shortest arc."""

import pytest
import torch
from torch.nn.functional import normalize

from t4d.geometry.rotations import matrix_to_quat, quat_multiply, quat_to_matrix, slerp


def random_quats(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, 4, dtype=torch.float64, generator=generator), dim=-1)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_product_is_a_homomorphism(shape: tuple[int, ...]) -> None:
    a, b = random_quats(*shape, seed=1), random_quats(*shape, seed=2)
    torch.testing.assert_close(quat_to_matrix(quat_multiply(a, b)), quat_to_matrix(a) @ quat_to_matrix(b))


def test_matrices_are_rotations_and_length_and_sign_do_not_matter() -> None:
    q = random_quats(50)
    m = quat_to_matrix(q)
    torch.testing.assert_close(m @ m.mT, torch.eye(3, dtype=torch.float64).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(m), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(quat_to_matrix(-3 * q), m)


def test_round_trip_everywhere_also_at_half_turns() -> None:
    half_turns = torch.eye(4, dtype=torch.float64)
    q = torch.cat([random_quats(500), half_turns, normalize(torch.tensor([[1e-9, 1.0, 1.0, 0]]).double(), dim=-1)])
    back = matrix_to_quat(quat_to_matrix(q))
    torch.testing.assert_close((back * q).sum(-1).abs(), torch.ones(len(q), dtype=torch.float64))
    assert (back[:, 0] >= 0).all()


def test_a_quarter_turn_about_z_is_counter_clockwise() -> None:
    q = torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5])
    torch.testing.assert_close(quat_to_matrix(q) @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))


def test_slerp_turns_evenly_along_the_shorter_arc() -> None:
    a, turn = random_quats(seed=3), torch.tensor(1.2).double()
    axis = torch.tensor([0.6, 0.0, 0.8]).double()
    for sign in (1.0, -1.0):
        b = sign * quat_multiply(torch.cat([torch.cos(turn / 2)[None], torch.sin(turn / 2) * axis]), a)
        for t in (0.0, 0.25, 0.5, 1.0):
            part = t * turn / 2
            expected = quat_multiply(torch.cat([torch.cos(part)[None], torch.sin(part) * axis]), a)
            torch.testing.assert_close(slerp(a, b, t), expected)


def test_slerp_of_nearly_equal_quaternions_is_finite_and_continuous() -> None:
    a = random_quats(20, seed=4)
    b = normalize(a + 1e-4 * random_quats(20, seed=5), dim=-1)
    for other in (a, b):
        out = slerp(a, other, 0.3)
        torch.testing.assert_close(out.norm(dim=-1), torch.ones(20, dtype=torch.float64))
        torch.testing.assert_close(out, a, atol=2e-4, rtol=0)


def test_gradients() -> None:
    a, b = random_quats(3, seed=6).requires_grad_(), random_quats(3, seed=7).requires_grad_()
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(quat_to_matrix, (a,))
    assert torch.autograd.gradcheck(lambda q: matrix_to_quat(quat_to_matrix(q)), (a,))
    assert torch.autograd.gradcheck(quat_multiply, (a, b))
    assert torch.autograd.gradcheck(slerp, (a, b, t))


def test_gradients_stay_finite_where_slerp_is_degenerate() -> None:
    a = random_quats(2, seed=8).requires_grad_()
    slerp(a, a.detach().clone(), 0.5).sum().backward()
    assert a.grad is not None and torch.isfinite(a.grad).all()
