"""Posing by closed forms: interpolation, hierarchy, skinning, morph targets."""

from pathlib import Path

import numpy as np
import pytest
from glb_files import TETRAHEDRON, TETRAHEDRON_FACES, GlbBuilder, tetrahedron

from t4d.errors import InputError
from t4d.geometry.gltf_scene import Channel
from t4d.geometry.object3d import Object3D, load_object

QUARTER = 0.5**0.5


def animated(path: Path, kind: str, times: list, values: list, interpolation: str = "LINEAR") -> Object3D:
    builder = tetrahedron()
    builder.animation(0, kind, times, values, interpolation)
    return load_object(builder.write(path / "a.glb"))


def test_linear_translation_holds_at_both_ends(tmp_path: Path) -> None:
    obj = animated(tmp_path, "translation", [1.0, 3.0], [[0, 0, 0], [4, 0, 0]])
    assert obj.clips[0].duration == 3.0
    for seconds, x in ((0.0, 0), (1.0, 0), (1.5, 1), (3.0, 4), (99.0, 4)):
        np.testing.assert_allclose(obj.pose(0, seconds), TETRAHEDRON + np.array([x, 0, 0], np.float32), atol=1e-6)
    np.testing.assert_array_equal(obj.rest_vertices(), TETRAHEDRON)


def test_step_jumps_at_the_key(tmp_path: Path) -> None:
    obj = animated(tmp_path, "translation", [0.0, 1.0, 2.0], [[0, 0, 0], [4, 0, 0], [5, 0, 0]], "STEP")
    for seconds, x in ((0.99, 0), (1.0, 4), (1.99, 4), (2.0, 5)):
        np.testing.assert_allclose(obj.pose(0, seconds)[0, 0], x)


def test_rotation_is_a_slerp(tmp_path: Path) -> None:
    """A third of the way of a quarter turn about z is 30 degrees; a sign flip of the key does not change the way."""
    for sign in (1.0, -1.0):
        obj = animated(tmp_path, "rotation", [0.0, 3.0], [[0, 0, 0, 1], [0, 0, sign * QUARTER, sign * QUARTER]])
        turned = obj.pose(0, 1.0)
        angle = np.radians(30)
        np.testing.assert_allclose(turned[1], [2 * np.cos(angle), 2 * np.sin(angle), 0], atol=1e-6)


def test_cubic_spline_reproduces_a_cubic() -> None:
    """Hermite interpolation with exact derivatives is exact for cubics, on intervals that are not 1 second."""

    def curve(t: np.ndarray) -> np.ndarray:
        return np.stack([t**3 - 2 * t, 0.5 * t**2, 3 - t], axis=-1)

    def slope(t: np.ndarray) -> np.ndarray:
        return np.stack([3 * t**2 - 2, t, -np.ones_like(t)], axis=-1)

    times = np.array([0.0, 0.5, 2.0, 2.3])
    values = np.stack([slope(times), curve(times), slope(times)], axis=1)
    channel = Channel(0, "translation", "CUBICSPLINE", times, values)
    for t in np.linspace(0, 2.3, 17):
        np.testing.assert_allclose(channel.sample(float(t)), curve(np.array(t)), atol=1e-12)


def test_cubic_rotation_is_normalised(tmp_path: Path) -> None:
    zero = [0, 0, 0, 0]
    values = [[zero, [0, 0, 0, 1], zero], [zero, [0, 0, QUARTER, QUARTER], zero]]
    obj = animated(tmp_path, "rotation", [0.0, 1.0], np.array(values).reshape(-1, 4).tolist(), "CUBICSPLINE")
    middle = obj.pose(0, 0.5)
    np.testing.assert_allclose(np.linalg.norm(middle, axis=1), np.linalg.norm(TETRAHEDRON, axis=1), atol=1e-6)
    np.testing.assert_allclose(middle[1], 2 * np.array([QUARTER, QUARTER, 0]), atol=1e-6)  # 45 degrees, by symmetry


def test_hierarchy_applies_scale_then_rotation_then_translation_from_the_leaf_up(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.json["nodes"] = [
        {"children": [1], "translation": [10, 0, 0], "rotation": [0, 0, QUARTER, QUARTER], "scale": [2, 1, 1]},
        {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 5, 0, 1]},
    ]
    obj = load_object(builder.write(tmp_path / "a.glb"))
    moved = (TETRAHEDRON + [0, 5, 0]) * [2, 1, 1]
    expected = np.stack([10 - moved[:, 1], moved[:, 0], moved[:, 2]], axis=1)
    np.testing.assert_allclose(obj.rest_vertices(), expected, atol=1e-6)


