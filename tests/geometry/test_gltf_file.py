"""What the glTF reader must survive, each case written byte by byte."""

import base64
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from glb_files import TETRAHEDRON, TETRAHEDRON_FACES, TRIANGLE, GlbBuilder, tetrahedron
from PIL import Image

from t4d.errors import InputError
from t4d.geometry import object3d
from t4d.geometry.object3d import load_object, object_files


def png(color: tuple[int, ...], size: tuple[int, int] = (3, 2)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB" if len(color) == 3 else "RGBA", size, color).save(stream, "PNG")
    return stream.getvalue()


def textured(uri: str | None = None, transform: dict | None = None) -> GlbBuilder:
    builder = tetrahedron()
    uv = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)
    builder.json["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"] = builder.accessor(uv)
    builder.json["meshes"][0]["primitives"][0]["material"] = 0
    info: dict = {"index": 0}
    if transform:
        info["extensions"] = {"KHR_texture_transform": transform}
    builder.json["materials"] = [{"name": "skin", "pbrMetallicRoughness": {"baseColorTexture": info}}]
    builder.json["textures"] = [{"source": 0}]
    image = {"uri": uri} if uri else {"bufferView": builder.view(png((200, 100, 50))), "mimeType": "image/png"}
    builder.json["images"] = [image]
    return builder


def test_plain_file(tmp_path: Path) -> None:
    obj = load_object(tetrahedron().write(tmp_path / "tetra.glb"))
    np.testing.assert_array_equal(obj.rest_vertices(), TETRAHEDRON)
    np.testing.assert_array_equal(obj.mesh.faces, TETRAHEDRON_FACES)
    assert obj.name == "tetra" and obj.up == "y" and not obj.clips and not obj.notes


def test_interleaved_attributes_with_offset(tmp_path: Path) -> None:
    builder = GlbBuilder()
    rows = np.zeros((4, 10), np.float32)  # 4 floats before, then position, then uv, then padding
    rows[:, 3:6] = TETRAHEDRON
    rows[:, 6:8] = [[0.1, 0.2], [0.3, 0.4], [0.5, 0.6], [0.7, 0.8]]
    view = builder.view(rows.tobytes(), stride=40)
    position = builder.add_accessor(
        {"bufferView": view, "byteOffset": 12, "componentType": 5126, "count": 4, "type": "VEC3"}
    )
    uv = builder.add_accessor({"bufferView": view, "byteOffset": 24, "componentType": 5126, "count": 4, "type": "VEC2"})
    attributes = {"POSITION": position, "TEXCOORD_0": uv}
    indices = builder.accessor(TETRAHEDRON_FACES.reshape(-1))
    builder.json["meshes"][0]["primitives"].append({"attributes": attributes, "indices": indices})
    obj = load_object(builder.write(tmp_path / "a.glb"))
    np.testing.assert_array_equal(obj.rest_vertices(), TETRAHEDRON)
    assert obj.mesh.uv is not None
    np.testing.assert_allclose(obj.mesh.uv, rows[:, 6:8])


@pytest.mark.parametrize(("dtype", "top"), [("i2", 32767), ("i1", 127), ("u2", 65535), ("u1", 255)])
def test_normalised_integers(tmp_path: Path, dtype: str, top: int) -> None:
    builder = GlbBuilder()
    stored = (TRIANGLE / 2 * top).astype(dtype)
    padded = np.zeros((3, 4), dtype)
    padded[:, :3] = stored
    record = {
        "bufferView": builder.view(padded.tobytes(), stride=4 * np.dtype(dtype).itemsize),
        "componentType": {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123}[dtype],
        "count": 3,
        "type": "VEC3",
        "normalized": True,
    }
    builder.json["extensionsRequired"] = ["KHR_mesh_quantization"]
    builder.json["nodes"][0]["scale"] = [2, 2, 2]
    builder.json["meshes"][0]["primitives"].append({"attributes": {"POSITION": builder.add_accessor(record)}})
    np.testing.assert_allclose(load_object(builder.write(tmp_path / "a.glb")).rest_vertices(), TRIANGLE, atol=2 / top)


