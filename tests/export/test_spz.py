"""SPZ files, read back by gsply as an outside witness."""

import gzip
import json
import struct

import gsply
import numpy as np
import pytest
import torch
from moving_assets import wobbling_ellipsoid

from t4d.errors import InputError
from t4d.export.ply import WORLD_TO_FILE, write_ply
from t4d.export.spz import fraction_bits, write_spz, write_spz_sequence
from t4d.geometry.rotations import quat_to_matrix
from t4d.splat.rotate import rotate_gaussians
from t4d.splat.sh import eval_sh


@pytest.mark.parametrize("sh_count", [1, 4, 9, 16])
def test_another_reader_gets_the_same_gaussians_within_the_quantisation(tmp_path, sh_count):
    gaussians = wobbling_ellipsoid(300, 4, sh_count)(1)
    gaussians.sh[:, 1:].clamp_(-0.9, 0.9)  # the format clips coefficients beyond 1
    gaussians.quats.mul_(3.0)
    read = gsply.read_spz(write_spz(tmp_path / "a.spz", gaussians, up="z"))
    assert np.abs(read.means - gaussians.means.numpy()).max() <= 2**-17 + 1e-7
    assert np.abs(read.scales - gaussians.log_scales.numpy()).max() <= 1 / 32 + 1e-5
    alpha = gaussians.opacities.numpy()
    assert np.abs(1 / (1 + np.exp(-read.opacities.reshape(-1))) - alpha).max() <= 0.5 / 255 + 1e-6
    assert np.abs(read.sh0 - gaussians.sh[:, 0].numpy()).max() <= 0.5 / (0.15 * 255) + 1e-4
    if sh_count > 1:
        assert read.shN.shape == (300, sh_count - 1, 3)
        assert np.abs(read.shN - gaussians.sh[:, 1:].numpy()).max() <= 8.5 / 128  # the format keeps 4 to 5 of 8 bits
    turn = quat_to_matrix(torch.from_numpy(read.quats)).mT @ quat_to_matrix(gaussians.quats)
    angle = torch.rad2deg(torch.acos(((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)))
    assert float(angle.max()) < 0.5


def test_the_default_axes_are_those_of_the_format(tmp_path):
    """Right, up, back: a z-up world is turned, colours with it, and nothing is mirrored."""
    gaussians = wobbling_ellipsoid(60, 4, 4)(1)
    gaussians.sh.clamp_(-0.9, 0.9)
    read = gsply.read_spz(write_spz(tmp_path / "a.spz", gaussians))
    x, y, z = gaussians.means.numpy().T
    assert np.allclose(read.means, np.stack([x, z, -y], 1), atol=1e-4)
    turned = rotate_gaussians(gaussians, torch.tensor(WORLD_TO_FILE["y"], dtype=torch.float64))
    directions = torch.nn.functional.normalize(torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    stored = torch.cat([torch.from_numpy(read.sh0)[:, None], torch.from_numpy(read.shN)], 1)
    seen = eval_sh(1, directions, stored)
    assert float((seen - eval_sh(1, directions, turned.sh)).abs().max()) < 0.1
    assert float((seen - eval_sh(1, directions, gaussians.sh)).abs().max()) > 0.2


def test_the_container(tmp_path):
    """The header by the format's definition, and a tenth of the size of the PLY."""
    gaussians = wobbling_ellipsoid(2000, 4)(1)
    spz, ply = write_spz(tmp_path / "a.spz", gaussians), write_ply(tmp_path / "a.ply", gaussians)
    magic, version, count, degree, fraction, _, _ = struct.unpack("<IIIBBBB", gzip.decompress(spz.read_bytes())[:16])
    assert (magic, version, count, degree, fraction) == (0x5053474E, 3, 2000, 0, 16)
    assert spz.stat().st_size < 0.35 * ply.stat().st_size


@pytest.mark.parametrize(("farthest", "bits"), [(0.0, 16), (0.7, 16), (126.9, 16), (127.1, 15), (3000.0, 11)])
def test_fraction_bits_leave_room_for_the_farthest(farthest, bits):
    assert fraction_bits(np.array([[0.0, -farthest, 0.1]])) == bits
    assert (farthest + 1e-3) * 2**bits < 2**23


def test_sequence(tmp_path, moving_asset):
    folder = tmp_path / "spz"
    write_spz_sequence(folder, moving_asset, 4, 8)
    paths = write_spz_sequence(folder, moving_asset, 2, 8)
    assert (
        sorted(path.name for path in folder.glob("*.spz")) == [path.name for path in paths] == ["0000.spz", "0001.spz"]
    )
    facts = json.loads((folder / "spz.json").read_text())
    assert facts == {"frames": ["0000.spz", "0001.spz"], "fps": 8, "up": "y", "handedness": "right", "loop": True}


def test_bad_input_is_named(tmp_path, moving_asset):
    gaussians = moving_asset(0)
    with pytest.raises(InputError, match="up axis"):
        write_spz(tmp_path / "a.spz", gaussians, up="x")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="one frame a file"):
        write_spz(tmp_path / "a.spz", gaussians.map(lambda tensor: tensor[None]))
    gaussians.log_scales[3, 1] = torch.inf
    with pytest.raises(InputError, match="NaN or infinite"):
        write_spz(tmp_path / "a.spz", gaussians)
    assert list(tmp_path.iterdir()) == []
