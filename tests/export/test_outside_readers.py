"""The animated .glb in programs of others: the Khronos validator and three.js, on real files."""

from pathlib import Path

import numpy as np
import pytest
from small_objects import bend, rich_glb, textured_obj, z_up_ply

from eval import outside
from t4d.export.animated_glb import write_animated_glb
from t4d.export.follow import MeshFollower
from t4d.geometry.normalise import Normaliser, up_rotation
from t4d.geometry.object3d import load_object
from t4d.splat.binding import bind_gaussians

FPS = 8.0
REAL = {  # file: clip whose motion the Gaussians follow; None bends the object
    "animated/Fox.glb": "Run",
    "animated/RobotExpressive.glb": "Dance",
    "animated/Trex.glb": "TRex_Run",
    "animated/MorphStressTest.glb": 0,
    "animated/KenneyCharacter/KenneyCharacter.glb": "walk",
    "static/Duck.glb": None,
    "static/KenneyCake.glb": None,
    "static/Spot/spot_triangulated.obj": None,
    "edge_cases/Wasp_nan_skin_weights.glb": 0,
    "edge_cases/sparse_morph_cube.glb": None,
    "edge_cases/box_vertex_colors.glb": None,
    "edge_cases/missing_external_texture.glb": None,
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return outside.prepare(tmp_path_factory.mktemp("node"))
    except outside.NoNode as reason:
        pytest.skip(str(reason))


def check(node: Path, source: Path, out: Path, clip: int | str | None, frames: int) -> None:
    """Exports a moving object and compares what the readers see with what its Gaussians predict and with the truth."""
    loaded = load_object(source)
    normaliser = Normaliser.fit_static(loaded)
    rest = normaliser.apply(loaded.rest_vertices())
    gaussians, binding = bind_gaussians(loaded.mesh, rest, 1500, None, 0)

    def truth(frame: int) -> np.ndarray:
        if frame == 0:
            return rest
        if clip is None:
            return bend(rest, 0.9 * frame / frames)
        duration = loaded.clips[loaded.clip_index(clip)].duration
        return normaliser.apply(loaded.pose(clip, duration * frame / frames))

    def at(frame: int):
        means, quats = binding.pose(truth(frame))
        return gaussians.replace(means=means, quats=quats) if frame else gaussians

    write_animated_glb(out, source, binding, at, frames, FPS)
    (issues,) = outside.validate(node, [out])
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]
    playback = outside.play(node, out, [frame / FPS for frame in range(frames)])
    assert playback.duration == pytest.approx((frames - 1) / FPS)
    follower = MeshFollower(loaded.mesh, rest, binding, gaussians)
    read = load_object(out)
    back = up_rotation(loaded.up).T @ up_rotation("y")  # glTF's axes to the file's
    # an .obj has its vertices in another order after it is split by material: corners are compared
    order = np.argsort(loaded.mesh.face_material, kind="stable") if source.suffix != ".glb" else slice(None)
    corners, moved = loaded.mesh.faces[order], []
    for frame in range(frames):
        seen = playback.positions[frame]
        world = normaliser.apply(seen @ back.T)[read.mesh.faces]
        # 1e-3 is asked; the file's float32 leaves far less
        assert np.abs(world - follower.vertices(at(frame))[corners]).max() < 1e-5, frame
        assert np.linalg.norm(world - truth(frame)[corners], axis=-1).mean() < 2e-3, frame
        ours = read.pose(0, frame / FPS)
        assert np.abs(ours - seen).max() < 1e-5 * np.linalg.norm(np.ptp(ours, axis=0)), frame
        moved.append(np.linalg.norm(truth(frame) - rest, axis=1).max())
    assert max(moved) > 0.01, "an object that stands still would prove nothing"
    if playback.normals is not None:
        assert np.abs(np.linalg.norm(playback.normals, axis=-1) - 1).max() < 1e-3


@pytest.mark.parametrize("make", [rich_glb, textured_obj, z_up_ply])
def test_small_files(node: Path, tmp_path: Path, make) -> None:
    check(node, make(tmp_path), tmp_path / "out.glb", None, 4)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_files(shared_data: Path, node: Path, tmp_path: Path, name: str) -> None:
    check(node, shared_data / "data/real3d" / name, tmp_path / "out.glb", REAL[name], 6)


@pytest.mark.slow
@pytest.mark.data
def test_64_frames(shared_data: Path, node: Path, tmp_path: Path) -> None:
    check(node, shared_data / "data/real3d/animated/Clownfish.glb", tmp_path / "out.glb", 0, 64)
