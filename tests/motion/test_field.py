"""The motion field's heads, planes, table of diffusion features and global transform, against readable twins."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from t4d.geometry.rotations import matrix_to_quat, quat_to_matrix
from t4d.motion.asset import MotionAsset
from t4d.motion.feature_table import FeatureTable
from t4d.motion.field import MotionField, quat_of_euler
from t4d.motion.heads import ROWS, Head, decode
from t4d.motion.plane_reader import LinearRead, stretch
from t4d.splat.gaussians import Gaussians

N, T = 9, 4


def points(n=N):
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


def table(width=3, n=N, frames=T):
    generator = torch.Generator().manual_seed(1)
    return FeatureTable(
        torch.randn(n, frames, width, generator=generator), torch.rand(n, frames, generator=generator) > 0.3
    )


def stirred(module, scale=1.0):
    """All parameters random, so that nothing is zero by its start."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, scale, generator=generator)
    return module


def asset_of(field, n=N):
    generator = torch.Generator().manual_seed(3)
    gaussians = Gaussians(
        points(n), torch.randn(n, 4, generator=generator), torch.zeros(n, 3), torch.zeros(n), torch.zeros(n, 1, 3)
    )
    return MotionAsset(gaussians, field, T)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("extra", [0, 4])
def test_decoding_at_once_equals_one_head_after_the_other(bias, extra):
    count = ROWS // 3 + 5  # more than one part of Gaussians
    generator = torch.Generator().manual_seed(0)
    heads = [stirred(Head(5, extra, 6, outputs, bias, generator)).double() for outputs in (3, 4, 3)]
    features = torch.randn(3, count, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    rows = torch.randn(3, count, extra, dtype=torch.float64, generator=generator) if extra else None
    parameters = [features, *(p for head in heads for p in head.parameters())]
    fast, slow = decode(heads, features, rows), [head(features, rows) for head in heads]
    cotangents = [torch.randn(x.shape, dtype=torch.float64, generator=generator) for x in slow]
    for a, b in zip(fast, slow):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad(x, parameters, cotangents) for x in (fast, slow)]
    for a, b in zip(*gradients):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_decoding_gradients_by_finite_differences():
    heads = [stirred(Head(2, 2, 3, outputs, True, torch.Generator())).double() for outputs in (1, 2)]
    rows = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    features = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weights = [parameter for head in heads for parameter in head.parameters()]

    def run(x, *_):
        return torch.cat(decode(heads, x, rows), dim=-1)

    assert torch.autograd.gradcheck(run, (features, *weights))


