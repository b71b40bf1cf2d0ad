"""Projection of feature maps to Gaussians: readable twin, planted features, laws, visibility."""

import math

import pytest
import torch

from t4d.errors import InputError
from t4d.geometry.camera import Camera, rig
from t4d.motion.projection import Projector

V, T, C, HEIGHT, WIDTH = 2, 3, 5, 4, 6  # cells of a map
W, H, N = 48, 32, 40  # pixels of a picture, Gaussians


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def cameras():
    return rig(azimuths=(0, 110), width=W, height=H)


@pytest.fixture
def scene(cameras):
    """Maps, cameras, centres that move, and who sees them."""
    means = 0.5 * draw(N, 3, seed=1)
    moved = means + 0.1 * draw(T, N, 3, seed=2)
    visible = torch.rand(V, T, N, generator=torch.Generator().manual_seed(3)) > 0.4
    return draw(V, T, C, HEIGHT, WIDTH) + 2, cameras, means, moved, visible


def readable_sample(feature_map, camera, point):
    """Bilinear reading of one map [C, h, w] where one point projects; None outside the picture."""
    w2c, K = camera.world_to_camera, camera.K
    p = [sum(float(w2c[i, k]) * float(point[k]) for k in range(3)) + float(w2c[i, 3]) for i in range(3)]
    x = float(K[0, 0]) * p[0] / p[2] + float(K[0, 2])
    y = float(K[1, 1]) * p[1] / p[2] + float(K[1, 2])
    if p[2] <= 0 or not (0 <= x <= camera.width and 0 <= y <= camera.height):
        return None
    side = max(camera.width, camera.height)
    _, rows, columns = feature_map.shape
    # cell coordinates in the square about the picture's centre; centres of cells at .5
    u = (x + (side - camera.width) / 2) / side * columns - 0.5
    v = (y + (side - camera.height) / 2) / side * rows - 0.5
    total = torch.zeros(len(feature_map), dtype=torch.float64)
    for i in (math.floor(v), math.floor(v) + 1):
        for j in (math.floor(u), math.floor(u) + 1):
            weight = (1 - abs(v - i)) * (1 - abs(u - j))
            cell = feature_map[:, min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)]
            total += weight * cell.double()
    return total


def readable_table(maps, cameras, means, visible, width, neighbours=0):
    """Gaussian by Gaussian: sample, centre, rotate, whiten, average; then neighbours stand in for the unseen."""
    samples = {}
    for view, camera in enumerate(cameras):
        for frame in range(T):
            for n in range(means.shape[-2]):
                point = means[frame, n] if means.ndim == 3 else means[n]
                shown = visible[view, frame, n] if visible.ndim == 3 else visible[view, n]
                sample = readable_sample(maps[view, frame], camera, point)
                if shown and sample is not None:
                    samples[view, frame, n] = sample
    stacked = torch.stack(list(samples.values()))
    mean = stacked.mean(0)
    _, singular, axes = torch.linalg.svd(stacked - mean, full_matrices=False)
    deviation = singular / len(stacked) ** 0.5
    values, seen = torch.zeros(means.shape[-2], T, width), torch.zeros(means.shape[-2], T, dtype=torch.bool)
    for n in range(means.shape[-2]):
        for frame in range(T):
            rows = [samples[view, frame, n] for view in range(len(cameras)) if (view, frame, n) in samples]
            seen[n, frame] = len(rows) > 0
            for k in range(min(width, maps.shape[2])):
                axis = axes[k] * axes[k][axes[k].abs().argmax()].sign()
                for row in rows:
                    values[n, frame, k] += float((row - mean) @ axis) / float(deviation[k]) / len(rows)
    filled = values.clone()
    for frame in range(T):
        place = means[frame] if means.ndim == 3 else means
        for n in range(means.shape[-2]):
            if not seen[n, frame] and neighbours:
                near = sorted((float((place[n] - place[m]).norm()), m) for m in range(len(place)) if seen[m, frame])
                near = near[:neighbours]
                total = sum(1 / distance for distance, _ in near)
                filled[n, frame] = sum(values[m, frame] / distance / total for distance, m in near)
    return filled, seen


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize(("width", "neighbours"), [(3, 0), (7, 0), (4, 3)])
def test_table_equals_the_readable_twin(scene, moving, width, neighbours):
    maps, cameras, means, moved, visible = scene
    means, visible = (moved, visible) if moving else (means, visible[:, 0])
    table = Projector(maps.half(), cameras, width, neighbours).table(means, visible)
    values, seen = readable_table(maps.half(), cameras, means, visible, width, neighbours)
    assert torch.equal(table.visible, seen) and 0 < seen.float().mean() < 1
    torch.testing.assert_close(table.values, values, atol=4e-3, rtol=2e-3)


