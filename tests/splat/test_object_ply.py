"""3DGS .ply files as objects: outside writer, axes, floaters, damage, merging."""

from pathlib import Path

import gsply
import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from t4d.errors import InputError
from t4d.export.ply import UpAxis, write_ply
from t4d.geometry.camera import Camera, rig
from t4d.geometry.object3d import load_object
from t4d.geometry.rotations import quat_to_matrix
from t4d.splat.gaussians import Gaussians
from t4d.splat.merge import merge_gaussians
from t4d.splat.object_ply import is_gaussian_ply, load_gaussian_object
from t4d.splat.render import render_gaussians
from t4d.splat.rotate import rotate_gaussians, sh_rotation

TURN = quat_to_matrix(torch.tensor([0.4, -0.3, 0.7, 0.2], dtype=torch.float64))


def ball(n: int = 300, degree: int = 0, seed: int = 0, size: float = 1.0, scale: float = 0.08) -> Gaussians:
    """An ellipsoid shell of flat, coloured Gaussians around (3, -2, 1) times its size."""
    g = torch.Generator().manual_seed(seed)
    unit = normalize(torch.randn(n, 3, generator=g), dim=-1)
    sh = 0.3 * torch.randn(n, (degree + 1) ** 2, 3, generator=g)
    sh[:, 0] = 2 * unit
    return Gaussians(
        size * (unit * torch.tensor([1.0, 0.5, 0.7]) + torch.tensor([3.0, -2.0, 1.0])),
        normalize(torch.randn(n, 4, generator=g), dim=-1),
        (size * scale * torch.tensor([1.0, 0.7, 0.3])).log().expand(n, 3).clone(),
        torch.full((n,), 2.0),
        sh,
    )


def write_with_gsply(path: Path, g: Gaussians, compressed: bool = False) -> None:
    """An outside writer."""
    means, scales, quats, opacities, sh = (
        value.numpy() for value in (g.means, g.log_scales, g.quats, g.opacity_logits, g.sh)
    )
    rest = sh[:, 1:] if sh.shape[1] > 1 else None
    gsply.plywrite(path, means, scales, quats, opacities, sh[:, 0], rest, compressed=compressed)


def turned_camera(camera: Camera, rotation: torch.Tensor) -> Camera:
    """The camera carried along by a rotation of the world about the origin."""
    pose = camera.world_to_camera.clone()
    pose[:3, :3] = pose[:3, :3] @ rotation.T
    return Camera(pose, camera.K, camera.width, camera.height)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_turning_gaussians_and_cameras_together_leaves_the_picture(degree: int) -> None:
    gaussians = ball(degree=degree)
    gaussians = gaussians.replace(means=0.6 * (gaussians.means - gaussians.means.mean(0)))
    cameras = rig(width=44, height=32)
    before = render_gaussians(gaussians, cameras)
    after = render_gaussians(rotate_gaussians(gaussians, TURN), [turned_camera(camera, TURN) for camera in cameras])
    assert (before - after).abs().max() < 2e-4
    assert before[:, 3].max() > 0.8
    if degree:  # the colours had to turn too
        means_only = rotate_gaussians(gaussians, TURN).replace(sh=gaussians.sh)
        wrong = render_gaussians(means_only, [turned_camera(camera, TURN) for camera in cameras])
        assert (before - wrong).abs().max() > 0.05


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonic_rotation_is_a_group_of_orthogonal_blocks(degree: int) -> None:
    a, b = TURN, quat_to_matrix(torch.tensor([0.9, 0.1, -0.2, 0.5], dtype=torch.float64))
    first, second, both = sh_rotation(degree, a), sh_rotation(degree, b), sh_rotation(degree, b @ a)
    assert torch.allclose(second @ first, both, atol=1e-12)
    assert torch.allclose(first @ first.T, torch.eye(len(first), dtype=torch.float64), atol=1e-12)
    level = torch.tensor([0, *[1] * 3, *[2] * 5, *[3] * 7])[: len(first)]
    assert first[level[:, None] != level].abs().max() < 1e-12  # degrees do not mix
    # Degree 1 in this basis is (-y, z, -x): the block is the rotation itself, so permuted and signed.
    basis = torch.tensor([[0, -1, 0], [0, 0, 1], [-1, 0, 0]], dtype=torch.float64)
    assert torch.allclose(first[1:4, 1:4], basis @ a @ basis.T, atol=1e-12)


