"""Training samples: shapes, reproducibility, splits, framing, timing."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from t4d.data.cache import CachedClips, save_item
from t4d.data.catalog import EVALUATION_TWINS, Catalog
from t4d.data.dataset import ClipDataset
from t4d.data.framing import place
from t4d.data.motion import closes, rig_motion
from t4d.data.rigpack import save_pack
from t4d.data.timing import ease, frame_times
from t4d.errors import InputError
from t4d.geometry.camera import network_camera, orbit_camera, rig


@pytest.fixture(scope="module")
def folder(dog_pack, tmp_path_factory):
    """Three packs of two joint sets: "dog" and "cat" train, "wolf" near."""
    out = tmp_path_factory.mktemp("rigs")
    for name in ("dog", "cat", "wolf"):
        save_pack(dataclasses.replace(dog_pack, source=f"a/{name}.glb"), out / f"{name}.npz")
    rigs = [
        {"file": f"{n}.npz", "source": f"a/{n}.glb", "joint_set": s, "clips": ["Gallop"]}
        for n, s in (("dog", "s1"), ("cat", "s2"), ("wolf", "s1"))
    ]
    index = {"split": {"train": ["a/dog.glb", "a/cat.glb"], "near": ["a/wolf.glb"]}, "rigs": rigs}
    (out / "index.json").write_text(json.dumps(index))
    return out


def same(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)


def test_item_is_a_pure_function_of_seed_and_index(folder):
    make = lambda seed: ClipDataset(folder, side=(24, 32), views=2, frames=5, seed=seed, procedural_fraction=0.5)  # noqa: E731
    a, b = make(1), make(1)
    items = [a[i] for i in range(4)]
    assert all(same(items[i], b[i]) for i in (3, 0, 2, 1))
    assert not same(make(2)[0], items[0]) and not same(items[0], items[1])


def test_item_contract(folder):
    data = ClipDataset(folder, side=(24, 32), views=2, frames=5, procedural_fraction=0.5, length=7)
    assert len(data) == 7
    for i in range(8):
        item = data[i]
        assert item["rgba"].shape == (2, 5, 4, 24, 32) and item["rgba"].dtype == torch.float32
        assert item["flow"].shape == (2, 5, 2, 12, 16) and item["flow_valid"].shape == (2, 5, 1, 12, 16)
        assert item["cameras"].shape == (2, 16)
        assert 0 <= item["rgba"].min() and item["rgba"].max() <= 1
        assert set(item["flow_valid"].unique().tolist()) <= {0.0, 1.0}
        assert item["flow"][:, 0].abs().max() < 1e-5
        alpha = item["rgba"][:, :, 3]
        assert alpha.mean() > 0.005
        for border in (alpha[..., 0], alpha[..., -1], alpha[..., 0, :], alpha[..., -1, :]):
            assert border.max() == 0, "the whole clip stays in frame"
        background = item["rgba"][:, :, :3].movedim(2, -1)[alpha == 0]
        assert torch.all(background == 0.5)
        assert item["noun"] in item["caption"] and item["verb"]
        assert (item["rgba"][:, 1:] - item["rgba"][:, :1]).abs().max() > 0.02, "something moves"


def test_inference_rig_dominates(folder):
    data = ClipDataset(folder, side=16, frames=2, procedural_fraction=0.5)
    standard = torch.stack([network_camera(c) for c in rig()])
    share = np.mean([torch.allclose(data[i]["cameras"], standard, atol=1e-6) for i in range(40)])
    assert 0.4 < share < 0.8


def test_split_and_exclusions(folder):
    train = ClipDataset(folder, side=16, views=1, frames=2, procedural_fraction=0.0)
    assert {train[i]["name"] for i in range(12)} == {"a/dog.glb", "a/cat.glb"}
    near = ClipDataset(folder, split="near", side=16, views=1, frames=2, procedural_fraction=0.0)
    assert {near[i]["name"] for i in range(6)} == {"a/wolf.glb"}
    without = ClipDataset(folder, side=16, views=1, frames=2, procedural_fraction=0.0, exclude=("cat",))
    assert {without[i]["name"] for i in range(6)} == {"a/dog.glb"}
    for bad, words in (
        ({"split": "tset"}, "tset"),
        ({"exclude": ("dog", "a/cat")}, "no rig"),
        ({"drop_verbs": ("run",)}, "no rig"),
    ):
        with pytest.raises(InputError, match=words):
            ClipDataset(folder, **bad)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="no rig folder"):
        ClipDataset(None)
    with pytest.raises(InputError, match="not a rig pack folder"):
        ClipDataset(folder / "nowhere")


def test_chosen_verbs(folder):
    options = {"side": 16, "views": 1, "frames": 3, "procedural_fraction": 0.5}
    found = ClipDataset(folder, verbs=("run", "swim"), **options)
    assert {found[i]["verb"] for i in range(24)} == {"run", "swim"}, "procedural fish swim, nothing else does anything"
    with pytest.raises(InputError, match="no rig"):
        ClipDataset(folder, verbs=("walk",), **options)
    with pytest.raises(InputError, match="procedural objects in a row do none of leap"):
        ClipDataset(None, verbs=("leap",), **{**options, "procedural_fraction": 1.0})[0]
    with pytest.raises(InputError, match="unknown verbs strut"):
        ClipDataset(folder, verbs=("run", "strut"), **options)


@pytest.mark.data
def test_shared_split_has_no_leak(shared_data, tmp_path):
    """With the real catalogue: nothing of near, far or evaluation's twins can be drawn in training."""
    root = shared_data / "data/rigs_cc0"
    split = json.loads((root / "split.json").read_text())
    items = json.loads((root / "catalog.json").read_text())
    rigs = [{"file": "x.npz", "source": i["path"], "joint_set": i["joint_set"], "clips": i["clips"]} for i in items]
    index = {"split": {k: v for k, v in split.items() if isinstance(v, list)}, "rigs": rigs}
    (tmp_path / "index.json").write_text(json.dumps(index))
    train = Catalog(tmp_path, "train", EVALUATION_TWINS, ("die",))
    names = {e.source for e in train.entries}
    assert len(names) > 65 and not names & {*split["near"], *split["far"]}
    assert not any(n.rsplit("/", 1)[-1][:-4] in ("Clownfish", "Cow", "Frog", "Horse", "Trex") for n in names)
    assert "animals_pack/Fox.glb" not in names
    assert not any(verb == "die" for _, verb, _ in train.clips())
    far = Catalog(tmp_path, "far", (), ())
    assert not {e.joint_set for e in far.entries} & {e.joint_set for e in Catalog(tmp_path, "train", (), ()).entries}


