"""Folders of animated glTF files: packed, cached, bad files left out with a reason, training straight from them."""

import importlib.util
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from t4d.data.catalog import Catalog
from t4d.data.dataset import ClipDataset
from t4d.data.rigfolder import cached_packs, pack_folder
from t4d.data.rigpack import load_pack
from t4d.errors import InputError

_SPEC = importlib.util.spec_from_file_location("glb_files", Path(__file__).parents[1] / "geometry" / "glb_files.py")
assert _SPEC is not None and _SPEC.loader is not None
glb_files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(glb_files)


def animated(name: str | None, values=((0, 0, 0), (0, 1, 0), (0, 0, 0))) -> bytes:
    """A tetrahedron whose node hops over a second."""
    glb = glb_files.GlbBuilder()
    glb.primitive(glb_files.TETRAHEDRON, glb_files.TETRAHEDRON_FACES)
    glb.animation(0, "translation", [0.0, 0.5, 1.0], values)
    if name is not None:
        glb.json["animations"][0]["name"] = name
    return glb.bytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two good files, one below a folder; one still, one broken, one of non-finite positions."""
    monkeypatch.setenv("T4D_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "objects"
    (source / "toys").mkdir(parents=True)
    (source / "toys/RedTop.glb").write_bytes(animated("Jump"))
    (source / "dancing_robot.glb").write_bytes(animated("Take 001"))
    (source / "broken.glb").write_bytes(b"glTF nonsense")
    still = glb_files.GlbBuilder()
    still.primitive(glb_files.TETRAHEDRON, glb_files.TETRAHEDRON_FACES)
    (source / "still.glb").write_bytes(still.bytes())
    bad = glb_files.GlbBuilder()
    bad.primitive(np.where(glb_files.TETRAHEDRON == 3, np.nan, glb_files.TETRAHEDRON), glb_files.TETRAHEDRON_FACES)
    bad.animation(0, "translation", [0.0, 1.0], [(0, 0, 0), (0, 1, 0)])
    (source / "nan.glb").write_bytes(bad.bytes())
    return source


def test_trains_straight_from_a_folder_of_glb_files(folder, caplog):
    with caplog.at_level(logging.WARNING):
        data = ClipDataset(folder, side=(24, 32), views=2, frames=4, procedural_fraction=0.0)
    skipped = dict(data.skipped)
    assert set(skipped) == {"broken.glb", "still.glb", "nan.glb"} and all(skipped.values())
    assert "no animation" in skipped["still.glb"]
    assert all(name in caplog.text for name in skipped), "and they are printed"
    items = [data[i] for i in range(8)]
    assert {(i["name"], i["noun"], i["verb"]) for i in items} == {
        ("toys/RedTop.glb", "red top", "jump"),
        ("dancing_robot.glb", "dancing robot", "dance"),
    }
    assert all(i["query_valid"].any() and i["rgba"][:, :, 3].max() > 0.9 for i in items)


def test_packed_once_until_a_file_changes(folder, monkeypatch):
    first = cached_packs(folder)
    stamp = (first / "index.json").stat().st_mtime_ns
    assert cached_packs(folder) == first and (first / "index.json").stat().st_mtime_ns == stamp
    assert not list(first.parent.glob("*.*")), "no half-written folder is left"
    (folder / "toys/RedTop.glb").write_bytes(animated("Spin", ((0, 0, 0), (0, 2, 0), (0, 0, 0))))
    second = cached_packs(folder)
    assert second != first and {e.source for e in Catalog(second, "train", (), ()).entries} >= {"toys/RedTop.glb"}


def test_split_and_joint_sets_are_read(folder, tmp_path):
    (folder / "split.json").write_text(json.dumps({"train": ["toys/RedTop.glb"], "far": ["dancing_robot.glb"]}))
    (folder / "catalog.json").write_text(json.dumps([{"path": "toys/RedTop.glb", "joint_set": "top"}]))
    seen = []
    report = pack_folder(folder, tmp_path / "out", lambda name, pack, size: seen.append((name, size)))
    assert [r["joint_set"] for r in report.rigs] == ["dancing_robot.glb", "top"]
    assert [n for n, _ in seen] == ["dancing_robot.glb", "toys/RedTop.glb"] and report.size == sum(s for _, s in seen)
    assert [e.source for e in Catalog(tmp_path / "out", "far", (), ()).entries] == ["dancing_robot.glb"]
    (folder / "catalog.json").write_text("{}")
    with pytest.raises(InputError, match=r"catalog\.json"):
        pack_folder(folder, tmp_path / "out")


def test_nothing_usable_says_so(folder, tmp_path):
    for name in ("toys/RedTop.glb", "dancing_robot.glb"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"none of the 3 files .* broken.glb"):
        ClipDataset(folder, procedural_fraction=0.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.glb or \.gltf"):
        pack_folder(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(InputError, match="not a rig pack folder"):
        ClipDataset(tmp_path / "empty", procedural_fraction=0.0)


def test_unreadable_packs_are_left_out_while_training_goes_on(folder, caplog):
    packs = cached_packs(folder)
    make = lambda: ClipDataset(packs, side=16, views=1, frames=2, procedural_fraction=0.0, seed=2)  # noqa: E731
    (packs / "toys__RedTop.npz").write_bytes(b"half a file")
    data = make()
    with caplog.at_level(logging.WARNING):
        items = [data[i] for i in range(6)]
    assert {i["name"] for i in items} == {"dancing_robot.glb"}
    assert any("toys__RedTop.npz" in asset for asset, _ in data.skipped)
    assert caplog.text.count("toys__RedTop.npz") == 1, "said once"
    again = make()
    assert [again[i]["caption"] for i in (5, 4)] == [items[5]["caption"], items[4]["caption"]], "still a pure function"
    (packs / "dancing_robot.npz").write_bytes(b"half a file")
    from t4d.data.catalog import _loaded

    _loaded.cache_clear()
    with pytest.raises(InputError, match="none of 2 rig packs"):
        make()[0]


def test_clips_that_are_not_finite_are_left_out(folder, caplog):
    from dataclasses import replace

    from t4d.data.rigpack import load_pack, save_pack

    packs = cached_packs(folder)
    pack = load_pack(packs / "toys__RedTop.npz")
    broken = pack.clips[0].matrices.copy()
    broken[1:] = np.nan
    save_pack(replace(pack, clips=[replace(pack.clips[0], matrices=broken)]), packs / "toys__RedTop.npz")
    data = ClipDataset(packs, side=16, views=1, frames=8, procedural_fraction=0.0, rest_fraction=0.0)
    assert {data[i]["name"] for i in range(6)} == {"dancing_robot.glb"}
    assert data.skipped[-1] == ("toys/RedTop.glb [Jump]", "positions that are not finite")


@pytest.mark.data
def test_the_shared_folder_packs_as_it_is(shared_data, tmp_path):
    """Three real files of different makers through the whole way."""
    source = tmp_path / "real"
    source.mkdir()
    for name in ("animals_pack/Fox.glb", "platformer_game_pack/Bee.glb", "fish_pack/Fish3.glb"):
        (source / name.rsplit("/", 1)[1]).write_bytes((shared_data / "data/rigs_cc0" / name).read_bytes())
    report = pack_folder(source, tmp_path / "out")
    assert [r["noun"] for r in report.rigs] == ["bee", "fish", "fox"] and not report.skipped
    item = ClipDataset(tmp_path / "out", side=32, views=2, frames=3, procedural_fraction=0.0, exclude=())[0]
    assert item["query_valid"].sum() > 4


def test_files_of_one_stem_keep_their_own_packs(folder, tmp_path):
    (folder / "toys__RedTop.glb").write_bytes(animated("Spin"))
    rigs = {rig["source"]: rig for rig in pack_folder(folder, tmp_path / "packs").rigs}
    assert {rigs[s]["clips"][0] for s in ("toys/RedTop.glb", "toys__RedTop.glb")} == {"Jump", "Spin"}
    assert len({rig["file"] for rig in rigs.values()}) == len(rigs) == 3
    for source, rig in rigs.items():
        assert load_pack(tmp_path / "packs" / rig["file"]).source == source


def test_endings_in_capitals_and_wrong_lists(folder, tmp_path, monkeypatch):
    shouting = tmp_path / "shouting"
    shouting.mkdir()
    (shouting / "TOP.GLB").write_bytes(animated("Jump"))
    assert [entry.source for entry in Catalog(shouting, "train", (), ()).entries] == ["TOP.GLB"]
    (shouting / "catalog.json").write_text('[{"path": "TOP.GLB"}]')
    with pytest.raises(InputError, match=r"catalog\.json has an entry without 'joint_set'"):
        Catalog(shouting, "train", (), ())
    (folder / "index.json").write_text("{}")
    with pytest.raises(InputError, match="is not a rig pack folder"):
        Catalog(folder, "train", (), ())


def test_a_pack_cut_short_is_a_sentence(folder, tmp_path):
    packed = pack_folder(folder, tmp_path / "packs").rigs[0]["file"]
    path = tmp_path / "packs" / packed
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputError, match="is not a rig pack"):
        load_pack(path)


def test_a_changed_buffer_beside_a_gltf_file_is_noticed(folder):
    first = cached_packs(folder)
    (folder / "numbers.bin").write_bytes(b"1")
    assert cached_packs(folder) != first
