"""The user's own mesh, moving: a .glb with one morph target per frame."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from t4d.errors import InputError
from t4d.export.follow import MeshFollower
from t4d.export.glb_builder import INDICES, VERTICES, GlbBuilder
from t4d.export.glb_source import SourceNode, SourcePart, read_parts
from t4d.geometry.mesh import Mesh
from t4d.geometry.normalise import STATIC_RADIUS, Normaliser, up_rotation
from t4d.geometry.object3d import load_object
from t4d.splat.binding import MeshBinding
from t4d.splat.gaussians import Gaussians

NORMALS_BUDGET = 32_000_000


@dataclass
class AnimatedGlb:
    """What was written.

    Attributes:
        path: the .glb.
        size: bytes.
        vertices: of all parts.
        frames: T; the file holds T - 1 morph targets.
        normals: whether the targets hold normals.
        bound_mean, bound_max: distance of the mesh's bound points from their Gaussians over all frames, world units:
            how far the mesh is from the field (a mesh cannot follow what its own triangles cannot bend to).
        notes: sentences for the user.
    """

    path: Path
    size: int = 0
    vertices: int = 0
    frames: int = 0
    normals: bool = False
    bound_mean: float = 0.0
    bound_max: float = 0.0
    notes: list[str] = field(default_factory=list)


def write_animated_glb(
    path: Path,
    source: Path,
    binding: MeshBinding,
    at: Callable[[int], Gaussians],
    frames: int,
    fps: float,
    *,
    radius: float = STATIC_RADIUS,
    up: str | None = None,
    normals_budget: int = NORMALS_BUDGET,
) -> AnimatedGlb:
    """Writes the object that was animated, with its own materials and textures, moved by its Gaussians.

    Units and orientation are the source's (a z-up source is turned to glTF's y up). Materials with their extensions,
    textures, pictures, samplers, texture coordinates, vertex colours, names, author and licence are carried over. Old
    skins, animations and morph targets are not: the mesh stands in its rest pose and has one morph target per frame
    1..T-1, positions as float32 and, where the source has normals, normals, played by one animation of linear weights.
    Node transforms are applied to the vertices; tangents are left to the viewer, which knows how they turn.

    Args:
        path: the .glb to write.
        source: the object file the binding was made of.
        binding: `MeshBinding` of its triangles.
        at: Gaussians of a frame 0..T-1; frame 0 is at rest.
        frames: T >= 2.
        fps: frames per second.
        radius: that the object was normalised to.
        up: as `load_object` was told.
        normals_budget: above this many bytes the targets hold no normals (viewers then shade with those at rest).

    Returns:
        What was written and how closely the mesh follows.

    Raises:
        InputError: the binding is of another object, fewer than 2 frames, fps not positive, or values not finite.
    """
    if frames < 2 or not (np.isfinite(fps) and fps > 0):
        raise InputError(f"{frames} frames at {fps} per second were asked for; give at least 2 and a positive rate.")
    path, source = Path(path), Path(source)
    loaded = load_object(source, up=up)
    normaliser = Normaliser.fit_static(loaded, radius=radius)
    rest = normaliser.apply(loaded.rest_vertices()).astype(np.float64)
    follower = MeshFollower(loaded.mesh, rest, binding, at(0))
    report = AnimatedGlb(path, vertices=len(rest), frames=frames)
    deltas, distances = [], []
    for frame in range(1, frames):
        gaussians = at(frame)
        moved = follower.vertices(gaussians)
        distances.append(follower.distances(moved, gaussians))
        # world = scale (R file - c), so a displacement comes back by the inverse of the linear part
        deltas.append(((moved - rest) @ normaliser.rotation / normaliser.scale).astype(np.float32))
    report.bound_mean, report.bound_max = float(np.mean(distances)), float(np.max(distances))
    builder = GlbBuilder(_document(frames))
    nodes = read_parts(source, loaded, builder, report.notes)
    # the file's up axis to y: a rotation, the identity where it is y already
    turn = up_rotation("y").T @ up_rotation(loaded.up)
    writer = _MeshWriter(builder, loaded.mesh, np.stack(deltas), turn, normals_budget)
    for node in nodes:
        writer.add(node)
    _animate(builder, frames, fps)
    report.normals = writer.normals
    if writer.left_out:
        report.notes.append(
            f"Moving normals of {loaded.name} would take {writer.normal_bytes / 1e6:.0f} MB, so the animated GLB holds "
            "those at rest."
        )
    report.size = builder.save(path)
    return report


def _document(frames: int) -> dict[str, Any]:
    return {
        "asset": {"version": "2.0", "generator": "Track4DGen Studio"},
        "scene": 0,
        "scenes": [{"nodes": []}],
        "nodes": [],
        "meshes": [],
    }


class _MeshWriter:
    """Adds nodes with their meshes and morph targets to a file."""

    def __init__(
        self, builder: GlbBuilder, mesh: Mesh, deltas: np.ndarray, turn: np.ndarray, normals_budget: int
    ) -> None:
        self.builder, self.mesh, self.deltas, self.turn = builder, mesh, deltas, turn
        self.normal_bytes = deltas.size * 4
        self.normals = self.left_out = False
        self._fits = self.normal_bytes <= normals_budget
        self._smooth: list[np.ndarray] = []

    def add(self, node: SourceNode) -> None:
        """Adds one node; parts without triangles are left out."""
        parts = [part for part in node.parts if len(part.faces)]
        if not parts:
            return
        document, count = self.builder.document, len(self.deltas)
        document["meshes"].append(
            {
                "name": node.mesh_name,
                "primitives": [self._primitive(part) for part in parts],
                "weights": [0.0] * count,
                "extras": {"targetNames": [f"frame {frame}" for frame in range(1, count + 1)]},
            }
        )
        document["nodes"].append({"name": node.name, "mesh": len(document["meshes"]) - 1})
        document["scenes"][0]["nodes"].append(len(document["nodes"]) - 1)

    def _primitive(self, part: SourcePart) -> dict[str, Any]:
        add = self.builder.accessor
        positions = self.mesh.vertices[part.rows].astype(np.float64) @ self.turn.T
        attributes = {"POSITION": add(positions, "<f4", target=VERTICES, bounds=True)}
        targets = [
            {"POSITION": add(delta[part.rows] @ self.turn.T, "<f4", target=VERTICES, bounds=True)}
            for delta in self.deltas
        ]
        if part.normals is not None:
            attributes["NORMAL"] = add(part.normals @ self.turn.T, "<f4", target=VERTICES)
            self.normals |= self._fits
            self.left_out |= not self._fits
            for target, delta in zip(targets, self._normal_deltas(part) if self._fits else []):
                target["NORMAL"] = add(delta @ self.turn.T, "<f4", target=VERTICES)
        for name, values in part.attributes.items():
            if name == "COLOR_0":
                whole = np.rint(np.clip(values, 0, 1) * 65535)
                attributes[name] = add(whole, "<u2", target=VERTICES, normalized=True)
            else:
                attributes[name] = add(values, "<f4", target=VERTICES)
        indices = "<u2" if len(part.rows) < 65535 else "<u4"
        record = {"attributes": attributes, "indices": add(part.faces.reshape(-1), indices, target=INDICES)}
        if part.material is not None:
            record["material"] = part.material
        return {**record, "targets": targets}

    def _normal_deltas(self, part: SourcePart) -> list[np.ndarray]:
        """Per frame [n, 3]: the stored normal turned as the surface's own normal turns, minus itself."""
        assert part.normals is not None
        if not self._smooth:
            rest = self.mesh.vertices.astype(np.float64)
            self._smooth = [self.mesh.normals(rest + delta) for delta in [np.zeros_like(rest), *self.deltas]]
        before, *after = (normals[part.rows].astype(np.float64) for normals in self._smooth)
        return [turned(part.normals, before, now) - part.normals for now in after]