@pytest.mark.parametrize(("degree", "compressed"), [(0, False), (1, False), (2, False), (3, False), (2, True)])
def test_file_of_another_writer(tmp_path: Path, degree: int, compressed: bool) -> None:
    """gsply writes, we read: the same object up to the normalisation, which is undone here."""
    gaussians = ball(degree=degree, size=40.0)
    path = tmp_path / ("a.compressed.ply" if compressed else "a.ply")
    write_with_gsply(path, gaussians, compressed)
    assert is_gaussian_ply(path)
    read, notes = load_gaussian_object(path, radius=0.6, up="z")
    assert notes == [] and read.sh_degree == degree
    assert read.means.norm(dim=-1).max() == pytest.approx(0.6, abs=1e-5)
    low, high = gaussians.means.amin(0), gaussians.means.amax(0)
    centre = (low + high) / 2
    scale = 0.6 / float((gaussians.means - centre).norm(dim=-1).max())
    if compressed:  # quantised, and stored in another order
        match = torch.cdist(scale * (gaussians.means - centre), read.means).argmin(1)
        read = read.map(lambda value: value[match])
    assert torch.allclose(read.means, scale * (gaussians.means - centre), atol=2e-3 if compressed else 1e-5)
    assert torch.allclose(read.scales, scale * gaussians.scales, rtol=0.05 if compressed else 1e-4)
    assert torch.allclose(read.sh, gaussians.sh, atol=0.05 if compressed else 1e-5)
    aligned = (read.quats * gaussians.quats).sum(-1).abs()
    assert aligned.min() > (0.999 if compressed else 1 - 1e-5)


@pytest.mark.parametrize("up", ["y", "-y", "z"])
def test_up_axis_is_undone(tmp_path: Path, up: UpAxis) -> None:
    gaussians = ball(degree=2)
    straight, _ = load_gaussian_object(write_ply(tmp_path / "z.ply", gaussians), up="z")
    named, notes = load_gaussian_object(write_ply(tmp_path / "a.ply", gaussians, up=up))  # the header says it
    asked, _ = load_gaussian_object(tmp_path / "a.ply", up=up)
    assert notes == []
    for other in (named, asked):
        assert torch.allclose(other.means, straight.means, atol=1e-5)
        assert torch.allclose(other.sh, straight.sh, atol=1e-5)
        assert torch.allclose(quat_to_matrix(other.quats), quat_to_matrix(straight.quats), atol=1e-5)


