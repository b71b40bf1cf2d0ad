"""Rig packs: what is stored poses as the original file does."""

import numpy as np
import pytest

from t4d.data.rigpack import FPS, load_pack, save_pack
from t4d.data.rigpacker import noun_of, pack_object
from t4d.errors import InputError


def test_round_trip(dog_pack, tmp_path):
    pack = dog_pack
    save_pack(pack, tmp_path / "dog.npz")
    again = load_pack(tmp_path / "dog.npz")
    assert (again.source, again.joint_set, again.notes, again.rig.noun) == ("a/dog.glb", "s1", ["a note"], "dog")
    np.testing.assert_array_equal(again.rig.faces, pack.rig.faces)
    np.testing.assert_allclose(again.rig.weights.sum(1), 1, atol=1e-6)
    a, b = (p.rig.skin(p.clips[0].at(np.array([0.1, 0.3]))) for p in (pack, again))
    assert np.abs(a - b).max() < 6e-3 * np.ptp(a)
    np.testing.assert_allclose(again.rig.colors, pack.rig.colors, atol=0.006)


def test_times_between_frames_interpolate_and_ends_hold(dog_pack):
    clip = dog_pack.clips[0]
    middle = clip.at(np.array([1.5 / FPS]))[0]
    np.testing.assert_allclose(middle, clip.matrices[1:3].astype(np.float32).mean(0), atol=1e-6)
    np.testing.assert_array_equal(clip.at(np.array([99.0]))[0], clip.matrices[-1].astype(np.float32))


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="not a rig pack"):
        load_pack(tmp_path / "x.npz")
    (tmp_path / "y.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a rig pack"):
        load_pack(tmp_path / "y.npz")


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["animals_pack/Fox.glb", "ultimate_space_pack/Enemy_Small-transformed.glb", "platformer_game_pack/Bee.glb"]
)
def test_poses_as_the_loader_does(shared_data, name, tmp_path):
    """Every vertex of the file has a packed vertex within 0.3 % of the radius, in a clip and at rest, via npz."""
    from scipy.spatial import cKDTree

    from t4d.geometry.normalise import Normaliser
    from t4d.geometry.object3d import load_object

    path = shared_data / "data/rigs_cc0" / name
    save_pack(pack_object(path, name, "s"), tmp_path / "p.npz")
    pack, obj = load_pack(tmp_path / "p.npz"), load_object(path)
    assert [c.name for c in pack.clips] == [c.display_name or c.name for c in obj.clips]
    world = Normaliser.fit_static(obj, radius=1.0)
    used = np.unique(obj.mesh.faces)
    clip = len(obj.clips) // 2
    seconds = 5 / FPS
    pairs = [
        (obj.rest_vertices(), pack.rig.rest_vertices()),
        (obj.pose(clip, seconds), pack.rig.skin(pack.clips[clip].at(np.array([seconds])))[0]),
    ]
    for original, packed in pairs:
        target = world.apply(original)[used]
        assert cKDTree(packed).query(target)[0].max() < 3e-3
        assert cKDTree(target).query(packed)[0].max() < 3e-3


def test_nouns():
    assert noun_of("BlueTang") == "blue tang"
    assert noun_of("Mech_RaeTheRedPanda-transformed") == "red panda mech robot"
    assert noun_of("Trex") == "t-rex dinosaur"
    assert [noun_of(stem) for stem in ("001", "_", "scene (1)", "Fox.v2-3")] == ["object", "object", "scene", "fox v"]
    assert noun_of("Fish2") == "fish"
