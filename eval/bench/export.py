"""The animated .glb against truth: Gaussians that follow a real rig exactly, the mesh that is exported from them.

    python -m eval.bench.export [--count 8000] [--frames 16] [--skip-outside]

Frame 0 is the file's rest pose, the others lie evenly over one loop of a clip of the file. "error" is the distance of
the exported vertices, read back from the file, from the truly posed ones, in percent of the diagonal; "blend" the same
without the least-squares correction; "rigid" the largest error where the whole object turns and moves; "bound" the mean
and largest distance of the mesh's bound points from their Gaussians in world units; "three" the largest difference of
three.js's vertices from the predicted ones in world units (asked: 1e-3); "issues" the Khronos validator's errors and
warnings.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval import outside
from t4d.export.animated_glb import write_animated_glb
from t4d.export.follow import MeshFollower, rigid
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.rotations import quat_to_matrix
from t4d.paths import shared_dir
from t4d.splat.binding import bind_gaussians
from t4d.splat.gaussians import Gaussians

RESULT = Path(__file__).parents[1] / "results" / "bench_export.json"
FPS = 8.0
CASES = (
    ("animated/Fox.glb", "Run"),
    ("animated/Trex.glb", "TRex_Run"),
    ("animated/RobotExpressive.glb", "Dance"),
    ("animated/Clownfish.glb", 0),
    ("animated/Frog.glb", 0),
    ("animated/Horse.glb", 0),
    ("animated/KenneyCharacter/KenneyCharacter.glb", "walk"),
    ("animated/MorphStressTest.glb", "TheWave"),
    ("static/Spot/spot_triangulated.obj", None),
    ("static/KenneyCake.glb", None),
)


def wave(rest: np.ndarray, phase: float) -> np.ndarray:
    """The motion of objects that have none: a twist about z and a wave along x."""
    angle = 0.8 * np.sin(2 * np.pi * phase) * rest[:, 2]
    c, s = np.cos(angle), np.sin(angle)
    x, y, z = rest.T
    return np.stack([c * x - s * y, s * x + c * y, z + 0.1 * np.sin(3 * x + 6 * phase) - 0.1 * np.sin(3 * x)], 1)


class Moving:
    """A real file whose Gaussians follow its true motion."""

    def __init__(self, path: Path, clip: str | int | None, frames: int, count: int) -> None:
        self.path, self.loaded, self.frames = path, load_object(path), frames
        self.normaliser = Normaliser.fit_static(self.loaded)
        self.rest = self.normaliser.apply(self.loaded.rest_vertices())
        self.gaussians, self.binding = bind_gaussians(self.loaded.mesh, self.rest, count)
        self.truth = [self.rest]
        for frame in range(1, frames):
            if clip is None:
                self.truth.append(wave(self.rest, frame / frames))
            else:
                duration = self.loaded.clips[self.loaded.clip_index(clip)].duration
                self.truth.append(self.normaliser.apply(self.loaded.pose(clip, duration * frame / frames)))

    def posed(self, vertices: np.ndarray) -> Gaussians:
        means, quats = self.binding.pose(vertices)
        return self.gaussians.replace(means=means, quats=quats)

    def at(self, frame: int) -> Gaussians:
        return self.posed(self.truth[frame]) if frame else self.gaussians


def measure(moving: Moving, out: Path, node: Path | None) -> dict[str, Any]:
    """One row."""
    begun = time.process_time()
    report = write_animated_glb(out, moving.path, moving.binding, moving.at, moving.frames, FPS)
    seconds = time.process_time() - begun
    follower = MeshFollower(moving.loaded.mesh, moving.rest, moving.binding, moving.gaussians)
    diagonal = float(np.linalg.norm(np.ptp(moving.rest, axis=0)))
    read = load_object(out)
    # an .obj is split by material, so corners are compared, not vertices
    order = np.argsort(moving.loaded.mesh.face_material, kind="stable") if moving.path.suffix == ".obj" else slice(None)
    corners = moving.loaded.mesh.faces[order]
    errors, blends = [], []
    for frame in range(1, moving.frames):
        truth = moving.truth[frame]
        got = moving.normaliser.apply(read.pose(0, frame / FPS))
        errors.append(np.linalg.norm(got[read.mesh.faces] - truth[corners], axis=-1).ravel())
        blend = follower.blend(*rigid(moving.at(frame)))[follower.weld.group]
        blends.append(np.linalg.norm(blend - truth, axis=1))
    turn = quat_to_matrix(torch.tensor([0.5, -0.4, 0.7, 0.3], dtype=torch.float64)).numpy()
    turned = moving.rest @ turn.T + np.array([0.3, -0.2, 0.1])
    error, blend = (100 * np.concatenate(rows) / diagonal for rows in (errors, blends))
    row: dict[str, Any] = {
        "file": moving.path.name,
        "vertices": len(moving.rest),
        "welded": len(follower.points),
        "source_bytes": moving.path.stat().st_size,
        "glb_bytes": report.size,
        "seconds": seconds,
        "error_mean_%": float(error.mean()),
        "error_p99_%": float(np.quantile(error, 0.99)),
        "error_max_%": float(error.max()),
        "blend_mean_%": float(blend.mean()),
        "blend_max_%": float(blend.max()),
        "rigid_max": float(np.abs(follower.vertices(moving.posed(turned)) - turned).max()),
        "bound_mean": report.bound_mean,
        "bound_max": report.bound_max,
        "notes": report.notes,
    }
    if node is not None:
        (issues,) = outside.validate(node, [out])
        playback = outside.play(node, out, [frame / FPS for frame in range(moving.frames)])
        row |= {"issues": [issues["numErrors"], issues["numWarnings"]], "three": 0.0}
        for frame, seen in enumerate(playback.positions):
            expected = follower.vertices(moving.at(frame))[corners]
            difference = float(np.abs(moving.normaliser.apply(seen)[read.mesh.faces] - expected).max())
            row["three"] = max(row["three"], difference)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=8000)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--skip-outside", action="store_true", help="without the validator and three.js (need node)")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    shared = shared_dir()
    if shared is None:
        raise SystemExit("shared development data is absent: set T4D_SHARED or place ../shared beside the repository")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        node = None
        if not options.skip_outside:
            (Path(folder) / "node").mkdir()
            node = outside.prepare(Path(folder) / "node")
        for name, clip in CASES:
            moving = Moving(shared / "data/real3d" / name, clip, options.frames, options.count)
            rows.append(measure(moving, Path(folder) / "out.glb", node))
            print(json.dumps(rows[-1]), flush=True)
    options.out.write_text(
        json.dumps({"gaussians": options.count, "frames": options.frames, "rows": rows}, indent=1) + "\n"
    )
    print(
        "\n| file | vertices | source kB | glb kB | error mean / max % | blend mean / max % | rigid | three | issues |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['file']} | {row['vertices']} | {row['source_bytes'] / 1e3:.0f} | {row['glb_bytes'] / 1e3:.0f} | "
            f"{row['error_mean_%']:.4f} / {row['error_max_%']:.2f} | {row['blend_mean_%']:.3f} / "
            f"{row['blend_max_%']:.2f} | {row['rigid_max']:.0e} | {row.get('three', float('nan')):.0e} | "
            f"{row.get('issues', '')} |"
        )


if __name__ == "__main__":
    main()
