"""The gallery: reproducible files that the loader reads back."""

import dataclasses
import json

import numpy as np

from t4d.data.gallery import EXHIBITS, seen_from_outside, write_gallery
from t4d.data.procedural.parts import sphere
from t4d.geometry.object3d import load_object
from t4d.paths import ASSETS


def test_same_bytes_every_time(tmp_path):
    small = (dataclasses.replace(EXHIBITS[6], detail=0.6),)
    for name in "ab":
        write_gallery(tmp_path / name, small)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["gallery.json", "goldfish.glb", "goldfish.png"]
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_glb_reads_back_in_place_and_colour(tmp_path):
    from t4d.data.glb import write_glb
    from t4d.geometry.normalise import up_rotation

    vertices, faces = sphere(5, 7)
    colors = np.clip(vertices * 0.5 + 0.5, 0, 1)
    write_glb(tmp_path / "ball.glb", "ball", vertices * (1, 2, 3), faces, colors, vertices)
    obj = load_object(tmp_path / "ball.glb")
    np.testing.assert_allclose(obj.rest_vertices() @ up_rotation(obj.up).T, vertices * (1, 2, 3), atol=1e-6)
    np.testing.assert_array_equal(obj.mesh.faces, faces)
    assert obj.mesh.vertex_color is not None
    np.testing.assert_allclose(obj.mesh.vertex_color[:, :3], colors, atol=1e-4)


def test_hidden_triangles_go_and_seen_ones_stay():
    outer, faces = sphere(8, 10)
    both = np.concatenate([outer, outer * 0.4])
    seen = seen_from_outside(both, np.concatenate([faces, faces + len(outer)]), size=128)
    assert seen[: len(faces)].all() and not seen[len(faces) :].any()


def test_committed_gallery_is_complete():
    folder = ASSETS / "objects"
    records = json.loads((folder / "gallery.json").read_text())
    assert [r["file"] for r in records] == [f"{e.stem}.glb" for e in EXHIBITS] and len(records) >= 8
    assert len({e.plan for e in EXHIBITS}) >= 8
    for record in records:
        obj = load_object(folder / record["file"])
        assert 1000 < len(obj.mesh.faces) < 9000 and obj.mesh.vertex_color is not None
        assert (folder / record["thumbnail"]).stat().st_size > 2000 and record["prompts"]
