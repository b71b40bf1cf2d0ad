"""A second implementation: three.js poses the same files in node, vertex for vertex."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from t4d.geometry.object3d import load_object

pytestmark = [pytest.mark.slow, pytest.mark.data]

THREE = "three@0.187.0"
FILES = [
    "Fox.glb",
    "Trex.glb",
    "Frog.glb",
    "Clownfish.glb",
    "RobotExpressive.glb",
    "MorphStressTest.glb",
    "RiggedSimple.glb",
    "KenneyCharacter/KenneyCharacter.glb",
    "InterpolationTest/InterpolationTest.gltf",
    "../edge_cases/sparse_morph_cube.glb",
]


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three.js installed and the helper script in it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is absent, so three.js cannot pose the files")
    folder = tmp_path_factory.mktemp("three")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", THREE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        pytest.skip(f"three.js cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    shutil.copy(Path(__file__).with_name("pose_with_three.mjs"), folder)
    return folder


def three_poses(folder: Path, path: Path, wanted: list[dict]) -> list[np.ndarray]:
    command = ["node", "pose_with_three.mjs", str(path.resolve()), json.dumps(wanted)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    poses = json.loads(done.stdout)["poses"]
    return [np.frombuffer(base64.b64decode(pose), np.float64).reshape(-1, 3) for pose in poses]


@pytest.mark.parametrize("name", FILES)
def test_three_js_poses_the_same_vertices(shared_data: Path, node_folder: Path, name: str) -> None:
    path = shared_data / "data/real3d/animated" / name
    obj = load_object(path)
    wanted = [
        {"clip": index, "seconds": share * clip.duration}
        for index, clip in enumerate(obj.clips)
        for share in (0.0, 0.29, 0.64, 0.97)
    ]
    worst = 0.0
    for request, theirs in zip(wanted, three_poses(node_folder, path, wanted), strict=True):
        ours = obj.pose(request["clip"], request["seconds"])
        assert theirs.shape == ours.shape
        error = np.abs(ours - theirs).max() / np.linalg.norm(np.ptp(theirs, axis=0))
        assert error < 2e-5, (request, error)
        worst = max(worst, float(error))
    print(f"{name}: {len(wanted)} poses, worst difference {worst:.1e} of the diagonal")
