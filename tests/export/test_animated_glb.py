"""The animated .glb, read back by our own loader and by its bytes."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_objects import bend, rich_glb, textured_obj, tube, z_up_ply

from t4d.errors import InputError
from t4d.export.animated_glb import turned, write_animated_glb
from t4d.export.follow import MeshFollower
from t4d.export.glb_builder import VERTICES, GlbBuilder, extension_names
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import Object3D, load_object
from t4d.splat.binding import MeshBinding, bind_gaussians
from t4d.splat.gaussians import Gaussians

FRAMES, FPS = 5, 8.0


class Moving:
    """An object whose Gaussians follow a bend of its mesh."""

    def __init__(self, path: Path, count: int = 700) -> None:
        self.path, self.loaded = path, load_object(path)
        self.normaliser = Normaliser.fit_static(self.loaded)
        self.rest = self.normaliser.apply(self.loaded.rest_vertices())
        self.gaussians, self.binding = bind_gaussians(self.loaded.mesh, self.rest, count, None, 0)

    def truth(self, frame: int) -> np.ndarray:
        return bend(self.rest, 0.4 * frame)

    def at(self, frame: int) -> Gaussians:
        if frame == 0:
            return self.gaussians
        means, quats = self.binding.pose(self.truth(frame))
        return self.gaussians.replace(means=means, quats=quats)

    def write(self, path: Path, **options: Any) -> tuple[Any, Object3D, dict]:
        report = write_animated_glb(path, self.path, self.binding, self.at, FRAMES, FPS, **options)
        return report, load_object(path), glb_json(path)

    def predicted(self) -> list[np.ndarray]:
        follower = MeshFollower(self.loaded.mesh, self.rest, self.binding, self.gaussians)
        return [follower.vertices(self.at(frame)) for frame in range(FRAMES)]


def glb_json(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])


def test_the_whole_of_a_rich_file(tmp_path):
    """Rest pose, motion at and between keys, materials, pictures, coordinates, colours, names, licence."""
    moving = Moving(rich_glb(tmp_path))
    report, read, document = moving.write(tmp_path / "out.glb")
    source = moving.loaded
    assert report.notes == [] and report.frames == FRAMES and report.size == (tmp_path / "out.glb").stat().st_size
    # geometry: the rest pose of the skinned, mirrored source, triangle for triangle
    assert np.array_equal(read.mesh.vertices, source.mesh.vertices)
    assert np.array_equal(read.mesh.faces, source.mesh.faces)
    # motion
    (clip,) = read.clips
    assert clip.duration == pytest.approx((FRAMES - 1) / FPS) and clip.channels == 2
    predicted = moving.predicted()
    for frame, expected in enumerate(predicted):
        got = moving.normaliser.apply(read.pose(0, frame / FPS))
        assert np.abs(got - expected).max() < 2e-6, frame
        assert np.abs(got - moving.truth(frame)).max() < 5e-3, frame
    between = moving.normaliser.apply(read.pose(0, 2.25 / FPS))
    assert np.abs(between - (0.75 * predicted[2] + 0.25 * predicted[3])).max() < 2e-6
    assert np.abs(predicted[3] - predicted[2]).max() > 0.05
    # looks, as our own loader sees them
    names = ["moved texture", "glowing", "file beside"]
    theirs = {material.name: material for material in source.mesh.materials}
    assert [material.name for material in read.mesh.materials] == [*names, "default"]
    for material in read.mesh.materials[:3]:
        wanted = theirs[material.name]
        for name, value in vars(wanted).items():
            found = getattr(material, name)
            assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value, name
    assert read.mesh.uv is not None and source.mesh.uv is not None
    assert read.mesh.vertex_color is not None and source.mesh.vertex_color is not None
    assert np.allclose(read.mesh.uv, source.mesh.uv, atol=1e-6)
    assert np.array_equal(read.mesh.vertex_color, source.mesh.vertex_color)
    order = {name: index for index, name in enumerate(names)}
    wanted = [order[source.mesh.materials[index].name] for index in source.mesh.face_material]
    assert np.array_equal(read.mesh.face_material, wanted)
    # what else must stay, and what must go
    assert [node["name"] for node in document["nodes"]] == ["mirrored", "skinned"]
    assert [mesh["name"] for mesh in document["meshes"]] == ["two looks", "arm"]
    assert document["asset"]["copyright"] == "CC0 someone" and document["asset"]["extras"] == {"author": "someone"}
    assert document["materials"][0]["extras"] == {"shelf": 7} and document["materials"][0]["doubleSided"]
    assert document["extensionsUsed"] == ["KHR_materials_emissive_strength", "KHR_texture_transform"]
    assert len(document["images"]) == len(document["textures"]) == len(document["samplers"]) == 2
    assert not {"skins", "cameras", "extensionsRequired"} & set(document) and len(document["animations"]) == 1
    for mesh in document["meshes"]:
        assert mesh["weights"] == [0] * (FRAMES - 1) and len(mesh["extras"]["targetNames"]) == FRAMES - 1
        for primitive in mesh["primitives"]:
            assert "JOINTS_0" not in primitive["attributes"] and len(primitive["targets"]) == FRAMES - 1


def accessor(document: dict, data: bytes, index: int) -> np.ndarray:
    """Float values of an accessor, read by its definition."""
    record = document["accessors"][index]
    view = document["bufferViews"][record["bufferView"]]
    start = 20 + struct.unpack("<I", data[12:16])[0] + 8 + view["byteOffset"]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[record["type"]]
    assert record["componentType"] == 5126 and view["byteLength"] == record["count"] * width * 4
    values = np.frombuffer(data, "<f4", record["count"] * width, start).reshape(-1, width)
    for name, extreme in (("min", values.min(0)), ("max", values.max(0))):
        assert name not in record or np.array_equal(np.float32(record[name]), extreme)
    return values


def test_normals_turn_with_the_surface(tmp_path):
    """Stored normals of the mirrored and of the skinned part, at rest and after the bend."""
    moving = Moving(rich_glb(tmp_path), count=3000)
    _, read, document = moving.write(tmp_path / "out.glb")
    data, start = (tmp_path / "out.glb").read_bytes(), 0
    # at rest the tube's stored normals are those of its triangles (the caps are open), in each frame likewise
    for mesh in document["meshes"]:
        for primitive in mesh["primitives"]:
            rest = accessor(document, data, primitive["attributes"]["NORMAL"])
            rows = slice(start, start + len(rest))
            start += len(rest)
            for frame in range(FRAMES):
                delta = 0 if frame == 0 else accessor(document, data, primitive["targets"][frame - 1]["NORMAL"])
                smooth = read.mesh.normals(read.pose(0, frame / FPS))[rows]
                assert np.allclose(np.linalg.norm(rest + delta, axis=1), 1, atol=1e-5)
                assert ((rest + delta) * smooth).sum(1).min() > 0.93, (mesh["name"], frame)
    assert start == len(read.mesh.vertices)


def test_turned_is_the_smallest_rotation():
    rng = np.random.default_rng(0)
    before, after, vectors = (rng.normal(size=(50, 3)) for _ in range(3))
    before, after, vectors = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (before, after, vectors))
    assert np.allclose(turned(before, before, after), after)
    assert np.allclose(turned(turned(vectors, before, after), after, before), vectors)
    axis = np.cross(before, after)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    assert np.allclose(turned(axis, before, after), axis)  # what is perpendicular to both stays
    assert np.allclose((turned(vectors, before, after) * after).sum(1), (vectors * before).sum(1))  # angles are kept
    assert np.allclose(turned(before, before, -before), -before)
    assert np.isfinite(turned(vectors, before, -before)).all()


def test_obj_keeps_its_texture(tmp_path):
    moving = Moving(textured_obj(tmp_path))
    _, read, document = moving.write(tmp_path / "out.glb")
    source = moving.loaded.mesh
    # vertices without triangles in a part are left out; corners are compared
    for ours, theirs in ((read.mesh.vertices, source.vertices), (read.mesh.uv, source.uv)):
        assert ours is not None and theirs is not None
        assert np.allclose(ours[read.mesh.faces], theirs[source.faces], atol=1e-6)
    by_name = {material.name: material for material in read.mesh.materials}
    for material in source.materials:
        found = by_name[material.name]
        assert np.allclose(found.base_color_factor, material.base_color_factor)
        assert (found.texture is None) == (material.texture is None)
        if material.texture is not None:
            assert found.texture is not None and np.array_equal(found.texture, material.texture)
    assert {material.get("doubleSided") for material in document["materials"]} == {True}
    moved = moving.normaliser.apply(read.pose(0, 4 / FPS))[read.mesh.faces]
    assert np.abs(moved - moving.truth(4)[source.faces]).max() < 5e-3


def test_a_z_up_file_is_turned_to_y_up(tmp_path):
    moving = Moving(z_up_ply(tmp_path))
    _, read, _ = moving.write(tmp_path / "out.glb")
    x, y, z = moving.loaded.mesh.vertices.T
    assert moving.loaded.up == "z" and read.up == "y"
    assert np.allclose(read.mesh.vertices, np.stack([x, z, -y], 1), atol=1e-7)
    world = Normaliser.fit_static(read).apply(read.pose(0, 3 / FPS))
    assert np.abs(world - moving.truth(3)).max() < 5e-3


def flat_source(path: Path) -> Path:
    """The tube without normals, texture or material."""
    vertices, faces, _, _ = tube(rings=4, sides=6)
    builder = GlbBuilder({"asset": {"version": "2.0"}, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]})
    position = builder.accessor(vertices, "<f4", target=VERTICES, bounds=True)
    indices = builder.accessor(faces.ravel(), "<u4")
    builder.document["meshes"] = [{"primitives": [{"attributes": {"POSITION": position}, "indices": indices}]}]
    builder.save(path)
    return path


def test_a_source_without_normals_stays_flat(tmp_path):
    moving = Moving(flat_source(tmp_path / "flat.glb"))
    report, _, document = moving.write(tmp_path / "out.glb")
    (primitive,) = document["meshes"][0]["primitives"]
    assert set(primitive["attributes"]) == {"POSITION"} and set(primitive["targets"][0]) == {"POSITION"}
    assert "materials" not in document and report.notes == [] and not report.normals


def test_moving_normals_have_a_budget(tmp_path):
    moving = Moving(rich_glb(tmp_path))
    full, _, _ = moving.write(tmp_path / "a.glb")
    small, read, document = moving.write(tmp_path / "b.glb", normals_budget=1000)
    assert full.normals and not small.normals and "MB" in small.notes[0] and small.size < 0.8 * full.size
    primitive = document["meshes"][0]["primitives"][0]
    assert "NORMAL" in primitive["attributes"] and "NORMAL" not in primitive["targets"][0]
    assert np.array_equal(read.pose(0, 0.5), load_object(tmp_path / "a.glb").pose(0, 0.5))


def test_a_missing_picture_is_said_and_left_out(tmp_path):
    moving = Moving(rich_glb(tmp_path))
    (tmp_path / "beside it.png").unlink()
    report, read, document = moving.write(tmp_path / "out.glb")
    assert len(report.notes) == 1 and "beside%20it.png is missing" in report.notes[0]
    assert len(document["images"]) == 1
    assert next(m for m in read.mesh.materials if m.name == "file beside").texture is None


@pytest.mark.parametrize("index", [99, -1])
def test_a_texture_that_is_not_there_is_said_and_left_out(tmp_path, index):
    """Loading looks at colour only: a broken normal map must not cost the export after a long fit."""
    path = rich_glb(tmp_path)
    data, document = path.read_bytes(), glb_json(path)
    document["materials"][1]["normalTexture"] = {"index": index}
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + data[20 + struct.unpack("<I", data[12:16])[0] :]
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    report, _, written = Moving(path, count=200).write(tmp_path / "out.glb")
    assert len(report.notes) == 1 and f"normalTexture of a material of {path.name}" in report.notes[0]
    looks = next(m for m in written["materials"] if m["name"] == "moved texture")
    assert "normalTexture" not in looks and "baseColorTexture" in looks["pbrMetallicRoughness"]


def test_refusals(tmp_path):
    moving = Moving(rich_glb(tmp_path), count=200)
    out = tmp_path / "out.glb"
    with pytest.raises(InputError, match="1 frames at 8"):
        write_animated_glb(out, moving.path, moving.binding, moving.at, 1, FPS)
    with pytest.raises(InputError, match="per second"):
        write_animated_glb(out, moving.path, moving.binding, moving.at, 4, 0.0)
    with pytest.raises(InputError, match="does not belong"):
        write_animated_glb(out, flat_source(tmp_path / "flat.glb"), moving.binding, moving.at, 4, FPS)

    def broken(frame: int) -> Gaussians:
        gaussians = moving.at(frame)
        return gaussians if frame < 2 else gaussians.replace(means=gaussians.means * torch.nan)

    with pytest.raises(InputError, match="NaN"):
        write_animated_glb(out, moving.path, moving.binding, broken, 4, FPS)
    assert not out.exists()


def test_binding_of_another_pose_is_refused(tmp_path):
    """A binding made of another object with as many triangles does not slip through."""
    moving = Moving(rich_glb(tmp_path), count=200)
    shuffled = {**vars(moving.binding), "faces": np.roll(moving.binding.faces, 1)}
    with pytest.raises(InputError, match="does not belong"):
        write_animated_glb(tmp_path / "o.glb", moving.path, MeshBinding(**shuffled), moving.at, 4, FPS)


def contains(whole: Any, part: Any) -> bool:
    """Whether JSON holds other JSON; pygltflib spells out defaults, so there may be more members."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return len(whole) == len(part) and all(contains(a, b) for a, b in zip(whole, part))
    return whole == part


