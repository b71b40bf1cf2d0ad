"""OBJ and PLY files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t4d.errors import InputError
from t4d.geometry import static_files
from t4d.geometry.color import srgb_to_linear
from t4d.geometry.object3d import load_object, object_files
from t4d.geometry.shading import surface_color

QUAD = "v 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
PLY = """ply
format ascii 1.0
element vertex 3
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
element face {faces}
property list uchar int vertex_indices
end_header
0 0 0 255 0 0
1 0 0 0 255 0
0 1 0 0 0 188
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def corner_colors(path: Path) -> np.ndarray:
    mesh = load_object(path).mesh
    return surface_color(mesh, np.zeros(3, np.int64), np.eye(3) * 0.98 + 0.02 / 3)


def test_obj_with_materials_and_a_texture(tmp_path: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:20, :30], picture[20:, 30:] = (255, 0, 0), (0, 255, 0)  # top left red, bottom right green
    Image.fromarray(picture).save(tmp_path / "t.png")
    write(tmp_path / "m.mtl", "newmtl a\nKd 0.5 0.25 1\n\nnewmtl b\nKd 0.8 0.8 0.8\nmap_Kd t.png\n")
    path = write(tmp_path / "q.obj", f"mtllib m.mtl\n{QUAD}usemtl b\nf 1/1 2/2 3/3 4/4\nusemtl a\nf 1/1 3/3 4/4\n")
    obj = load_object(path)
    mesh = obj.mesh
    assert obj.up == "y" and not obj.notes and len(mesh.faces) == 3
    assert object_files(path) == [path, tmp_path / "m.mtl", tmp_path / "t.png"]
    by_name = {material.name: index for index, material in enumerate(mesh.materials)}
    assert (mesh.face_material == by_name["b"]).sum() == 2
    plain = mesh.materials[by_name["a"]]
    np.testing.assert_allclose(plain.base_color_factor[:3], srgb_to_linear(np.array([0.5, 0.25, 1])), atol=1e-6)
    faces = np.flatnonzero(mesh.face_material == by_name["b"])
    for face in faces:
        colors = surface_color(mesh, np.full(3, face), np.eye(3) * 0.9 + 0.1 / 3)
        for corner, color in zip(mesh.vertices[mesh.faces[face]], colors):
            expected = {(0, 1): (1, 0, 0), (2, 0): (0, 1, 0)}.get((int(corner[0]), int(corner[1])), (0, 0, 0))
            np.testing.assert_allclose(color, expected, atol=1e-6)


def test_obj_without_material_takes_the_picture_beside_it(tmp_path: Path) -> None:
    path = write(tmp_path / "spot.obj", QUAD + "f 1/1 2/2 3/3 4/4\n")
    np.testing.assert_allclose(corner_colors(path), 1.0)
    Image.new("RGB", (2, 2), (188, 0, 0)).save(tmp_path / "spot_texture.png")
    Image.new("RGB", (2, 2), (0, 0, 188)).save(tmp_path / "other.png")
    obj = load_object(path)
    assert "spot_texture.png" in obj.notes[0]
    np.testing.assert_allclose(corner_colors(path), [[188 / 255, 0, 0]] * 3, atol=1e-5)
    assert object_files(path) == [path, tmp_path / "spot_texture.png"]


def test_seams_share_a_normal(tmp_path: Path) -> None:
    """Two triangles folded at an edge whose texture coordinates differ: split vertices, one normal."""
    text = "v 0 0 0\nv 0 1 0\nv -1 0 1\nv 1 0 1\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3\nf 2/3 1/4 4/1\n"
    mesh = load_object(write(tmp_path / "a.obj", text)).mesh
    assert len(mesh.vertices) > 4
    on_edge = np.abs(mesh.vertices[:, [0, 2]]).sum(1) == 0
    normals = mesh.normals()[on_edge]
    np.testing.assert_allclose(np.abs(normals), np.abs(np.tile([[0, 0, 1]], (len(normals), 1))), atol=1e-6)


def test_obj_missing_library_and_texture_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.obj", "mtllib gone.mtl\n" + QUAD + "usemtl x\nf 1/1 2/2 3/3\n")
    assert "gone.mtl, which is missing" in load_object(path).notes[0]
    write(tmp_path / "gone.mtl", "newmtl x\nmap_Kd lost.png\n")
    assert "lost.png, which is missing" in load_object(path).notes[0]


def test_obj_may_not_look_outside_its_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    write(tmp_path / "m.mtl", "newmtl x\n")
    Image.new("RGB", (2, 2)).save(tmp_path / "t.png")
    path = write(tmp_path / "inner" / "a.obj", "mtllib ../m.mtl\n" + QUAD + "usemtl x\nf 1/1 2/2 3/3\n")
    with pytest.raises(InputError, match="outside its own folder"):
        load_object(path)
    write(tmp_path / "inner" / "m.mtl", "newmtl x\nmap_Kd ../t.png\n")
    path = write(tmp_path / "inner" / "a.obj", "mtllib m.mtl\n" + QUAD + "usemtl x\nf 1/1 2/2 3/3\n")
    with pytest.raises(InputError, match="outside its own folder"):
        load_object(path)
    # trimesh itself would also accept an indented line, which our own scan does not see
    path = write(tmp_path / "inner" / "b.obj", "  mtllib ../m.mtl\n" + QUAD + "usemtl x\nf 1/1 2/2 3/3\n")
    assert [material.name for material in load_object(path).mesh.materials] == ["default"]


def test_ply_with_vertex_colors_is_z_up_by_default(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ply", PLY.format(faces=1) + "3 0 1 2\n")
    obj = load_object(path)
    assert obj.up == "z" and load_object(path, up="y").up == "y"
    np.testing.assert_allclose(
        surface_color(obj.mesh, np.zeros(3, np.int64), np.eye(3))[2], [0, 0, 188 / 255], atol=1e-3
    )


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.ply", PLY.format(faces=0), "no triangles"),
        ("b.ply", "solid stl\n", "instead of 'ply'"),
        ("c.ply", "ply\nformat ascii 1.0\nelement vertex zzz\nend_header\n", "c.ply"),
        ("d.obj", "v 0 0 0\nv 1 0 0\n", "no triangles"),
        ("e.obj", "", "e.obj"),
        ("f.obj", "v 0 0 0\nv 1 0 0\nv nan 1 0\nf 1 2 3\n", "not finite"),
        ("g.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "g.obj"),
        ("h.obj", "\0\0\0", "binary"),
    ],
)
def test_refused_in_one_sentence(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_object(write(tmp_path / name, text))
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_unknown_up_axis(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="up='x'"):
        load_object(write(tmp_path / "a.ply", PLY.format(faces=1) + "3 0 1 2\n"), up="x")


def test_obj_with_too_many_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_files, "MAX_TRIANGLES", 2)
    with pytest.raises(InputError, match="has 3 faces and at most 2"):
        load_object(write(tmp_path / "a.obj", QUAD + "f 1 2 3\n" * 3))
