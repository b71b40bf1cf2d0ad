"""Tracks of bound points against projections by hand and visibility by rays."""

import csv

import numpy as np
import pytest
import torch
from small_objects import bend, tube_mesh

from t4d.errors import InputError
from t4d.export.tracks import write_tracks
from t4d.geometry.camera import rig
from t4d.motion.visibility import visible_from_mesh
from t4d.splat.binding import bind_gaussians

FRAMES, FPS = 3, 4.0


@pytest.fixture(scope="module")
def moving():
    """`at`, binding, mesh and posed vertices of a closed, bending tube."""
    mesh = tube_mesh(rings=20, sides=24, radius=0.3)
    gaussians, binding = bind_gaussians(mesh, mesh.vertices, 1500, None, 0)
    poses = [bend(mesh.vertices, 0.6 * frame) for frame in range(FRAMES)]

    def at(frame):
        means, quats = binding.pose(poses[frame])
        return gaussians.replace(means=means, quats=quats) if frame else gaussians

    return at, binding, mesh, poses


def test_arrays(tmp_path, moving):
    at, binding, mesh, poses = moving
    cameras = rig(azimuths=(60.0, 120.0), width=96, height=64)  # V != T, H != W
    paths = write_tracks(tmp_path, at, FRAMES, FPS, cameras, points=200, binding=binding, backend="cpu")
    with np.load(paths["npz"], allow_pickle=False) as tracks:
        arrays = dict(tracks)
    chosen = arrays["gaussian"]
    assert len(chosen) == 200 and (np.diff(chosen) > 0).all()
    assert arrays["xyz"].shape == (FRAMES, 200, 3) and arrays["xy"].shape == (2, FRAMES, 200, 2)
    assert arrays["visible"].shape == (2, FRAMES, 200) and arrays["visible"].dtype == bool
    assert arrays["fps"] == FPS and arrays["size"].tolist() == [96, 64]
    for frame, vertices in enumerate(poses):
        corners = vertices[mesh.faces[arrays["face"]]]
        assert np.allclose(arrays["xyz"][frame], (corners * arrays["barycentric"][..., None]).sum(1), atol=1e-5)
        agree = []
        for view, camera in enumerate(cameras):
            # by hand from the matrices in the file itself
            w2c, K = arrays["world_to_camera"][view], arrays["K"][view]
            pixel = (arrays["xyz"][frame] @ w2c[:3, :3].T + w2c[:3, 3]) @ K.T
            assert np.allclose(arrays["xy"][view, frame], pixel[:, :2] / pixel[:, 2:], atol=1e-3)
            rays = visible_from_mesh(vertices, mesh.faces, torch.from_numpy(arrays["xyz"][frame]), [camera])[0]
            agree.append(rays.numpy() == arrays["visible"][view, frame])
        assert np.mean(agree) > 0.85 and 0.2 < arrays["visible"][:, frame].mean() < 0.8


def test_table_says_the_same(tmp_path, moving):
    at, *_ = moving
    paths = write_tracks(tmp_path, at, FRAMES, FPS, rig(azimuths=(0.0,), width=64, height=48), points=20, backend="cpu")
    with np.load(paths["npz"], allow_pickle=False) as tracks, paths["csv"].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
        assert len(rows) == FRAMES * 20 and "face" not in tracks
        for index, row in enumerate(rows):
            frame, point = divmod(index, 20)
            assert (int(row["frame"]), int(row["gaussian"])) == (frame, tracks["gaussian"][point])
            assert float(row["seconds"]) == frame / FPS
            assert np.allclose([float(row[name]) for name in "xyz"], tracks["xyz"][frame, point], atol=1e-6)
            pixel = [float(row["view0_x"]), float(row["view0_y"])]
            assert np.allclose(pixel, tracks["xy"][0, frame, point], atol=1e-3)
            assert bool(int(row["view0_visible"])) == tracks["visible"][0, frame, point]


def test_the_seed_chooses_and_few_gaussians_are_all(tmp_path, moving):
    at, *_ = moving
    cameras = rig(azimuths=(0.0,), width=32, height=32)

    def chosen(**options):
        with np.load(write_tracks(tmp_path, at, 1, FPS, cameras, backend="cpu", **options)["npz"]) as tracks:
            return tracks["gaussian"]

    assert np.array_equal(chosen(points=30, seed=1), chosen(points=30, seed=1))
    assert not np.array_equal(chosen(points=30, seed=1), chosen(points=30, seed=2))
    assert np.array_equal(chosen(points=9999), np.arange(1500))


def test_refusals(tmp_path, moving):
    at, *_ = moving
    with pytest.raises(InputError, match="0 points"):
        write_tracks(tmp_path, at, 1, FPS, rig(), points=0)
    with pytest.raises(InputError, match="0 views"):
        write_tracks(tmp_path, at, 1, FPS, [])

    def broken(frame):
        gaussians = at(frame)
        return gaussians.replace(means=gaussians.means / 0)

    with pytest.raises(InputError, match="NaN or infinite"):
        write_tracks(tmp_path, broken, 1, FPS, rig(), backend="cpu")
    assert list(tmp_path.iterdir()) == []