@pytest.mark.parametrize("base", [True, False])
def test_sparse_accessor(tmp_path: Path, base: bool) -> None:
    builder = GlbBuilder()
    stored = TETRAHEDRON.copy() if base else np.zeros_like(TETRAHEDRON)
    expected = stored.copy()
    rows = np.array([1, 2, 3], np.uint16)
    expected[rows] = [[5, 0, 0], [0, 6, 0], [0, 0, 7]]
    record: dict = {"componentType": 5126, "count": 4, "type": "VEC3"}
    if base:
        record["bufferView"] = builder.view(stored.tobytes())
    record["sparse"] = {
        "count": 3,
        "indices": {"bufferView": builder.view(rows.tobytes()), "componentType": 5123},
        "values": {"bufferView": builder.view(expected[rows].tobytes())},
    }
    attributes = {"POSITION": builder.add_accessor(record)}
    indices = builder.accessor(TETRAHEDRON_FACES.reshape(-1))
    builder.json["meshes"][0]["primitives"].append({"attributes": attributes, "indices": indices})
    np.testing.assert_array_equal(load_object(builder.write(tmp_path / "a.glb")).rest_vertices(), expected)


def test_strips_fans_and_points(tmp_path: Path) -> None:
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 0]], np.float32)
    builder = GlbBuilder()
    builder.primitive(positions, mode=5)
    builder.primitive(positions[[0, 1, 3, 2]], mode=6)
    builder.primitive(positions, mode=0)
    obj = load_object(builder.write(tmp_path / "a.glb"))
    np.testing.assert_array_equal(obj.mesh.faces, [[0, 1, 2], [2, 1, 3], [2, 3, 4], [5, 6, 7], [5, 7, 8]])
    assert (obj.mesh.face_normals()[:, 2] > 0).all()  # the strip's alternate winding is undone
    assert len(obj.notes) == 1 and "points or lines" in obj.notes[0]