def test_vertex_order_is_nodes_by_index_then_primitives(tmp_path: Path) -> None:
    builder = GlbBuilder()
    builder.json["meshes"].append({"primitives": []})
    builder.primitive(TETRAHEDRON, TETRAHEDRON_FACES)
    builder.primitive(TETRAHEDRON + 100, TETRAHEDRON_FACES)
    builder.primitive(TETRAHEDRON + 1000, TETRAHEDRON_FACES, mesh=1)
    builder.json["nodes"] = [{"children": [2, 1]}, {"mesh": 1}, {"mesh": 0}, {"mesh": 0}]  # the last is in no scene
    obj = load_object(builder.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(obj.rest_vertices()[::4, 0], [1000, 0, 100])


def test_scene_below_a_node_it_leaves_out(tmp_path: Path) -> None:
    """As UniGLTF writes it: the scene starts at a child; the parent is not part of it."""
    builder = tetrahedron()
    builder.json["nodes"] = [{"children": [1], "scale": [9, 9, 9]}, {"mesh": 0}]
    builder.json["scenes"] = [{"nodes": [1]}]
    np.testing.assert_array_equal(load_object(builder.write(tmp_path / "a.glb")).rest_vertices(), TETRAHEDRON)


def skinned(weights: np.ndarray, joints: np.ndarray | None = None) -> GlbBuilder:
    """A tetrahedron bound to two joints; its own node is scaled 100x and turned, as FBX exporters leave it."""
    builder = tetrahedron()
    attributes = builder.json["meshes"][0]["primitives"][0]["attributes"]
    attributes["JOINTS_0"] = builder.accessor(np.tile([0, 1, 0, 0], (4, 1)).astype("u1") if joints is None else joints)
    attributes["WEIGHTS_0"] = builder.accessor(weights.astype(np.float32))
    inverse = np.tile(np.eye(4), (2, 1, 1))
    inverse[1, 3, 0] = -1.0  # stored by columns: joint 1 was bound at x = 1
    builder.json["nodes"] = [
        {"mesh": 0, "skin": 0, "scale": [100, 100, 100], "rotation": [-QUARTER, 0, 0, QUARTER]},
        {"children": [2]},
        {"translation": [1, 0, 0]},
    ]
    builder.json["scenes"] = [{"nodes": [0, 1]}]
    builder.json["skins"] = [
        {"joints": [1, 2], "inverseBindMatrices": builder.accessor(inverse.reshape(2, 16).astype(np.float32))}
    ]
    builder.animation(2, "translation", [0.0, 1.0], [[1, 0, 0], [1, 0, 8]])
    return builder


WEIGHTS = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0], [0.25, 0.75, 0, 0]])


def test_skinning_ignores_the_drawing_nodes_transform(tmp_path: Path) -> None:
    obj = load_object(skinned(WEIGHTS).write(tmp_path / "a.glb"))
    np.testing.assert_allclose(obj.rest_vertices(), TETRAHEDRON, atol=1e-6)
    shift = np.array([[0, 0, 0], [0, 0, 8], [0, 0, 4], [0, 0, 6]], np.float32)
    np.testing.assert_allclose(obj.pose(0, 1.0), TETRAHEDRON + shift, atol=1e-6)


def test_weights_that_do_not_sum_to_one_are_renormalised(tmp_path: Path) -> None:
    obj = load_object(skinned(WEIGHTS * 0.5).write(tmp_path / "a.glb"))
    np.testing.assert_allclose(obj.rest_vertices(), TETRAHEDRON, atol=1e-6)


def test_broken_weights_are_repaired_and_counted(tmp_path: Path) -> None:
    """One NaN among sound weights is dropped; a vertex with nothing left follows its nearest neighbour."""
    weights = WEIGHTS.copy()
    weights[1] = [np.nan, 0.5, 0, 0]
    weights[2] = np.nan
    obj = load_object(skinned(weights).write(tmp_path / "a.glb"))
    assert len(obj.notes) == 1 and obj.notes[0].startswith("2 vertices of a.glb have skin weights")
    shift = np.array([[0, 0, 0], [0, 0, 8], [0, 0, 0], [0, 0, 6]], np.float32)  # vertex 2 is nearest to vertex 0
    np.testing.assert_allclose(obj.pose(0, 1.0), TETRAHEDRON + shift, atol=1e-6)


def test_joint_out_of_range_and_no_weights(tmp_path: Path) -> None:
    joints = np.tile([0, 7, 0, 0], (4, 1)).astype("u1")
    with pytest.raises(InputError, match="joint 7 of a skin with 2 joints"):
        load_object(skinned(WEIGHTS, joints).write(tmp_path / "a.glb"))
    with pytest.raises(InputError, match="single usable weight"):
        load_object(skinned(WEIGHTS * 0).write(tmp_path / "a.glb"))


