"""The mesh follows its Gaussians: laws, slow twins, and the truth of a mesh whose motion is known."""

import numpy as np
import pytest
import torch
from small_objects import bend, tube, tube_mesh

from t4d.errors import InputError
from t4d.export.follow import MeshFollower, graph_laplacian, influences, rigid
from t4d.export.weld import weld_mesh
from t4d.geometry.mesh import Mesh
from t4d.geometry.rotations import quat_to_matrix
from t4d.splat.binding import MeshBinding, bind_gaussians
from t4d.splat.gaussians import Gaussians


def bound(mesh: Mesh, count: int = 600) -> tuple[np.ndarray, Gaussians, MeshBinding]:
    vertices = mesh.vertices.astype(np.float64)
    return vertices, *bind_gaussians(mesh, vertices, count, None, 0)


def posed(gaussians: Gaussians, binding: MeshBinding, vertices: np.ndarray) -> Gaussians:
    means, quats = binding.pose(vertices)
    return gaussians.replace(means=means, quats=quats)


def merged(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts)])
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), faces)


def moved_by(mesh: Mesh, y: float) -> Mesh:
    return Mesh(mesh.vertices + np.array([0, y, 0], np.float32), mesh.faces)


def test_a_rigid_motion_is_exact():
    """Rotation and translation of all Gaussians move the mesh by the same, also where it is coarse or hardly bound."""
    mesh = merged(tube_mesh(), moved_by(tube_mesh(), 1.0))
    turn = quat_to_matrix(torch.tensor([0.3, -0.6, 0.2, 0.7], dtype=torch.float64)).numpy()
    for count in (5, 60, 900):
        vertices, gaussians, binding = bound(mesh, count)
        moved = vertices @ turn.T + np.array([0.2, -0.1, 0.4])
        got = MeshFollower(mesh, vertices, binding, gaussians).vertices(posed(gaussians, binding, moved))
        assert np.abs(got - moved).max() < 1e-5 * np.linalg.norm(np.ptp(vertices, axis=0))


def test_frame_0_stays():
    mesh = tube_mesh()
    vertices, gaussians, binding = bound(mesh)
    got = MeshFollower(mesh, vertices, binding, gaussians).vertices(gaussians)
    assert np.abs(got - vertices).max() < 1e-6


@pytest.mark.parametrize(("rings", "sides", "mean", "worst"), [(9, 12, 0.01, 0.1), (60, 60, 0.03, 0.4)])
def test_bound_truth(rings, sides, mean, worst):
    """A bent tube, with fewer and with more vertices than Gaussians: error in percent of the diagonal."""
    mesh = tube_mesh(rings=rings, sides=sides)
    vertices, gaussians, binding = bound(mesh, 1500)
    follower = MeshFollower(mesh, vertices, binding, gaussians)
    diagonal = np.linalg.norm(np.ptp(vertices, axis=0))
    for amount in (0.7, 1.5):
        truth = bend(vertices, amount)
        error = 100 * np.linalg.norm(follower.vertices(posed(gaussians, binding, truth)) - truth, axis=1) / diagonal
        assert error.mean() < mean and error.max() < worst, (error.mean(), error.max())
        assert np.linalg.norm(truth - vertices, axis=1).max() > 0.1 * diagonal


def test_seams_stay_closed():
    """Vertices that coincide at rest coincide always, to the bit, whatever the Gaussians do."""
    mesh = tube_mesh(rings=7, sides=10)
    vertices, gaussians, binding = bound(mesh, 200)
    noise = torch.randn(gaussians.means.shape, generator=torch.Generator().manual_seed(1))
    got = MeshFollower(mesh, vertices, binding, gaussians).vertices(gaussians.replace(means=gaussians.means + noise))
    columns = got.reshape(7, 11, 3)
    assert np.array_equal(columns[:, 0], columns[:, -1])
    assert not np.array_equal(columns[:, 0], columns[:, 1])


def test_a_piece_follows_only_its_own_gaussians():
    """Two shells almost touching: one turns, the other stays still."""
    inner = tube_mesh(radius=0.15)
    mesh = merged(inner, tube_mesh(radius=0.154))
    vertices, gaussians, binding = bound(mesh, 700)
    half = len(inner.vertices)
    moved = vertices.copy()
    moved[half:] = bend(vertices[half:], 1.2)
    got = MeshFollower(mesh, vertices, binding, gaussians).vertices(posed(gaussians, binding, moved))
    assert np.abs(got[:half] - vertices[:half]).max() < 1e-6
    assert np.abs(got[half:] - moved[half:]).max() < 2e-3


def test_a_piece_without_gaussians_goes_with_its_neighbours():
    """A splinter too small for a Gaussian is carried rigidly by the nearest ones."""
    splinter = np.array([[0.1, 0, 0.16], [0.101, 0, 0.16], [0.1, 0.001, 0.16]], np.float32)
    mesh = merged(tube_mesh(), Mesh(splinter, np.array([[0, 1, 2]])))
    vertices, gaussians, binding = bound(mesh, 300)
    assert binding.faces.max() < len(mesh.faces) - 1  # else the test says nothing
    truth = bend(vertices, 0.8)
    got = MeshFollower(mesh, vertices, binding, gaussians).vertices(posed(gaussians, binding, truth))
    assert np.abs(got - truth)[-3:].max() < 2e-3


