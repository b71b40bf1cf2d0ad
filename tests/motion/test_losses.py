"""L_rec and ARAP: values worked out by hand, laws and gradients."""

import math

import pytest
import torch

from t4d.geometry.rotations import quat_to_matrix
from t4d.motion.arap import arap_loss, kabsch, kabsch_by_svd, nearest_neighbours
from t4d.motion.losses import reconstruction_loss


def test_reconstruction_loss_of_one_pixel_by_hand():
    # M = 0.5, C = (0.8, 0.4, 0): M C = (0.4, 0.2, 0). Rendered (premultiplied) (0.1, 0.2, 0.3), alpha 1.
    rgb = torch.tensor([0.8, 0.4, 0.0])[:, None, None]
    mask = torch.full((1, 1, 1), 0.5)
    rendered = torch.tensor([0.1, 0.2, 0.3, 1.0])[:, None, None]
    color, coverage = reconstruction_loss(rendered, rgb, mask)
    assert float(color) == pytest.approx((0.3**2 + 0 + 0.3**2) / 3) and float(coverage) == pytest.approx(0.25)


def test_colour_outside_the_mask_does_not_count():
    generator = torch.Generator().manual_seed(0)
    rgb, mask = torch.rand(2, 3, 3, 4, 5, generator=generator), (torch.rand(2, 3, 1, 4, 5, generator=generator) > 0.5)
    rendered = torch.cat([rgb * mask, mask.float()], dim=2)
    other = torch.where(mask, rgb, torch.rand(rgb.shape, generator=generator))
    for colours in (rgb, other):
        assert [float(term) for term in reconstruction_loss(rendered, colours, mask.float())] == [0.0, 0.0]


def test_reconstruction_loss_gradient_and_shapes():
    generator = torch.Generator().manual_seed(0)
    rendered, rgb, mask = (
        torch.rand(2, c, 3, 4, dtype=torch.float64, generator=generator, requires_grad=c == 4) for c in (4, 3, 1)
    )
    assert torch.autograd.gradcheck(lambda x: reconstruction_loss(x, rgb, mask), (rendered,))
    with pytest.raises(ValueError, match="mask"):
        reconstruction_loss(rendered, rgb, mask[..., :2])


def cloud(n=40):
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_neighbours_are_the_nearest_others_even_among_twins():
    points = cloud()
    points[1] = points[0]  # coincident
    points[2] = points[0]
    near = nearest_neighbours(points, 4)
    assert near.shape == (40, 4)
    distance = torch.cdist(points, points)
    distance.fill_diagonal_(math.inf)
    expected = distance.topk(4, largest=False).values
    torch.testing.assert_close(distance.gather(1, near), expected)
    assert nearest_neighbours(points[:3], 8).shape == (3, 2)


def test_arap_is_zero_for_rigid_motion_and_known_for_scaling():
    points, sample = cloud(), torch.arange(0, 40, 3)
    near = nearest_neighbours(points)
    turn = quat_to_matrix(torch.nn.functional.normalize(torch.tensor([[0.3, 0.5, -0.2, 0.7]]).double(), dim=-1))[0]
    rigid = points @ turn.T + torch.tensor([0.3, -1.0, 2.0])
    assert float(arap_loss(points, torch.stack([points, rigid]), near, sample)) < 1e-24
    edges = points[sample, None] - points[near[sample]]
    grown = float(arap_loss(points, (1.5 * rigid)[None], near, sample))
    assert grown == pytest.approx(0.25 * float(edges.square().sum(-1).mean()))


def test_kabsch_never_returns_a_reflection():
    edges = torch.randn(20, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    rotations = kabsch(edges, edges * torch.tensor([1.0, 1.0, -1.0]))
    torch.testing.assert_close(torch.det(rotations), torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).double().expand(20, 3, 3))


@pytest.mark.parametrize("case", ["near", "any", "mirrored", "flat", "line", "almost a line", "nothing", "still"])
def test_best_rotation_is_as_good_as_by_singular_values(case):
    generator = torch.Generator().manual_seed(7)
    source, noise = (0.01 * torch.randn(2, 60, 3, 3, generator=generator) for _ in range(2))
    if case in ("flat", "line", "almost a line"):
        source[..., {"flat": 2}.get(case, slice(1, 3))] = 0
    target = {
        "near": source + 0.1 * noise,
        "any": noise,
        "mirrored": -source,
        "nothing": 0 * source,
        "almost a line": source + 1e-3 * noise,
    }.get(case, source)
    fast, slow = kabsch(source, target), kabsch_by_svd((source.mT @ target).double()).float()
    torch.testing.assert_close(fast @ fast.mT, torch.eye(3).expand(2, 60, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.det(fast), torch.ones(2, 60), atol=1e-5, rtol=0)
    errors = [(target - (r[..., None, :, :] @ source[..., None])[..., 0]).square().sum((-1, -2)) for r in (fast, slow)]
    torch.testing.assert_close(errors[0], errors[1], atol=1e-9, rtol=1e-4)


def test_arap_gradient_points_back_to_the_rigid_shape():
    points = cloud()
    near, sample = nearest_neighbours(points), torch.arange(40)
    moved = (points + 0.1 * torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(1))).requires_grad_()
    loss = arap_loss(points, moved, near, sample)
    (gradient,) = torch.autograd.grad(loss, moved)
    assert float(arap_loss(points, moved - 0.5 * gradient, near, sample)) < float(loss)
    # The envelope theorem: at the best rotation the detached gradient is the whole one.
    step = 1e-6 * torch.randn(moved.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    change = float(arap_loss(points, moved + step, near, sample) - arap_loss(points, moved - step, near, sample))
    assert change == pytest.approx(2 * float((gradient * step).sum()), rel=1e-4)