def test_reading_a_grid_is_the_corner_weighted_mean():
    x, y = torch.tensor([-1.0, 0.25, 1.0, 3.0]).double(), torch.tensor([0.0, -0.5, 1.0, -9.0]).double()
    grid = torch.randn(5, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    read = LinearRead([y, x], [5, 4])(grid.flatten(0, 1))
    by_hand = []
    for u, v in zip(x.clamp(-1, 1), y.clamp(-1, 1)):
        column, row = float((u + 1) / 2 * 3), float((v + 1) / 2 * 4)
        total = torch.zeros(2, dtype=torch.float64)
        for i in range(5):
            for j in range(4):
                total = total + max(0.0, 1 - abs(i - row)) * max(0.0, 1 - abs(j - column)) * grid[i, j]
        by_hand.append(total)
    torch.testing.assert_close(read, torch.stack(by_hand), atol=1e-12, rtol=0)
    cotangent = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    a, b = (torch.autograd.grad(value, grid, cotangent)[0] for value in (read, torch.stack(by_hand)))
    torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_enlarging_is_torchs_own():
    small = torch.randn(1, 2, 7, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(small, (25, 50), mode="bilinear", align_corners=True)
    torch.testing.assert_close(stretch(7, 25) @ small @ stretch(13, 50).T, large)


def test_moved_centres_are_read_anew():
    field = MotionField(points(), [(6, 3)], features=2, levels=1)
    first = field.each_plane()[0](points(), torch.zeros(1))
    moved = points()
    assert torch.equal(field.each_plane()[0](moved, torch.zeros(1)), first)
    moved += 0.1  # the same tensor, other numbers
    assert not torch.equal(field.each_plane()[0](moved, torch.zeros(1)), first)


def test_features_of_several_planes_stand_side_by_side():
    field = stirred(MotionField(points(), [(6, 3), (9, 5)], features=2, levels=2))
    times = torch.tensor([-0.4, 0.7])
    features, rows = field.features(times)
    assert features.shape == (2, N, 4) and rows is None
    for plane, part in zip(field.each_plane(), features.split(2, dim=-1)):
        assert torch.equal(part, plane(points(), times))


def test_diffusion_features_start_without_effect_and_then_count():
    without, with_table = (MotionField(points(), [(6, 3)], 2, 1, table=rows) for rows in (None, table()))
    for field in (without, with_table):
        with torch.no_grad():
            for head in field.each_head().values():
                head.last.weight.fill_(0.3)
    times = torch.tensor([1 / 3, 1.0])
    for a, b in zip(without(times)[:3], with_table(times)[:3]):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        with_table.heads.get_parameter("means.extra").fill_(0.5)
    change = [(a - b).detach().abs() for a, b in zip(with_table(times)[:3], without(times)[:3])]
    assert float(change[0].max()) > 1e-3 and float(change[1].max()) < 1e-6, "only that head reads them"


def test_the_table_is_read_at_the_frame_that_tau_means():
    rows = table(frames=16)
    field = MotionField(points(), [(6, 3)], 2, 1, table=rows)
    frames = torch.arange(1.0, 16)
    _, read = field.features(frames / 15 * 2 - 1)  # tau rounds; frames must be hit all the same, the last not passed
    assert read is not None and torch.equal(read, rows.at(frames))
    between = field.features(torch.tensor([3.25 / 15 * 2 - 1]))[1]
    assert between is not None
    torch.testing.assert_close(between, rows.at(torch.tensor([3.25])), atol=1e-5, rtol=0)


def test_euler_angles_turn_about_x_then_y_then_z():
    angles = torch.tensor([[0.4, -1.1, 2.9], [3.0, 2.0, -3.0]], dtype=torch.float64)
    for angle, quat in zip(angles, quat_of_euler(angles)):
        (cr, cp, cy), (sr, sp, sy) = angle.cos(), angle.sin()
        o, i = torch.zeros_like(cr), torch.ones_like(cr)
        rx = torch.stack([i, o, o, o, cr, -sr, o, sr, cr]).view(3, 3)
        ry = torch.stack([cp, o, sp, o, i, o, -sp, o, cp]).view(3, 3)
        rz = torch.stack([cy, -sy, o, sy, cy, o, o, o, i]).view(3, 3)
        torch.testing.assert_close(quat_to_matrix(quat), rz @ ry @ rx)
        assert float(quat[0]) >= 0


def test_global_transform_starts_as_none_and_moves_the_whole_object():
    field = MotionField(points(), [(6, 3)], features=2, levels=1, global_transform=True)
    asset = asset_of(field)
    still = asset.at(2)
    torch.testing.assert_close(still.means, asset.gaussians.means, atol=1e-6, rtol=0)
    torch.testing.assert_close(quat_to_matrix(still.quats), quat_to_matrix(asset.gaussians.quats), atol=1e-5, rtol=0)
    angle, shift = torch.tensor([0.3, -0.2, 0.5]), torch.tensor([0.1, 0.2, -0.3])
    with torch.no_grad():
        field.whole.get_parameter("euler.last.bias").copy_(torch.logit((angle + math.pi) / (2 * math.pi)))
        field.whole.get_parameter("shift.last.bias").copy_(torch.logit((shift + 1) / 2))
    rotation = quat_to_matrix(quat_of_euler(angle))
    moved = asset.at(2)
    torch.testing.assert_close(moved.means, asset.gaussians.means @ rotation.T + shift, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        quat_to_matrix(moved.quats), rotation @ quat_to_matrix(asset.gaussians.quats), atol=1e-5, rtol=0
    )
    # Eq. 9 with a deformation on top: q' = normalise(quat(R_g R(q)) + dq), up to the sign of the quaternion.
    with torch.no_grad():
        field.heads.get_parameter("quats.last.bias").copy_(torch.tensor([0.1, 0.05, -0.2, 0.3]))
    from_matrix = matrix_to_quat(rotation @ quat_to_matrix(asset.gaussians.quats))
    own = normalize(asset.gaussians.quats, dim=-1)
    turned = asset.at(2).quats
    delta = torch.tensor([0.1, 0.05, -0.2, 0.3])
    candidates = torch.stack([normalize(sign * from_matrix + delta, dim=-1) for sign in (1, -1)])
    assert float((candidates - turned).abs().sum(-1).min(dim=0).values.max()) < 1e-4
    assert bool(torch.isfinite(asset.at(0.5).quats).all()) and own.shape == turned.shape
