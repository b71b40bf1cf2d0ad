"""Every real file of the development data: loaded and posed, or refused in one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval.golden import compare, main
from t4d.errors import InputError
from t4d.geometry.camera import orbit_camera, rig
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import Object3D, load_object
from t4d.geometry.shading import shade_vertices
from t4d.geometry.visibility import render_mesh
from t4d.paths import shared_dir

pytestmark = pytest.mark.data

ROOT = shared_dir()
REAL = sorted(ROOT.glob("data/real3d/**/*.*")) if ROOT else []
OBJECTS = [path for path in REAL if path.suffix in (".glb", ".gltf", ".obj")]
REFUSED = {"box_meshopt_required.glb": "EXT_meshopt_compression", "empty_nodes.glb": "no triangles"}
NOTED = {
    "Wasp_nan_skin_weights.glb": "6 vertices of",
    "missing_external_texture.glb": "Textures/colormap.png",
    "spot_triangulated.obj": "spot_texture.png",
}


def ids(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", OBJECTS, ids=ids)
def test_file_is_loaded_posed_and_seen_or_refused(path: Path) -> None:
    if path.name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[path.name]) as caught:
            load_object(path)
        assert str(caught.value).count("\n") == 0
        return
    obj = load_object(path)
    assert bool(obj.notes) == (path.name in NOTED)
    if obj.notes:
        assert NOTED[path.name] in obj.notes[0]
    for index, clip in enumerate(obj.clips):
        for share in (0.0, 0.37, 1.0):
            vertices = obj.pose(index, share * clip.duration)
            assert vertices.shape == obj.mesh.vertices.shape and vertices.dtype == np.float32
            assert np.isfinite(vertices).all()
    assert _coverage(obj) > 0.005


def _coverage(obj: Object3D) -> float:
    """Share of the picture covered from two sides (a plate is invisible from one of them)."""
    vertices = Normaliser.fit_static(obj).apply(obj.rest_vertices())
    light = shade_vertices(obj.mesh, vertices)
    shares = []
    for azimuth in (0.0, 90.0):
        rgba, _, _ = render_mesh(obj.mesh, vertices, orbit_camera(azimuth, 15.0, width=48, height=40), light)
        assert np.isfinite(rgba.numpy()).all() and 0 <= rgba.min() and rgba.max() <= 1
        border = np.concatenate([rgba[3, [0, -1]].numpy().ravel(), rgba[3, :, [0, -1]].numpy().ravel()])
        assert border.max() == 0  # a static object leaves room to move
        shares.append(float(rgba[3].mean()))
    return max(shares)


def test_there_are_real_files(shared_data: Path) -> None:
    assert len(OBJECTS) > 20 and {path.name for path in OBJECTS} >= {*REFUSED, *NOTED}


@pytest.mark.parametrize("name", ["RobotExpressive.glb", "Frog.glb", "RiggedSimple.glb", "Trex.glb"])
def test_wild_clips_stay_in_view(shared_data: Path, name: str) -> None:
    """Clips that leave the rest pose's bounds by most of a diagonal."""
    import torch

    obj = load_object(shared_data / "data/real3d/animated" / name)
    for index, clip in enumerate(obj.clips):
        frames = [obj.pose(index, clip.duration * i / 7) for i in range(8)]
        normaliser = Normaliser.fit_clip(frames, obj.up)
        assert (normaliser.radius >= 0.5) == (not normaliser.notes)
        world = torch.from_numpy(np.concatenate([normaliser.apply(frame) for frame in frames])).double()
        for camera in rig(width=50, height=50):
            xy, depth = camera.project(world)
            assert xy.min() > 0.9 and xy.max() < 49.1 and depth.min() > 0


def test_golden_vertices(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "data/real3d"
    worst = main(str(folder / "golden_gltf.json"), str(folder))
    assert worst <= 1e-4
    assert float(capsys.readouterr().out.splitlines()[-1]) == pytest.approx(worst, rel=1e-3)


def test_golden_comparison_notices_an_error(shared_data: Path) -> None:
    """A moved vertex, a swapped order, another time and a missing vertex are all seen."""
    folder = shared_data / "data/real3d"
    record = json.loads((folder / "golden_gltf.json").read_text())["clips"]["animated/Fox.glb"]["2:Run"][1]
    obj = load_object(folder / "animated/Fox.glb")
    right = obj.pose(2, record["t"])
    assert compare(right, record) <= 1e-4
    moved = right.copy()
    moved[record["idx"][1]] += 0.5
    assert compare(moved, record) > 1e-3
    assert compare(right[::-1], record) > 1e-2
    assert compare(obj.pose(2, record["t"] + 0.1), record) > 1e-3
    assert compare(right[:-1], record) == float("inf")


def test_draco_rigs_pose_like_their_neighbours(shared_data: Path) -> None:
    """Draco-compressed skinned rigs (joints and weights inside the compressed block)."""
    files = sorted(shared_data.glob("data/rigs_cc0/ultimate_space_pack/*.glb"))
    assert files
    obj = load_object(files[0])
    rest = obj.rest_vertices()
    diagonal = float(np.linalg.norm(np.ptp(rest, axis=0)))
    moved = obj.pose(0, 0.5 * obj.clips[0].duration)
    assert np.isfinite(moved).all() and np.abs(moved - rest).max() < 2 * diagonal
    edges = obj.mesh.faces[:, :2]
    before, after = (np.linalg.norm(v[edges[:, 0]] - v[edges[:, 1]], axis=1) for v in (rest, moved))
    assert np.percentile(after[before > 1e-6] / before[before > 1e-6], [5, 95]) == pytest.approx([1, 1], abs=0.5)