def test_starting_from_rest(dog_pack):
    motion = rig_motion(dog_pack, 0, "run", 6, 0.4, from_rest=True)
    np.testing.assert_allclose(motion.vertices[0], dog_pack.rig.rest_vertices(), atol=1e-6)
    steps = np.abs(np.diff(motion.vertices, axis=0)).max((1, 2))
    assert steps.max() < 4 * np.median(steps), "no jump out of the rest pose"


def test_timing():
    short = frame_times(0.8, 16, 0.25)
    np.testing.assert_allclose(np.diff(np.append(short, short[0] + 0.8)) % 0.8, 0.05, atol=1e-9)
    assert short[0] == pytest.approx(0.2)
    long = frame_times(4.0, 16, 0.5)
    np.testing.assert_allclose(np.diff(long), 1 / 12)
    assert long[0] == pytest.approx(0.5 * (4 - 15 / 12)) and long[-1] <= 4
    assert ease(6)[0] == 0 and (ease(6)[3:] == 1).all() and (np.diff(ease(6)[:4]) > 0).all()


def test_clips_that_do_not_end_as_they_begin_play_once(dog_pack):
    """A landing must not jump back into the air; a loop goes round as before."""
    clip = dog_pack.clips[0]
    assert closes(dog_pack.rig, clip.matrices[[0, -1]])
    matrices = np.repeat(clip.matrices[:1], 13, 0).astype(np.float32)
    matrices[..., 2, 3] += np.linspace(1, 0, 13)[:, None]
    landing = dataclasses.replace(dog_pack, clips=[dataclasses.replace(clip, duration=0.5, matrices=matrices)])
    assert not closes(landing.rig, matrices[[0, -1]])
    for speed, last in ((0.8, 0.8), (1.0, 1.0), (1.2, 1.0)):
        motion = rig_motion(landing, 0, "jump", 16, 0.7, from_rest=False, speed=speed)
        height = motion.vertices[..., 2].mean(1)
        np.testing.assert_allclose(height[0] - height, np.minimum(np.arange(16) / 15 * speed, last), atol=2e-3)
    long = frame_times(2.0, 48, 0.9, loops=False)
    assert long[0] == 0 and (np.diff(long) >= 0).all() and long[-1] == 2.0
    assert frame_times(2.0, 16, 1.0, loops=False)[-1] == pytest.approx(2.0)


def test_place_keeps_frame_0_centred_and_travel_in_view():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (40, 3)).astype(np.float32) * 50 + 300
    cameras = rig(width=32, height=24)
    still = place(np.repeat(points[None], 3, 0), cameras, 0.7)
    assert still is not None and still[1] == pytest.approx(0.7, rel=1e-3)
    np.testing.assert_allclose((still[0][0].min(0) + still[0][0].max(0)) / 2, 0, atol=1e-4)
    travelling = points[None] + np.array([[0, 0, 0], [300, 0, 0], [900, 0, 0]], np.float32)[:, None]
    kept = place(travelling, cameras, 0.7)
    assert kept is not None and kept[1] > 0.6, "steady travel is taken out rather than shrinking the object"
    narrow = [orbit_camera(0, 15, vfov_deg=4.0, width=32, height=24)]
    assert place(np.repeat(points[None], 3, 0), narrow, 0.7) is None


def test_cache_round_trip(folder, tmp_path):
    item = ClipDataset(folder, side=16, views=2, frames=3, procedural_fraction=0.0)[0]
    save_item(item, tmp_path / "000000.npz")
    again = CachedClips(tmp_path)[0]
    assert set(again) == set(item)
    assert (again["rgba"] - item["rgba"]).abs().max() <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(again["flow"], item["flow"], atol=1e-3, rtol=0)
    assert again["caption"] == item["caption"]
    with pytest.raises(InputError, match="no cached clips"):
        CachedClips(tmp_path / "empty")


def test_imports_without_mesh_packages():
    """Training machines have no trimesh, embreex, gsplat, gradio, pygltflib."""
    code = (
        "import sys\n"
        "for name in ('trimesh', 'embreex', 'gsplat', 'gradio', 'pygltflib', 'DracoPy'):\n"
        "    sys.modules[name] = None\n"
        "from t4d.data.dataset import ClipDataset\n"
        "import t4d.data.cache, t4d.data.reference, t4d.data.gallery, t4d.data.clip\n"
        "ClipDataset(None, side=16, views=1, frames=2, procedural_fraction=1.0)[0]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