def test_static_centres_with_changing_visibility(scene):
    maps, cameras, means, _, visible = scene
    table = Projector(maps, cameras, 4).table(means, visible)
    repeated = Projector(maps, cameras, 4).table(means.expand(T, N, 3), visible)
    torch.testing.assert_close(table.values, repeated.values, atol=2e-3, rtol=2e-3)
    assert torch.equal(table.visible, repeated.visible)


def test_visible_samples_are_whitened(scene):
    maps, cameras, means, _, visible = scene
    # With one view the rows are the samples themselves.
    projector = Projector(maps[:1], cameras[:1], C)
    table = projector.table(means, visible[:1])
    rows = table.values[table.visible].double()
    torch.testing.assert_close(rows.mean(0), torch.zeros(C).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(rows.T @ rows / len(rows), torch.eye(C).double(), atol=2e-3, rtol=0)
    assert projector.explained == pytest.approx(1)
    narrow = Projector(maps[:1], cameras[:1], 2)
    torch.testing.assert_close(narrow.table(means, visible[:1]).values, table.values[..., :2])
    assert narrow.explained is not None and 2 / C < narrow.explained < 1


def test_order_of_views_does_not_matter(scene):
    maps, cameras, means, _, visible = scene
    one = Projector(maps, cameras, 4).table(means, visible)
    other = Projector(maps.flip(0), cameras[::-1], 4).table(means, visible.flip(0))
    torch.testing.assert_close(one.values, other.values, atol=2e-3, rtol=2e-3)
    assert torch.equal(one.visible, other.visible)


def test_views_that_see_nothing_contribute_nothing(scene):
    maps, cameras, means, _, visible = scene
    visible = visible.clone()
    visible[1] = False
    alone = Projector(maps[:1], cameras[:1], 4).table(means, visible[:1])
    strange = maps.clone()
    strange[1] = 1e4 * draw(T, C, HEIGHT, WIDTH, seed=9)
    both = Projector(strange, cameras, 4).table(means, visible)
    torch.testing.assert_close(both.values, alone.values, atol=2e-3, rtol=2e-3)
    # ... and what a view shows of one Gaussian does not reach another, once the components are found
    projector = Projector(maps, cameras, 4)
    before = projector.table(means, visible)
    visible[0, :, 0] = False
    after = projector.table(means, visible)
    kept = before.visible[1:]
    assert torch.equal(before.values[1:][kept], after.values[1:][kept])
    assert not after.visible[0].any()


def test_unseen_gaussians_borrow_from_seen_neighbours(scene):
    maps, cameras, means, _, visible = scene
    twins = torch.cat([means, means + 1e-6])  # every Gaussian has an unseen one beside it
    shown = torch.cat([visible[:, 0], torch.zeros(V, N, dtype=torch.bool)], 1)
    table = Projector(maps, cameras, 4).table(twins, shown)
    own, other = table.values[:N], table.values[N:]
    seen = table.visible[:N, 0]
    assert not table.visible[N:].any() and 0 < seen.float().mean() < 1
    torch.testing.assert_close(own[seen], other[seen], atol=2e-3, rtol=2e-3)
    # a mean of seen ones never leaves their range
    low, high = own[seen].amin(0), own[seen].amax(0)
    assert bool((table.values >= low - 1e-3).all() and (table.values <= high + 1e-3).all())
    assert not Projector(maps, cameras, 4, neighbours=0).table(twins, shown).values[N:].any()


def test_few_samples_and_flat_maps_stay_finite(scene):
    maps, cameras, means, _, visible = scene
    few = torch.zeros_like(visible)
    few[0, 0, :2] = few[1, 2, 2] = True  # three samples have two components
    table = Projector(maps, cameras, 16).table(means, few)
    assert table.values[..., :2].any(0).any(0).all() and not table.values[..., 2:].any()
    assert not Projector(maps, cameras, 16, 0).table(means, few).values[~table.visible].any()
    assert float(table.visible.float().sum()) == 3
    for values, shown in ((maps, torch.zeros_like(visible)), (torch.full_like(maps, 0.37), visible)):
        projector = Projector(values, cameras, 16)
        table = projector.table(means, shown)
        assert not table.values.any() and projector.explained == 0
        assert bool(table.visible.any()) == bool(shown.any())


def test_constant_channels_are_not_blown_up(scene):
    maps, cameras, means, _, visible = scene
    # a channel that only float16 rounding moves is noise, not a component
    dull = 100 + 1e-6 * draw(V, T, 1, HEIGHT, WIDTH, seed=5)
    table = Projector(torch.cat([maps, dull], 2), cameras, C + 1).table(means, visible)
    assert not table.values[..., C].any() and table.values[..., C - 1].any()


def test_centres_outside_the_picture_or_behind_are_not_seen(scene):
    maps, cameras, means, _, _ = scene
    eye = cameras[0].eye.float()
    means = means.clone()
    means[0], means[1], means[2] = 3 * eye, eye, torch.tensor([0.0, 30.0, 0.0])
    table = Projector(maps[:1], cameras[:1], 4).table(means, torch.ones(1, N, dtype=torch.bool))
    assert not table.visible[:3].any() and table.visible[3:].any()


def test_components_are_kept_for_later_projections(scene):
    maps, cameras, means, moved, visible = scene
    projector = Projector(maps, cameras, 4)
    first = projector.table(means, visible)
    explained = projector.explained
    later = projector.table(moved, visible)
    assert not torch.equal(first.values, later.values) and projector.explained == explained
    again = projector.table(means, visible)
    assert torch.equal(first.values, again.values)


def sheet_camera(shift, width=W, height=H):
    """Looks along -z from z = 3 at a sheet parallel to its picture, so that projection is affine."""
    w2c = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    w2c[:3, 3] = torch.tensor([-shift, 0.0, 3.0])
    K = torch.tensor([[40.0, 0, width / 2], [0, 40.0, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Camera(w2c, K, width, height)


def test_planted_codes_come_back_at_all_times_when_the_object_moves_as_projected():
    """A sheet turns, slides and comes nearer; maps paint every point of it with its own place on the sheet."""
    cameras = [sheet_camera(0.1), sheet_camera(-0.2)]
    side, cells, frames = max(W, H), 12, 4
    g = torch.Generator().manual_seed(0)
    sheet = 0.5 * torch.rand(N, 2, generator=g) - 0.25
    means, maps = torch.zeros(frames, N, 3), torch.zeros(2, frames, 2, cells, cells)
    centres = (torch.arange(cells) + 0.5) * side / cells
    for frame in range(frames):
        angle, shift, z = 0.4 * frame, torch.tensor([0.05, -0.03]) * frame, 0.2 * frame
        turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        means[frame] = torch.cat([sheet @ turn.T + shift, torch.full((N, 1), z)], 1)
        for view, camera in enumerate(cameras):
            # pixel -> sheet, by hand: undo margins, focal length, the camera's place and the motion
            x = (centres - (side - W) / 2 - W / 2) / 40 * (3 - z) + (0.1, -0.2)[view]
            y = -(centres - (side - H) / 2 - H / 2) / 40 * (3 - z)
            world = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1) - shift
            maps[view, frame] = (world @ turn).permute(2, 0, 1)
            assert camera.project(means[frame])[0].ge(0).all()
    visible = torch.rand(2, frames, N, generator=g) > 0.4
    table = Projector(maps.half(), cameras, 2).table(means, visible)
    rows, codes = table.values[table.visible], sheet[:, None].expand(N, frames, 2)[table.visible]
    # whitening is affine: one affine map takes every code to its row, whatever the time and the view
    design = torch.cat([codes, torch.ones(len(codes), 1)], 1)
    solution = torch.linalg.lstsq(design, rows).solution
    assert 0.7 < table.visible.float().mean() < 1
    assert float((design @ solution - rows).abs().max()) < 0.01
    assert float(torch.linalg.det(solution[:2]).abs()) > 1
    # the same maps read at the first frame's places do not follow the sheet
    still = Projector(maps.half(), cameras, 2).table(means[0], visible[:, 0])
    rows = still.values[still.visible[:, 0]]
    assert float((rows[:, 0] - rows[:, -1]).abs().mean()) > 0.3


def test_bad_inputs_are_refused_in_a_sentence(scene):
    maps, cameras, means, moved, visible = scene
    with pytest.raises(InputError, match="one camera a view"):
        Projector(maps, cameras[:1])
    with pytest.raises(InputError, match="one camera a view"):
        Projector(maps[0], cameras)
    broken = maps.clone()
    broken[1, 2, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        Projector(broken, cameras)
    projector = Projector(maps, cameras, 4)
    with pytest.raises(InputError, match="maps of 3 frames"):
        projector.table(moved[:2], visible)
    with pytest.raises(InputError, match="need \\[views, N\\]"):
        projector.table(means, visible[..., 1:])
    with pytest.raises(InputError, match="check the Gaussians"):
        projector.table(means.index_fill(0, torch.tensor([3]), float("inf")), visible)
