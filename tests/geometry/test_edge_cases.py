"""Every file of the edge cases: the outcome each must have, from loading to Gaussians and baking."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import pytest
import torch

from t4d.bake import bake_file
from t4d.errors import InputError
from t4d.geometry.camera import rig
from t4d.geometry.gltf_scene import SceneGraph
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import Object3D, load_object
from t4d.geometry.shading import shade_vertices
from t4d.paths import shared_dir
from t4d.splat.binding import bind_gaussians
from t4d.splat.render import render_gaussians

pytestmark = pytest.mark.data

ROOT = shared_dir()
FOLDER = ROOT / "data/real3d/edge_cases" if ROOT else Path("absent")


@dataclass(frozen=True)
class Outcome:
    """What must become of a file.

    Attributes:
        refused: words of the one sentence, or "" where it is used.
        note: words of its only note, or "" for none.
        vertices, triangles: counts.
        clips: (display name, seconds) of each.
        color: mean sRGB of its Gaussians without light, or None.
    """

    refused: str = ""
    note: str = ""
    vertices: int = 0
    triangles: int = 0
    clips: tuple[tuple[str, float], ...] = ()
    color: tuple[float, float, float] | None = None


OUTCOMES = {
    "Wasp_nan_skin_weights.glb": Outcome(
        note="6 vertices of Wasp_nan_skin_weights.glb have skin weights that are not numbers; they were repaired",
        vertices=7472,
        triangles=3734,
        clips=(("Wasp_Attack", 0.75), ("Wasp_Death", 0.75), ("Wasp_Flying", 1.5)),
    ),
    "missing_external_texture.glb": Outcome(
        note="The texture file Textures/colormap.png is missing beside missing_external_texture.glb",
        vertices=1664,
        triangles=946,
        color=(1.0, 1.0, 1.0),
    ),
    "box_meshopt_required.glb": Outcome(refused="needs EXT_meshopt_compression, which is not supported; decompress it"),
    "empty_nodes.glb": Outcome(refused="has no triangles; export it with at least one surface mesh"),
    "sparse_morph_cube.glb": Outcome(
        vertices=24,
        triangles=12,
        clips=(("Take 001", 0.0),),
        color=(0.665, 0.665, 0.665),  # 0.4 linear
    ),
    "SimpleSkin_embedded.gltf": Outcome(vertices=10, triangles=8, clips=(("clip 1", 5.5),), color=(1.0, 1.0, 1.0)),
    "box_vertex_colors.glb": Outcome(vertices=24, triangles=12),
}


def used(name: str) -> Object3D:
    return load_object(FOLDER / name)


def test_every_file_has_an_outcome(shared_data: Path) -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(OUTCOMES)


@pytest.mark.parametrize("name", [name for name, outcome in OUTCOMES.items() if outcome.refused])
def test_refused_in_one_sentence(shared_data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.glb"
    for attempt in (lambda: load_object(FOLDER / name), lambda: list(bake_file(FOLDER / name, out))):
        with pytest.raises(InputError) as caught:
            attempt()
        message = str(caught.value)
        assert message.startswith(name) and OUTCOMES[name].refused in message
        assert message.endswith(".") and "\n" not in message and message.count(". ") == 0
    assert not out.exists()


@pytest.mark.parametrize("name", [name for name, outcome in OUTCOMES.items() if not outcome.refused])
def test_used_from_the_file_to_the_picture(shared_data: Path, tmp_path: Path, name: str) -> None:
    outcome, obj = OUTCOMES[name], used(name)
    assert (len(obj.mesh.vertices), len(obj.mesh.faces)) == (outcome.vertices, outcome.triangles)
    assert tuple((clip.display_name, clip.duration) for clip in obj.clips) == outcome.clips
    assert [outcome.note in note for note in obj.notes] == ([True] if outcome.note else [])
    normaliser = Normaliser.fit_static(obj)
    for index, clip in enumerate(obj.clips):
        for share in (0.0, 0.31, 1.0):
            posed = normaliser.apply(obj.pose(index, share * clip.duration))
            assert np.isfinite(posed).all() and np.abs(posed).max() < 5
    vertices = normaliser.apply(obj.rest_vertices())
    plain, _ = bind_gaussians(obj.mesh, vertices, 200)
    if outcome.color is not None:
        assert np.allclose(plain.colors().mean(0), outcome.color, atol=0.01)
    lit, _ = bind_gaussians(obj.mesh, vertices, 200, shade_vertices(obj.mesh, vertices))
    rgba = render_gaussians(lit, rig(width=40, height=32))
    assert torch.isfinite(rgba).all() and rgba[:, 3].amax((1, 2)).max() > 0.8
    steps = list(bake_file(FOLDER / name, tmp_path / "out.glb", samples=4, vertices=500))
    assert any("animated" in note for note in steps[-1].notes) == bool(obj.clips)
    baked = load_object(tmp_path / "out.glb")
    assert baked.clips == [] and baked.notes == [] and baked.mesh.vertex_color is not None
    assert np.isfinite(baked.mesh.vertex_color).all()
    extent = np.ptp(obj.rest_vertices(), axis=0)
    assert np.allclose(np.ptp(baked.mesh.vertices, axis=0), extent, atol=1e-5 * extent.max())


def test_wasp_moves_in_one_piece(shared_data: Path) -> None:
    """Repaired vertices follow their neighbours: no edge grows wildly."""
    obj = used("Wasp_nan_skin_weights.glb")
    edges = obj.mesh.faces[:, :2]
    rest = obj.rest_vertices()
    diagonal = np.linalg.norm(np.ptp(rest, axis=0))
    for clip in range(3):
        posed = obj.pose(clip, 0.4)
        length = np.linalg.norm(posed[edges[:, 0]] - posed[edges[:, 1]], axis=1)
        before = np.linalg.norm(rest[edges[:, 0]] - rest[edges[:, 1]], axis=1)
        assert (length - before).max() < 0.1 * diagonal


def test_sparse_morph_is_read_where_it_says(shared_data: Path) -> None:
    """The target is a sparse accessor without buffer view: 12 of 24 vertices go 0.015 along x, the others stay."""
    obj = used("sparse_morph_cube.glb")
    scene = obj.poser
    assert isinstance(scene, SceneGraph)
    (part,) = scene.parts
    assert part.morphs is not None and part.morphs.shape == (1, 24, 3)
    moved = part.morphs[0, :, 0] != 0
    assert moved.sum() == 12 and np.allclose(part.morphs[0, moved], [0.015, 0, 0], atol=1e-9)
    assert (part.morphs[0, ~moved] == 0).all()
    assert np.array_equal(obj.pose(0, 0.0), obj.rest_vertices())  # its only key has weight 0
    scene.clips[0][0].values[:] = 0.5
    assert np.allclose(obj.pose(0, 0.0) - obj.rest_vertices(), 0.5 * part.morphs[0], atol=1e-8)
    moved_cube = obj.rest_vertices() + part.morphs[0]
    assert np.allclose(np.ptp(moved_cube, axis=0), [0.025, 0.01, 0.01], atol=1e-7)  # one side is pulled out


def test_simple_skin_bends_as_worked_out_by_hand(shared_data: Path) -> None:
    """Khronos' tutorial: joints at (0, 1), bound at (.5, 1); the upper one turns by 90 degrees until 1.5 s."""
    obj = used("SimpleSkin_embedded.gltf")
    x, y = np.tile([0.0, 1.0], 5), np.repeat([0, 0.5, 1, 1.5, 2], 2)
    weight = np.repeat([0, 0.25, 0.5, 0.75, 1.0], 2)[:, None]
    at_rest = np.stack([x - 0.5, y, 0 * x], axis=1)
    assert np.allclose(obj.pose(0, 0.0), at_rest, atol=1e-6)
    turned = np.stack([-(y - 1), x - 0.5 + 1, 0 * x], axis=1)
    assert np.allclose(obj.pose(0, 1.5), (1 - weight) * at_rest + weight * turned, atol=1e-6)


