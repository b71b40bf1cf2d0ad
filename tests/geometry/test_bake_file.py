"""`bake_file`: an object in, the same object with its light and textures in vertex colours out."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from glb_files import GlbBuilder
from shapes import box

from eval import outside
from t4d.bake import BakeStep, bake_file
from t4d.errors import InputError
from t4d.geometry.baked_light import light_steps
from t4d.geometry.camera import rig
from t4d.geometry.color import linear_to_srgb
from t4d.geometry.fine_mesh import split_for_light
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import Object3D, load_object
from t4d.geometry.occlusion import drain
from t4d.geometry.shading import LightRig, shade_vertices
from t4d.geometry.visibility import render_mesh
from t4d.splat.binding import bind_gaussians

CUBE = """v -1 0 -1\nv 1 0 -1\nv 1 0 1\nv -1 0 1\nv -1 4 -1\nv 1 4 -1\nv 1 4 1\nv -1 4 1
f 1 2 3 4\nf 8 7 6 5\nf 1 5 6 2\nf 2 6 7 3\nf 3 7 8 4\nf 4 8 5 1\n"""


def bake(path: Path, out: Path, **options) -> BakeStep:
    steps = list(bake_file(path, out, **options))
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert all(step.message for step in steps)
    return steps[-1]


def world(loaded: Object3D) -> np.ndarray:
    return Normaliser.fit_static(loaded).apply(loaded.rest_vertices())


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    path = tmp_path / "cube.obj"
    path.write_text(CUBE)
    return path


def test_result_stands_where_the_object_stood(cube: Path, tmp_path: Path) -> None:
    last = bake(cube, tmp_path / "new" / "out.glb", vertices=600)
    out = tmp_path / "new" / "out.glb"
    assert last.message.startswith("out.glb written: ") and last.notes == ()
    before, after = load_object(cube), load_object(out)
    assert after.notes == [] and after.up == "y"
    assert np.allclose(after.mesh.vertices.min(0), [-1, 0, -1], atol=1e-5)
    assert np.allclose(after.mesh.vertices.max(0), [1, 4, 1], atol=1e-5)
    assert after.mesh.face_areas().sum() == pytest.approx(before.mesh.face_areas().sum(), rel=1e-5)
    assert after.mesh.materials[int(after.mesh.face_material.max())].unlit and after.mesh.uv is None
    # the outside reader: same place, same triangles, colours per vertex
    (read,) = trimesh.load_scene(out, process=False).geometry.values()
    assert isinstance(read, trimesh.Trimesh) and len(read.faces) == len(after.mesh.faces)
    assert np.allclose(read.bounds, [[-1, 0, -1], [1, 4, 1]], atol=1e-5)
    assert after.mesh.vertex_color is not None
    visual: Any = read.visual
    stored = np.asarray(visual.vertex_attributes["color"], np.float64)[:, :3] / 65535
    assert np.allclose(read.vertices, after.mesh.vertices) and np.array_equal(read.faces, after.mesh.faces)
    assert np.allclose(stored, after.mesh.vertex_color[:, :3], atol=1e-6) and np.ptp(stored) > 0.3
    head = json.loads(out.read_bytes()[20 : 20 + struct.unpack("<I", out.read_bytes()[12:16])[0]])
    assert head["extensionsUsed"] == ["KHR_materials_unlit"] and "images" not in head
    assert head["asset"]["extras"]["t4d_bake"] == {"source": "cube.obj", "light": "rays", "samples": 64, "seed": 0}


def test_light_of_the_rig_comes_from_above_in_the_world(tmp_path: Path) -> None:
    """In glTF's y-up file the roof is lit and the underside gets nothing but ambient light."""
    block, builder = box(), GlbBuilder()
    builder.primitive(block.vertices[block.faces.reshape(-1)])  # no normals: flat
    (tmp_path / "block.glb").write_bytes(builder.bytes())
    bake(tmp_path / "block.glb", tmp_path / "out.glb", vertices=600)
    mesh = load_object(tmp_path / "out.glb").mesh
    assert mesh.vertex_color is not None
    grey = mesh.vertex_color[mesh.faces, :3].mean((1, 2))
    normals = mesh.face_normals() / np.linalg.norm(mesh.face_normals(), axis=1, keepdims=True)
    for direction in ([0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1], [1, 0, 0], [-1, 0, 0]):
        side = normals @ np.array(direction, float) > 0.99
        z_up = np.array([[direction[0], -direction[2], direction[1]]], float)
        expected = min(float(LightRig().irradiance(z_up)[0, 0]), 1.0)
        assert grey[side].mean() == pytest.approx(expected, abs=0.03)  # the default material is white


def test_baked_object_is_not_lit_again(cube: Path, tmp_path: Path) -> None:
    """Pipeline's own steps: shading and binding leave the baked colours as they are."""
    bake(cube, tmp_path / "out.glb", vertices=600)
    loaded = load_object(tmp_path / "out.glb")
    vertices = world(loaded)
    light = shade_vertices(loaded.mesh, vertices)
    lit, binding = bind_gaussians(loaded.mesh, vertices, 500, light)
    plain, _ = bind_gaussians(loaded.mesh, vertices, 500, None)
    assert np.array_equal(lit.sh.numpy(), plain.sh.numpy())
    assert loaded.mesh.vertex_color is not None
    points = np.einsum(
        "nk,nkc->nc", binding.barycentrics, loaded.mesh.vertex_color[loaded.mesh.faces[binding.faces], :3]
    )
    shown = linear_to_srgb(points)
    assert np.abs(lit.colors().numpy() - shown).mean() < 0.02
    # baking it again changes nothing either
    last = bake(tmp_path / "out.glb", tmp_path / "again.glb", vertices=600)
    assert "unlit already" in last.notes[0]
    again = load_object(tmp_path / "again.glb").mesh
    assert again.vertex_color is not None
    camera = rig(width=40, height=32)[1]
    first = render_mesh(loaded.mesh, vertices, camera)[0]
    second = render_mesh(again, world(load_object(tmp_path / "again.glb")), camera)[0]
    assert (first - second).abs().max() < 0.02


