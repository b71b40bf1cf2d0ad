"""Readers of our files that others wrote: the Khronos glTF validator and three.js, run by node.

Both are npm packages. They are taken from the folder ``T4D_NODE`` names (`.ci/run` makes one), otherwise installed into
a folder of the caller.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PACKAGES = ("gltf-validator@2.0.0-dev.3.10", "three@0.187.0")


class NoNode(RuntimeError):
    """Why the outside readers cannot run here, in one sentence."""


@dataclass(frozen=True)
class ThreePlayback:
    """What three.js shows of a .glb.

    Attributes:
        revision: of three.js.
        duration: of the first animation, seconds.
        positions: [K, n, 3] world at each time asked for.
        normals: [K, n, 3], not of unit length, or None where a part has none.
    """

    revision: str
    duration: float
    positions: np.ndarray
    normals: np.ndarray | None


def prepare(folder: Path) -> Path:
    """Makes a folder from which the scripts run.

    Args:
        folder: empty and writable.

    Returns:
        The folder.

    Raises:
        NoNode: node or npm is absent, or the packages cannot be installed.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NoNode("node or npm is absent, so no outside reader can run")
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    ready = os.environ.get("T4D_NODE")
    if ready and (Path(ready) / "node_modules").is_dir():
        (folder / "node_modules").symlink_to(Path(ready).resolve() / "node_modules")
        return folder
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise NoNode(f"npm cannot install {', '.join(PACKAGES)}: {done.stderr.strip().splitlines()[-1:]}")
    return folder


def validate(folder: Path, paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The validator's issues of each .glb: numErrors, numWarnings, numInfos, numHints and messages."""
    return _run(folder, "validate.mjs", *(str(Path(path).resolve()) for path in paths))["reports"]


def play(folder: Path, path: Path, seconds: Sequence[float]) -> ThreePlayback:
    """Plays the first animation of a .glb in three.js and stops it at each of ``seconds``."""
    result = _run(folder, "three_poses.mjs", str(Path(path).resolve()), json.dumps(list(seconds)))

    def decode(name: str) -> np.ndarray | None:
        if result["poses"][0][name] is None:
            return None
        return np.stack([np.frombuffer(base64.b64decode(p[name]), np.float64).reshape(-1, 3) for p in result["poses"]])

    positions = decode("position")
    assert positions is not None
    return ThreePlayback(str(result["revision"]), float(result["duration"]), positions, decode("normal"))


def _run(folder: Path, script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        ["node", script, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{script} failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)