def test_mirrored_node_keeps_its_outside_outside(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.json["nodes"][0]["scale"] = [-1, 1, 1]
    mesh = load_object(builder.write(tmp_path / "a.glb")).mesh
    centres = mesh.vertices[mesh.faces].mean(1) - mesh.vertices.mean(0)
    assert ((mesh.face_normals() * centres).sum(1) > 0).all()


def test_embedded_texture_and_transform(tmp_path: Path) -> None:
    """offset + rotation (counter-clockwise in the image, v down) * scale * uv, as KHR_texture_transform says."""
    transform = {"offset": [0.25, 0.5], "rotation": np.pi / 2, "scale": [2.0, 3.0]}
    obj = load_object(textured(transform=transform).write(tmp_path / "a.glb"))
    texture = obj.mesh.materials[0].texture
    assert texture is not None and texture.shape == (2, 3, 3) and tuple(texture[0, 0]) == (200, 100, 50)
    assert obj.mesh.uv is not None
    np.testing.assert_allclose(obj.mesh.uv, [[0.25, 0.5], [0.25, -1.5], [3.25, 0.5], [3.25, -1.5]], atol=1e-6)


def test_external_texture_beside_below_and_missing(tmp_path: Path) -> None:
    (tmp_path / "Text ures").mkdir()
    (tmp_path / "Text ures" / "a.png").write_bytes(png((1, 2, 3)))
    for uri in ("Text%20ures/a.png", "Text ures\\a.png"):
        path = textured(uri).write(tmp_path / "a.glb")
        texture = load_object(path).mesh.materials[0].texture
        assert texture is not None and tuple(texture[0, 0]) == (1, 2, 3)
        assert object_files(path) == [path, tmp_path / "Text ures" / "a.png"]
    path = textured("gone/skin.png").write(tmp_path / "b.glb")
    obj = load_object(path)
    assert obj.mesh.materials[0].texture is None and object_files(path) == [path]
    assert len(obj.notes) == 1 and "gone/skin.png" in obj.notes[0]


def test_undecodable_texture_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture")
    obj = load_object(textured("a.png").write(tmp_path / "a.glb"))
    assert obj.mesh.materials[0].texture is None and "a.png cannot be decoded" in obj.notes[0]


@pytest.mark.parametrize("kind", ["gigantic", "postscript"])
def test_dangerous_pictures_are_noted(tmp_path: Path, kind: str) -> None:
    """A header that promises 400 million pixels; PostScript, for which Pillow would start another program."""
    head = struct.pack(">IIBBBBB", 20000, 20000, 8, 6, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    eps = io.BytesIO()
    Image.new("RGB", (2, 2)).save(eps, "EPS")
    data = b"\x89PNG\r\n\x1a\n" + chunk + end if kind == "gigantic" else eps.getvalue()
    (tmp_path / "a.png").write_bytes(data)
    obj = load_object(textured("a.png").write(tmp_path / "a.glb"))
    assert obj.mesh.materials[0].texture is None and "a.png cannot be decoded" in obj.notes[0]
    assert ("exceeds limit" if kind == "gigantic" else "no picture of a known kind") in obj.notes[0]


@pytest.mark.parametrize(
    "uri",
    ["../secret.png", "/etc/hostname", "%2e%2e/secret.png", "file:///etc/hostname", "..\\secret.png", "a/../../x"],
)
def test_references_outside_the_folder_are_refused(tmp_path: Path, uri: str) -> None:
    (tmp_path / "secret.png").write_bytes(png((9, 9, 9)))
    (tmp_path / "inner").mkdir()
    path = textured(uri).write(tmp_path / "inner" / "a.glb")
    with pytest.raises(InputError, match="outside its own folder"):
        load_object(path)
    assert object_files(path) == [path]


def test_symbolic_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png((9, 9, 9)))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(InputError, match="outside its own folder"):
        load_object(textured("link.png").write(tmp_path / "inner" / "a.glb"))


def test_gltf_with_external_and_embedded_buffers(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.json["buffers"][0].update(byteLength=len(builder.blob), uri="data.bin")
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps(builder.json))
    with pytest.raises(InputError, match=r"data\.bin, which is missing"):
        load_object(path)
    (tmp_path / "data.bin").write_bytes(builder.blob)
    np.testing.assert_array_equal(load_object(path).rest_vertices(), TETRAHEDRON)
    assert object_files(path) == [path, tmp_path / "data.bin"]
    embedded = base64.b64encode(builder.blob).decode()
    builder.json["buffers"][0]["uri"] = "data:application/octet-stream;base64," + embedded
    path.write_text(json.dumps(builder.json))
    np.testing.assert_array_equal(load_object(path).rest_vertices(), TETRAHEDRON)


def test_several_materials_colors_and_factor(tmp_path: Path) -> None:
    builder = GlbBuilder()
    first = builder.primitive(TETRAHEDRON, TETRAHEDRON_FACES, material=1)
    first["attributes"]["COLOR_0"] = builder.accessor(np.tile([255, 0, 51], (4, 1)).astype(np.uint8), normalized=True)
    builder.primitive(TRIANGLE)
    builder.json["materials"] = [
        {"pbrMetallicRoughness": {}},
        {"pbrMetallicRoughness": {"baseColorFactor": [0.1, 0.2, 0.3, 0.4]}, "alphaMode": "BLEND"},
    ]
    builder.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"] = first["attributes"]["COLOR_0"]
    # Three bytes a colour are not aligned to four; readers must follow the accessor, not the alignment.
    mesh = load_object(builder.write(tmp_path / "a.glb")).mesh
    np.testing.assert_array_equal(mesh.face_material, [1, 1, 1, 1, 2])
    np.testing.assert_allclose(mesh.materials[1].base_color_factor, [0.1, 0.2, 0.3, 0.4])
    assert mesh.materials[1].alpha_mode == "BLEND" and mesh.vertex_color is not None
    np.testing.assert_allclose(mesh.vertex_color[0], [1, 0, 0.2, 1])
    np.testing.assert_allclose(mesh.vertex_color[-1], 1)


def test_draco(tmp_path: Path) -> None:
    draco = pytest.importorskip("DracoPy")
    builder = GlbBuilder()
    data = draco.encode(TETRAHEDRON, TETRAHEDRON_FACES.astype(np.uint32), quantization_bits=20, preserve_order=True)
    position = builder.add_accessor({"componentType": 5126, "count": 4, "type": "VEC3"})
    indices = builder.add_accessor({"componentType": 5125, "count": 12, "type": "SCALAR"})
    extension = {"bufferView": builder.view(data), "attributes": {"POSITION": 0}}
    primitive = {"attributes": {"POSITION": position}, "indices": indices}
    builder.json["meshes"][0]["primitives"].append(
        {**primitive, "extensions": {"KHR_draco_mesh_compression": extension}}
    )
    builder.json["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    mesh = load_object(builder.write(tmp_path / "a.glb")).mesh
    np.testing.assert_allclose(mesh.vertices[mesh.faces], TETRAHEDRON[TETRAHEDRON_FACES], atol=1e-4)


def check_refused(path: Path, *words: str, **options: int) -> None:
    """One sentence, naming the words, not a traceback's text over several lines."""
    with pytest.raises(InputError) as caught:
        load_object(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "extension", ["EXT_meshopt_compression", "KHR_texture_basisu", "EXT_mesh_gpu_instancing", "ACME_unheard_of"]
)
def test_required_extensions_we_lack_are_named(tmp_path: Path, extension: str) -> None:
    builder = tetrahedron()
    builder.json["extensionsRequired"] = [extension]
    check_refused(builder.write(tmp_path / "a.glb"), "a.glb", extension)


def test_harmless_required_extensions_are_accepted(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.json["extensionsRequired"] = ["KHR_materials_unlit", "KHR_lights_punctual", "KHR_texture_transform"]
    assert len(load_object(builder.write(tmp_path / "a.glb")).mesh.faces) == 4


def test_not_3d(tmp_path: Path) -> None:
    for name, data, words in (
        ("a.txt", b"hello", ("known 3D format",)),
        ("a.glb", b"", ("whole binary glTF",)),
        ("b.glb", b"PK\x03\x04" + bytes(100), ("whole binary glTF", "PK")),
        ("c.glb", tetrahedron().bytes()[:-40], ("bytes are there",)),
        ("d.gltf", b"<html></html>", ("JSON cannot be read",)),
        ("e.gltf", b'{"a": 1}', ("no asset record",)),
        ("f.gltf", b'{"asset": {"version": "1.0"}}', ("version '1.0'",)),
        ("g.gltf", b"[" * 100_000, ("JSON",)),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        check_refused(path, name, *words)
    check_refused(tmp_path / "absent.glb", "does not exist")
    check_refused(tmp_path, "known 3D format")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tetrahedron().write(tmp_path / "a.glb")
    check_refused(path, "MB", max_bytes=100)
    monkeypatch.setattr(object3d, "MAX_TRIANGLES", 3)
    check_refused(path, "4 triangles")


def test_a_300_mb_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    with path.open("wb") as stream:
        stream.truncate(300_000_000)
    check_refused(path, "300 MB", "200 MB")


def test_a_lying_count_is_refused_without_allocating_it(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.json["accessors"][0]["count"] = 4_000_000_000
    check_refused(builder.write(tmp_path / "a.glb"), "4000000000")
    builder.json["accessors"][0]["count"] = 1_000_000
    check_refused(builder.write(tmp_path / "b.glb"), "damaged")


def test_no_triangles_and_nothing_but_a_point(tmp_path: Path) -> None:
    builder = GlbBuilder()
    check_refused(builder.write(tmp_path / "a.glb"), "no triangles")
    builder.primitive(np.zeros((3, 3), np.float32))
    check_refused(builder.write(tmp_path / "b.glb"), "no size")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_positions_that_are_not_finite(tmp_path: Path, value: float) -> None:
    builder = GlbBuilder()
    broken = TETRAHEDRON.copy()
    broken[2, 1] = value
    builder.primitive(broken, TETRAHEDRON_FACES)
    check_refused(builder.write(tmp_path / "a.glb"), "1 vertices", "not finite")


def test_faces_out_of_range(tmp_path: Path) -> None:
    builder = GlbBuilder()
    builder.primitive(TRIANGLE, np.array([[0, 1, 3]], np.uint16))
    check_refused(builder.write(tmp_path / "a.glb"), "do not exist")


def test_node_cycle(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.json["nodes"] = [{"mesh": 0, "children": [1]}, {"children": [0]}]
    check_refused(builder.write(tmp_path / "a.glb"), "two parents")


def leaves(record: object) -> list[tuple]:
    """Every (container, key) in a JSON tree."""
    items = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    return [pair for key, value in items for pair in [(record, key), *leaves(value)]]


def test_random_damage_is_always_an_input_error(tmp_path: Path) -> None:
    """Replaced JSON members and flipped bytes load or are refused by InputError; nothing else, and never a NaN."""
    random = np.random.default_rng(0)
    outcomes = {"loaded": 0, "refused": 0}
    path = tmp_path / "a.glb"
    wrong = [-1, 0, 1, 7, 5120, 2**40, 1e300, None, "x", [], {}, [[]], True]
    for _ in range(400):
        builder = textured(transform={"scale": [1.0, 2.0]})
        builder.animation(0, "rotation", [0.0, 1.0], [[0, 0, 0, 1], [0, 0, 1, 0]])
        container, key = (found := leaves(builder.json))[random.integers(len(found))]
        container[key] = wrong[random.integers(len(wrong))]
        try:
            data = bytearray(builder.bytes())
        except (TypeError, KeyError, IndexError, AttributeError):
            continue  # the builder itself needs the damaged member
        for position in random.integers(len(data) - len(builder.blob), len(data), 2):
            data[position] = random.integers(256)
        path.write_bytes(data)
        try:
            obj = load_object(path)
            assert np.isfinite(obj.rest_vertices()).all()
            assert all(np.isfinite(obj.pose(index, 0.3)).all() for index in range(len(obj.clips)))
            outcomes["loaded"] += 1
        except InputError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 30