def test_silent_axis_is_guessed_with_a_note(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply", ball(), up="y")
    path.write_bytes(path.read_bytes().replace(b"comment up y\n", b""))
    read, notes = load_gaussian_object(path)
    assert len(notes) == 1 and "which axis is up" in notes[0]
    assert torch.allclose(read.means, load_gaussian_object(path, up="y")[0].means)
    with pytest.raises(InputError, match="up='x' is not an up axis"):
        load_gaussian_object(path, up="x")


def test_floaters_shells_and_broken_rows_are_left_out(tmp_path: Path) -> None:
    good = ball(400)
    bad = ball(7, seed=1)
    bad.means[0] = torch.tensor([60.0, 0, 0])  # floater
    bad.log_scales[1] = 3.0  # a sky blob
    bad.means[2, 1] = float("nan")
    bad.sh[3, 0, 0] = float("inf")
    bad.quats[4] = 0
    bad.opacity_logits[5] = -9.0  # invisible
    bad.opacity_logits[6] = float("inf")  # simply opaque
    both = Gaussians(**{k: torch.cat([v, bad.state_dict()[k]]) for k, v in good.state_dict().items()})
    path = tmp_path / "a.ply"
    write_with_gsply(path, both)
    read, notes = load_gaussian_object(path, up="z")
    assert len(read) == 401 and all(torch.isfinite(v).all() for v in read.state_dict().values())
    assert notes[0].startswith("3 Gaussians of a.ply hold numbers") and notes[1].startswith(
        "2 Gaussians of a.ply float"
    )
    assert len(notes) == 2
    straight, _ = load_gaussian_object(write_ply(tmp_path / "b.ply", good), up="z")
    assert torch.allclose(read.means[:400], straight.means, atol=0.01)


def test_faint_haze_does_not_shrink_the_object(tmp_path: Path) -> None:
    good, haze = ball(400), ball(100, seed=1)
    haze.means[:] = haze.means.mean(0) + 1.6 * (haze.means - haze.means.mean(0))
    haze.opacity_logits[:] = -4.0  # 0.018
    both = Gaussians(**{k: torch.cat([v, haze.state_dict()[k]]) for k, v in good.state_dict().items()})
    read, notes = load_gaussian_object(write_ply(tmp_path / "a.ply", both), up="z")
    assert len(read) == 500 and notes == []
    alone, _ = load_gaussian_object(write_ply(tmp_path / "b.ply", good), up="z")
    assert torch.allclose(read.means[:400], alone.means, atol=1e-5)


def edited(path: Path, target: Path, *pairs: tuple[bytes, bytes], cut: int = 0) -> Path:
    data = path.read_bytes()
    for old, new in pairs:
        assert old in data
        data = data.replace(old, new)
    target.write_bytes(data[: len(data) - cut])
    return target


def test_unusable_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply", ball(40, degree=1))
    mesh = tmp_path / "mesh.ply"
    mesh.write_text(
        "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
        "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n"
    )
    faint, lump, sky = ball(40), ball(40), ball(40)
    faint.opacity_logits[:] = -9
    lump.means[:] = 1.0
    sky.log_scales[:] = 4.0
    cases = {
        "does not exist": tmp_path / "none.ply",
        "not a 3D Gaussian splatting PLY": mesh,
        "ends before its last Gaussian": edited(path, tmp_path / "1.ply", cut=10),
        "has 99999999 Gaussians": edited(path, tmp_path / "2.ply", (b"vertex 40", b"vertex 99999999")),
        "has 0 Gaussians": edited(path, tmp_path / "3.ply", (b"vertex 40", b"vertex 0")),
        "stored as ascii": edited(path, tmp_path / "4.ply", (b"binary_little_endian", b"ascii")),
        "another layout": edited(path, tmp_path / "5.ply", (b"float nx", b"double nx")),
        "has 8 f_rest fields": edited(path, tmp_path / "6.ply", (b"f_rest_8", b"f_more_8")),
        "no visible Gaussian": write_ply(tmp_path / "7.ply", faint),
        "has no size": write_ply(tmp_path / "8.ply", lump),
        "larger than the object": write_ply(tmp_path / "9.ply", sky),
    }
    for sentence, file in cases.items():
        with pytest.raises(InputError, match=sentence) as caught:
            load_gaussian_object(file)
        message = str(caught.value)
        assert message.endswith(".") and "\n" not in message and file.name in message
    assert is_gaussian_ply(path) and not is_gaussian_ply(mesh) and not is_gaussian_ply(tmp_path / "none.ply")
    with pytest.raises(InputError, match="3D Gaussians, not triangles"):
        load_object(path)


def test_merging_keeps_the_picture_and_pruning_does_not() -> None:
    many = ball(4000, degree=1, scale=0.03)
    many = many.replace(means=0.6 * (many.means - many.means.mean(0)))
    cameras = rig(width=60, height=52)
    truth = render_gaussians(many, cameras)

    def error(gaussians: Gaussians) -> float:
        return float((render_gaussians(gaussians, cameras) - truth).square().mean())

    merged = merge_gaussians(many, 700)
    assert len(merged) <= 700 and len(merged) > 650 and merged.sh_degree == 1
    pick = torch.randperm(4000, generator=torch.Generator().manual_seed(0))[: len(merged)]
    assert error(merged) < 0.1 * error(many.map(lambda value: value[pick]))
    assert merge_gaussians(many, 4000) is many
    again = merge_gaussians(many, 700)
    assert all(torch.equal(a, b) for a, b in zip(merged.state_dict().values(), again.state_dict().values()))


def test_merging_matches_moments() -> None:
    """One cluster: mean, covariance and colour of the mixture, written out by hand."""
    two = Gaussians(
        torch.tensor([[0.0, 0, 0], [1.0, 0, 0]]),
        torch.tensor([[1.0, 0, 0, 0]]).expand(2, 4).clone(),
        torch.tensor([[0.3, 0.2, 0.1], [0.3, 0.2, 0.1]]).log(),
        torch.logit(torch.tensor([0.25, 0.75])),
        torch.tensor([[[0.0, 0, 0]], [[1.0, 2.0, -1.0]]]),
    )
    one = merge_gaussians(two, 1)
    assert torch.allclose(one.means, torch.tensor([[0.75, 0, 0]]), atol=1e-6)
    assert torch.allclose(one.sh, torch.tensor([[[0.75, 1.5, -0.75]]]), atol=1e-6)
    # variance along x: 0.09 within + 0.25 * 0.75 between; stopped light (.25 + .75) * .3 * .2 over the merged area
    sigma = np.array([0.1, 0.2, np.sqrt(0.09 + 0.1875)])
    assert np.allclose(np.sort(one.scales.numpy()[0]), sigma, rtol=1e-5)
    assert float(one.opacities) == pytest.approx(0.06 / (sigma[1] * sigma[2]), rel=1e-5)