def test_builder_keeps_the_whole_document():
    """pygltflib drops some members of what it reads; of what we write it must drop none."""
    builder = GlbBuilder(
        {
            "asset": {"version": "2.0", "generator": "g", "extras": {"license": "x"}},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            "nodes": [{"name": "n", "mesh": 0}],
            "meshes": [{"name": "m", "weights": [0.0], "extras": {"targetNames": ["frame 1"]}, "primitives": []}],
            "materials": [{"name": "x", "extensions": {"KHR_materials_clearcoat": {"clearcoatFactor": 1.0}}}],
            "extensionsRequired": ["KHR_not_used", "KHR_materials_clearcoat", "KHR_materials_clearcoat"],
        }
    )
    index = builder.accessor(np.eye(3), "<f4", target=VERTICES, bounds=True)
    builder.document["meshes"][0]["primitives"].append(
        {"attributes": {"POSITION": index}, "targets": [{"POSITION": index}], "material": 0}
    )
    written = json.loads(builder.finish().to_json())
    for name, value in builder.document.items():
        expected = ["KHR_materials_clearcoat"] if name == "extensionsRequired" else value
        assert contains(written[name], expected), name
    assert written["extensionsUsed"] == ["KHR_materials_clearcoat"]
    assert extension_names({"extras": {"extensions": {"mine": 1}}, "a": [{"extensions": {"b": {}}}]}) == {"b"}