def turned(vectors: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Unit vectors [n, 3] turned by the smallest rotation that brings ``before`` to ``after`` (unit [n, 3] each).

    Where these are opposite there is no smallest rotation and the vectors are reversed.
    """
    axis = np.cross(before, after)  # sin times the axis
    cosine = (before * after).sum(1, keepdims=True)
    opposite = cosine < -1 + 1e-6
    along = (axis * vectors).sum(1, keepdims=True)
    out = cosine * vectors + np.cross(axis, vectors) + axis * along / np.where(opposite, 1.0, 1 + cosine)
    out = np.where(opposite, -vectors, out)
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-30)


def _animate(builder: GlbBuilder, frames: int, fps: float) -> None:
    """One animation: at frame f the weight of target f is 1 and all others 0, linear between frames."""
    document = builder.document
    weights = np.concatenate([np.zeros((1, frames - 1)), np.eye(frames - 1)])
    sampler = {
        "input": builder.accessor(np.arange(frames) / fps, "<f4", bounds=True),
        "output": builder.accessor(weights.reshape(-1), "<f4"),
        "interpolation": "LINEAR",
    }
    channels = [{"sampler": 0, "target": {"node": node, "path": "weights"}} for node in range(len(document["nodes"]))]
    document["animations"] = [{"name": "motion", "samplers": [sampler], "channels": channels}]