def test_morph_targets_default_node_and_animated_weights(tmp_path: Path) -> None:
    builder = tetrahedron()
    first, second = np.zeros((4, 3), np.float32), np.zeros((4, 3), np.float32)
    first[1], second[2] = [1, 0, 0], [0, 2, 0]
    targets = [{"POSITION": builder.accessor(first)}, {"POSITION": builder.accessor(second)}]
    builder.json["meshes"][0]["primitives"][0]["targets"] = targets
    builder.json["meshes"][0]["weights"] = [0.5, 0.0]
    rest = load_object(builder.write(tmp_path / "a.glb")).rest_vertices()
    np.testing.assert_allclose(rest, TETRAHEDRON + 0.5 * first)
    builder.json["nodes"][0]["weights"] = [0.0, 1.0]
    builder.animation(0, "weights", [0.0, 2.0], [0, 0, 1, 0.5])
    obj = load_object(builder.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(obj.rest_vertices(), TETRAHEDRON + second)
    np.testing.assert_allclose(obj.pose(0, 1.0), TETRAHEDRON + 0.5 * first + 0.25 * second)


def test_names_of_clips(tmp_path: Path) -> None:
    builder = tetrahedron()
    for x in (1.0, 2.0, 3.0):
        builder.animation(0, "translation", [0.0, 1.0], [[0, 0, 0], [x, 0, 0]])
    builder.json["animations"][0]["name"] = "AnimalArmature|Gallop"
    builder.json["animations"][2]["name"] = "Walk"
    obj = load_object(builder.write(tmp_path / "a.glb"))
    assert [clip.name for clip in obj.clips] == ["AnimalArmature|Gallop", "clip 2", "Walk"]
    assert [clip.display_name for clip in obj.clips] == ["Gallop", "clip 2", "Walk"]
    for key in ("AnimalArmature|Gallop", "Gallop", 0):
        assert obj.pose(key, 1.0)[0, 0] == 1.0
    assert obj.pose("clip 2", 1.0)[0, 0] == 2.0
    with pytest.raises(InputError, match="no clip 'Swim'; choose one of 'Gallop', 'clip 2', 'Walk'"):
        obj.pose("Swim", 0.0)
    with pytest.raises(InputError, match="no clip 3"):
        obj.pose(3, 0.0)
    with pytest.raises(InputError, match="static"):
        load_object(tetrahedron().write(tmp_path / "b.glb")).pose(0, 0.0)


def test_one_motion_in_many_unnamed_animations_can_be_played_at_once(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.animation(0, "translation", [0.0, 1.0], [[0, 0, 0], [4, 0, 0]])
    builder.animation(0, "scale", [0.0, 2.0], [[1, 1, 1], [3, 3, 3]])
    obj = load_object(builder.write(tmp_path / "a.glb"))
    assert [clip.name for clip in obj.clips] == ["clip 1", "clip 2", "all clips together"]
    assert obj.clips[2].duration == 2.0 and "one channel each" in obj.notes[0]
    np.testing.assert_allclose(obj.pose(2, 1.0), 2 * TETRAHEDRON + np.array([4, 0, 0], np.float32), atol=1e-6)


def test_a_matrix_node_can_be_animated(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.json["nodes"][0]["matrix"] = [0, 2, 0, 0, -2, 0, 0, 0, 0, 0, 2, 0, 5, 0, 0, 1]  # turn, twice the size
    still = load_object(builder.write(tmp_path / "a.glb")).rest_vertices()
    builder.animation(0, "translation", [0.0, 1.0], [[5, 0, 0], [6, 0, 0]])
    obj = load_object(builder.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(obj.rest_vertices(), still, atol=1e-6)
    np.testing.assert_allclose(obj.pose(0, 1.0), still + np.array([1, 0, 0], np.float32), atol=1e-6)


def test_broken_keys_are_left_out_with_a_note(tmp_path: Path) -> None:
    for times, values in (([0.0, 0.0], [[0, 0, 0], [1, 0, 0]]), ([0.0, 1.0], [[0, 0, 0], [np.nan, 0, 0]])):
        obj = animated(tmp_path, "translation", times, values)
        assert "broken keys" in obj.notes[0] and np.isfinite(obj.pose(0, 0.5)).all()


def test_clip_of_no_length(tmp_path: Path) -> None:
    obj = animated(tmp_path, "translation", [0.0], [[3, 0, 0]])
    assert obj.clips[0].duration == 0.0
    np.testing.assert_allclose(obj.pose(0, 0.0), TETRAHEDRON + np.array([3, 0, 0], np.float32))