def test_blend_equals_a_readable_twin():
    mesh = tube_mesh(rings=4, sides=5)
    vertices, gaussians, binding = bound(mesh, 40)
    follower = MeshFollower(mesh, vertices, binding, gaussians, neighbours=5)
    state = posed(gaussians, binding, bend(vertices, 1.0))
    means, turns = rigid(state)
    rest_means, rest_turns = rigid(gaussians)
    for row, point in enumerate(follower.points):
        distance = np.linalg.norm(rest_means - point, axis=1)
        order = np.argsort(distance)
        weights = (1 - distance[order[:5]] / distance[order[5]]) ** 2
        expected = np.zeros(3)
        for weight, i in zip(weights / weights.sum(), order):
            local = turns[i] @ np.linalg.inv(rest_turns[i])
            expected += weight * (local @ (point - rest_means[i]) + means[i])
        assert np.abs(follower.blend(means, turns)[row] - expected).max() < 1e-9


def test_correction_equals_a_dense_solve():
    """min |B (v + d) - m|^2 + s d^T L d, by its normal equations."""
    mesh = tube_mesh(rings=5, sides=6)
    vertices, gaussians, binding = bound(mesh, 50)
    follower = MeshFollower(mesh, vertices, binding, gaussians, stiffness=0.2)
    state = posed(gaussians, binding, bend(vertices, 1.0))
    means, turns = rigid(state)
    start = follower.blend(means, turns)
    weld = follower.weld
    b = np.zeros((50, len(start)))
    for row in range(50):
        for corner, share in zip(binding.corners[row], binding.barycentrics[row].astype(np.float64)):
            b[row, weld.group[corner]] += share / binding.barycentrics[row].astype(np.float64).sum()
    laplacian = np.zeros((len(start), len(start)))
    length = [np.linalg.norm(follower.points[i] - follower.points[j]) for i, j in weld.edges]
    for (i, j), weight in zip(weld.edges, 1 / np.array(length) / np.mean(1 / np.array(length))):
        laplacian[[i, j], [i, j]] += weight
        laplacian[[i, j], [j, i]] -= weight
    assert np.allclose(graph_laplacian(weld, follower.points).toarray(), laplacian)
    d = np.linalg.solve(b.T @ b + 0.2 * laplacian, b.T @ (means - b @ start))
    assert np.abs(d).max() > 1e-3
    assert np.abs(follower.vertices(state) - (start + d)[weld.group]).max() < 1e-6


def test_influences_have_no_jumps():
    """Along a line the blended motion is continuous although the nearest Gaussians change."""
    rng = np.random.default_rng(0)
    centres, shifts = rng.uniform(-1, 1, (200, 3)), rng.normal(size=(200, 3))
    line = np.linspace([-0.8, 0.1, 0.2], [0.8, -0.2, 0.1], 4001)
    zeros = np.zeros(len(line), np.int64)
    found = influences(line, zeros, centres, np.zeros(200, np.int64), 8)
    assert np.allclose(found.weight.sum(1), 1) and (found.weight >= 0).all()
    moved = (found.weight[..., None] * shifts[found.index]).sum(1)
    assert len(np.unique(found.index[:, 0])) > 5
    assert np.abs(np.diff(moved, axis=0)).max() < 0.02 * np.ptp(moved, axis=0).max()


def test_weld_counts_pieces_and_edges():
    mesh = merged(tube_mesh(rings=3, sides=4), moved_by(tube_mesh(rings=3, sides=4), 5.0))
    weld = weld_mesh(mesh.faces, mesh.vertices)
    assert len(weld.first) == 2 * 3 * 4  # the seam column is one
    assert len(np.unique(weld.component)) == 2
    assert len(weld.edges) == 2 * (3 * 4 + 2 * 4 + 2 * 4)  # around, along, diagonal


def test_refusals():
    mesh = tube_mesh()
    vertices, gaussians, binding = bound(mesh, 100)
    with pytest.raises(InputError, match="100 Gaussians and the moving asset 99"):
        MeshFollower(mesh, vertices, binding, gaussians.map(lambda tensor: tensor[:99]))
    other = tube(rings=5)
    with pytest.raises(InputError, match="does not belong"):
        MeshFollower(Mesh(other[0], other[1]), other[0].astype(float), binding, gaussians)
    broken = gaussians.means.clone()
    broken[3] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        MeshFollower(mesh, vertices, binding, gaussians).vertices(gaussians.replace(means=broken))


def test_binding_is_stored(tmp_path):
    _, _, binding = bound(tube_mesh(), 80)
    binding.save(tmp_path / "binding.safetensors")
    read = MeshBinding.load(tmp_path / "binding.safetensors")
    for name, value in vars(binding).items():
        assert np.array_equal(getattr(read, name), value) and getattr(read, name).dtype == value.dtype
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    for name in ("broken.safetensors", "absent.safetensors"):
        with pytest.raises(InputError, match=name):
            MeshBinding.load(tmp_path / name)
