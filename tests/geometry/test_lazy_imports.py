"""The package works where the file loaders and the ray caster are not installed."""

import subprocess
import sys

BLOCKED = """
import sys
for name in ("pygltflib", "trimesh", "embreex", "DracoPy", "PIL"):
    sys.modules[name] = None  # importing it now raises ImportError
import t4d.geometry as g
import numpy as np
mesh = g.Mesh(np.eye(3), np.array([[0, 1, 2]]))
world = g.Normaliser.fit_static(g.Object3D("a", mesh)).apply(mesh.vertices)
print(g.shade_vertices(mesh, world).shape)
"""


def test_geometry_without_loaders() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(3, 3)"
