"""PLY files, read back by gsply as an outside witness."""

import json
import zipfile

import gsply
import numpy as np
import pytest
import torch
from moving_assets import wobbling_ellipsoid

from t4d.errors import InputError
from t4d.export.ply import ply_columns, write_ply, write_ply_sequence, zip_folder
from t4d.geometry.rotations import quat_to_matrix
from t4d.splat.gaussians import Gaussians
from t4d.splat.rotate import rotate_gaussians, rotate_sh
from t4d.splat.sh import eval_sh


def covariance(gaussians: Gaussians) -> torch.Tensor:
    axes = quat_to_matrix(gaussians.quats) * gaussians.log_scales.exp()[:, None, :]
    return axes @ axes.mT


@pytest.mark.parametrize("sh_count", [1, 4, 16])
def test_another_reader_gets_the_same_gaussians(tmp_path, sh_count):
    gaussians = wobbling_ellipsoid(37, 4, sh_count)(1)
    gaussians.quats.mul_(3.0)  # length is not part of an orientation: the file holds unit quaternions
    read = gsply.plyread(write_ply(tmp_path / "a.ply", gaussians))
    assert np.array_equal(read.means, gaussians.means.numpy())
    assert np.array_equal(read.scales, gaussians.log_scales.numpy())
    assert np.array_equal(read.opacities.reshape(-1), gaussians.opacity_logits.numpy())
    assert np.allclose(read.quats, torch.nn.functional.normalize(gaussians.quats, dim=-1).numpy(), atol=1e-7)
    assert np.array_equal(read.sh0, gaussians.sh[:, 0].numpy())
    if sh_count > 1:
        # the file stores f_rest channel by channel: red of every coefficient first
        raw = (tmp_path / "a.ply").read_bytes()
        body = np.frombuffer(raw[raw.index(b"end_header\n") + 11 :], "<f4").reshape(37, -1)
        start = ply_columns(sh_count).index("f_rest_0")
        rest = body[:, start : start + 3 * (sh_count - 1)].reshape(37, 3, sh_count - 1)
        assert np.array_equal(rest, gaussians.sh[:, 1:].mT.numpy())
        assert read.shN is not None and read.shN.shape[1] == sh_count - 1


@pytest.mark.parametrize(("up", "axis", "sign"), [("z", 2, 1), ("y", 1, 1), ("-y", 1, -1)])
def test_up_axis(tmp_path, up, axis, sign):
    """Height above the ground must come out along the promised axis, and the rotation must not mirror."""
    gaussians = wobbling_ellipsoid(50, 4)(1)
    read = gsply.plyread(write_ply(tmp_path / "a.ply", gaussians, up=up))
    assert np.allclose(sign * read.means[:, axis], gaussians.means[:, 2], atol=1e-6)
    turn = np.linalg.lstsq(gaussians.means.numpy(), read.means, rcond=None)[0]
    assert np.isclose(np.linalg.det(turn), 1, atol=1e-4)
    assert f"comment up {up}\n".encode() in (tmp_path / "a.ply").read_bytes()


@pytest.mark.parametrize("sh_count", [1, 4, 9, 16])
def test_rotating_turns_shape_and_colour_together(sh_count):
    gaussians = wobbling_ellipsoid(20, 4, sh_count)(1)
    rotation = quat_to_matrix(torch.nn.functional.normalize(torch.tensor([0.4, -0.3, 0.7, 0.2]), dim=0))
    turned = rotate_gaussians(gaussians, rotation)
    assert torch.allclose(covariance(turned), rotation @ covariance(gaussians) @ rotation.T, atol=1e-7)
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(5)), dim=-1)
    degree = round(sh_count**0.5) - 1
    before = eval_sh(degree, directions, gaussians.sh)
    after = eval_sh(degree, directions @ rotation.T, rotate_sh(gaussians.sh, rotation))
    assert torch.allclose(before, after, atol=1e-5)
    if sh_count > 1:
        assert not torch.allclose(before, eval_sh(degree, directions @ rotation.T, gaussians.sh), atol=1e-2)


def test_sequence_and_zip(tmp_path, moving_asset):
    folder = tmp_path / "frames"
    write_ply_sequence(folder, moving_asset, 5, 8)
    paths = write_ply_sequence(folder, moving_asset, 3, 8)
    assert [path.name for path in paths] == ["0000.ply", "0001.ply", "0002.ply"]
    assert sorted(path.name for path in folder.glob("*.ply")) == [path.name for path in paths]  # no stale frames
    for frame, path in enumerate(paths):
        assert np.array_equal(gsply.plyread(path).means, moving_asset(frame).means.numpy())
    facts = json.loads((folder / "frames.json").read_text())
    assert facts == {"frames": [p.name for p in paths], "fps": 8, "up": "z", "handedness": "right", "loop": True}
    with zipfile.ZipFile(zip_folder(tmp_path / "frames.zip", folder)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(f"frames/{n}" for n in [*facts["frames"], "frames.json"])
        assert archive.read("frames/0002.ply") == paths[2].read_bytes()


def test_bad_input_is_named(tmp_path, moving_asset):
    gaussians = moving_asset(0)
    with pytest.raises(InputError, match="up axis"):
        write_ply(tmp_path / "a.ply", gaussians, up="x")  # pyright: ignore[reportArgumentType]
    gaussians.means[3, 1] = torch.nan
    with pytest.raises(InputError, match="NaN"):
        write_ply(tmp_path / "a.ply", gaussians)
    assert list(tmp_path.iterdir()) == []