def test_equal_arguments_give_equal_files_and_seeds_differ(cube: Path, tmp_path: Path) -> None:
    names = [tmp_path / f"{i}.glb" for i in range(3)]
    for name, seed in zip(names, (0, 0, 1)):
        bake(cube, name, vertices=300, seed=seed, samples=8)
    assert names[0].read_bytes() == names[1].read_bytes()
    first, other = (load_object(names[i]).mesh.vertex_color for i in (0, 2))
    assert first is not None and other is not None and first.shape == other.shape
    assert 1e-4 < np.abs(first - other).max() < 0.1


def test_z_up_file_becomes_y_up(tmp_path: Path) -> None:
    tower = trimesh.creation.box((1, 1, 4))
    tower.export(tmp_path / "tower.ply")
    bake(tmp_path / "tower.ply", tmp_path / "out.glb", vertices=300)
    assert np.allclose(np.ptp(load_object(tmp_path / "out.glb").mesh.vertices, axis=0), [1, 4, 1], atol=1e-5)
    bake(tmp_path / "tower.ply", tmp_path / "lying.glb", vertices=300, up="y")
    assert np.allclose(np.ptp(load_object(tmp_path / "lying.glb").mesh.vertices, axis=0), [1, 1, 4], atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": 0}, "0 samples were asked for"),
        ({"samples": 10**6}, "1000000 samples were asked for"),
        ({"vertices": 5}, "5 vertices were asked for"),
        ({"out": "out.obj"}, "must be a .glb file"),
        ({"out": "cube.glb"}, "is the object itself"),
        ({"path": "absent.glb"}, "does not exist"),
        ({"up": "x"}, "not an up axis"),
    ],
)
def test_refusals(cube: Path, tmp_path: Path, options: dict, sentence: str) -> None:
    options = dict(options)
    path, out = tmp_path / options.pop("path", cube.name), tmp_path / options.pop("out", "out.glb")
    if out.name == "cube.glb":
        path = out
    with pytest.raises(InputError, match=sentence) as caught:
        bake(path, out, **options)
    assert "\n" not in str(caught.value) and not out.exists()


@pytest.mark.slow
def test_khronos_validator_finds_nothing(tmp_path: Path) -> None:
    try:
        (tmp_path / "node").mkdir()
        node = outside.prepare(tmp_path / "node")
    except outside.NoNode as reason:
        pytest.skip(str(reason))
    block, builder = box(), GlbBuilder()
    for mode, extra in (("OPAQUE", {}), ("MASK", {"alphaCutoff": 0.3}), ("BLEND", {})):
        records = builder.json.setdefault("materials", [])
        factor = [0.5, 0.6, 0.7, 0.8]
        records.append({"alphaMode": mode, "pbrMetallicRoughness": {"baseColorFactor": factor}, **extra})
        corners = block.vertices[block.faces.reshape(-1)] + 4 * len(records)
        builder.primitive(corners.astype(np.float32), material=len(records) - 1)
    (tmp_path / "in.glb").write_bytes(builder.bytes())
    bake(tmp_path / "in.glb", tmp_path / "out.glb", vertices=900)
    assert len(load_object(tmp_path / "out.glb").mesh.materials) == 4  # three and glTF's default
    (issues,) = outside.validate(node, [tmp_path / "out.glb"])
    assert (issues["numErrors"], issues["numWarnings"], issues["numInfos"]) == (0, 0, 0), issues["messages"]


FIGURES = {  # PSNR in the mask of the baked picture against the textured one, lit alike, 160 pixels
    "static/Spot/spot_triangulated.obj": 38.0,
    "animated/Fox.glb": 38.0,
    "static/Duck.glb": 38.0,
}


@pytest.mark.data
@pytest.mark.parametrize("name", FIGURES)
def test_textures_survive(shared_data: Path, tmp_path: Path, name: str) -> None:
    path = shared_data / "data/real3d" / name
    last = bake(path, tmp_path / "out.glb", vertices=12_000, samples=16)
    assert any("animated" in note for note in last.notes) == (name == "animated/Fox.glb")
    source, found = load_object(path), load_object(tmp_path / "out.glb")
    fine = split_for_light(source.mesh, world(source), 12_000)
    light = drain(light_steps(fine, LightRig(), 16, 0))
    errors = []
    for camera in rig(width=160, height=160)[:2]:
        truth = render_mesh(fine.mesh, fine.mesh.vertices, camera, light, supersample=2)[0]
        again = shade_vertices(found.mesh, world(found))  # must not count: the result is unlit
        shown = render_mesh(found.mesh, world(found), camera, again, supersample=2)[0]
        inside = truth[3] > 0.5
        errors.append(float((truth - shown)[:3, inside].square().mean()))
    assert -10 * np.log10(np.mean(errors)) > FIGURES[name]