def test_vertex_colours_are_the_files_own(shared_data: Path) -> None:
    """COLOR_0 times the material's 0.8, linear; each corner's colour is found at that corner."""
    from t4d.geometry.shading import surface_rgba_linear

    mesh = used("box_vertex_colors.glb").mesh
    assert mesh.vertex_color is not None and mesh.uv is not None and np.ptp(mesh.vertex_color[:, :3]) > 0.5
    rows = np.repeat(np.arange(12), 3)
    seen = surface_rgba_linear(mesh, rows, np.tile(np.eye(3), (12, 1)))
    assert np.allclose(seen[:, :3], 0.8 * mesh.vertex_color[mesh.faces.reshape(-1), :3], atol=1e-6)


@pytest.mark.parametrize("name", ["MorphStressTest.glb", "RobotExpressive.glb"])
def test_morph_targets_against_the_raw_file(shared_data: Path, name: str) -> None:
    """Each target, read here from the bytes, moves exactly its vertices when its weight is one."""
    path = shared_data / "data/real3d/animated" / name
    gltf: Any = pygltflib.GLTF2().load(str(path))
    scene = load_object(path).poser
    assert isinstance(scene, SceneGraph)
    blob = gltf.binary_blob()

    def vec3(index: int) -> np.ndarray:
        accessor = gltf.accessors[index]
        view = gltf.bufferViews[accessor.bufferView]
        assert accessor.sparse is None and view.byteStride in (None, 12)
        start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
        return np.frombuffer(blob, "<f4", 3 * accessor.count, start).reshape(-1, 3)

    morphed = 0
    at = 0
    for part in scene.parts:
        count = len(part.positions)
        if part.morphs is not None and part.skin is None:
            mesh = gltf.meshes[gltf.nodes[part.node].mesh]
            (primitive,) = [p for p in mesh.primitives if np.array_equal(vec3(p.attributes.POSITION), part.positions)]
            for index, target in enumerate(primitive.targets):
                delta = vec3(target["POSITION"] if isinstance(target, dict) else target.POSITION)
                assert np.array_equal(part.morphs[index], delta)
                stored = scene.nodes[part.node].weights
                scene.nodes[part.node].weights = np.eye(len(part.morphs))[index]
                world = world_matrix(scene, part.node)
                expected = (part.positions + delta) @ world[:3, :3].T + world[:3, 3]
                found = scene.vertices(None, 0.0)[at : at + count]
                scene.nodes[part.node].weights = stored
                assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())
                morphed += bool(np.abs(delta).max() > 0)
        at += count
    assert morphed >= (8 if name.startswith("Morph") else 3)


def world_matrix(scene: SceneGraph, node: int) -> np.ndarray:
    """World matrix of a node, multiplied up its chain of parents by scipy's rotations."""
    from scipy.spatial.transform import Rotation

    matrix = np.eye(4)
    while node >= 0:
        found = scene.nodes[node]
        local = np.eye(4)
        if found.matrix is not None:
            local = found.matrix
        else:
            local[:3, :3] = Rotation.from_quat(found.rotation, scalar_first=True).as_matrix() * found.scale
            local[:3, 3] = found.translation
        matrix = local @ matrix
        node = found.parent
    return matrix
