"""The batched torch renderer against the compiled one (its twin), against numbers known by hand, and against itself."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import t4d.data.device_raster as raster
import t4d.data.device_render as device_render
from t4d.data.dataset import ClipDataset, warp
from t4d.data.device_pose import posed
from t4d.data.device_render import DeviceClips, render_scenes
from t4d.data.device_scene import PackedScenes, join_scenes, pack_scenes
from t4d.data.motion import Motion
from t4d.data.rig import Rig
from t4d.data.scene import Scene, placed_matrices
from t4d.errors import InputError
from t4d.geometry.camera import Camera, orbit_camera
from t4d.geometry.shading import LightRig

VIEWS, FRAMES, GRID = 3, 4, 7


@pytest.fixture(scope="module")
def clips() -> ClipDataset:
    """Procedural clips in pictures of unequal sides."""
    return ClipDataset(
        None, procedural_fraction=1.0, side=(40, 56), views=VIEWS, frames=FRAMES, grid=GRID, seed=2, rest_fraction=0.5
    )


@pytest.fixture(scope="module")
def scenes(clips) -> list[Scene]:
    return [clips.scene(i) for i in range(5)]


@pytest.fixture(scope="module")
def batch(scenes) -> dict:
    return render_scenes(pack_scenes(scenes), grid=GRID)


def test_agrees_with_the_compiled_twin(clips, batch):
    """Samples are the same points; float32 may decide one on an edge otherwise: few, so few pixels, never many."""
    theirs = [clips[i] for i in range(5)]
    slow = {name: torch.stack([item[name] for item in theirs]) for name in theirs[0] if name in batch}
    assert {name: value.shape for name, value in batch.items()} == {name: value.shape for name, value in slow.items()}
    assert {name: value.dtype for name, value in batch.items()} == {name: value.dtype for name, value in slow.items()}
    inside, wanted = batch["rgba"][:, :, :, 3] > 0.5, slow["rgba"][:, :, :, 3] > 0.5
    assert 0.05 < wanted.float().mean() < 0.6
    assert (inside & wanted).sum() / (inside | wanted).sum() > 0.9999  # IoU
    assert ((batch["rgba"] - slow["rgba"]).abs() > 2e-3).float().mean() < 1e-4
    assert ((batch["flow"] - slow["flow"]).abs() > 1e-4).float().mean() < 1e-4
    assert slow["flow"].abs().max() > 0.05
    assert (batch["flow_valid"] != slow["flow_valid"]).float().mean() < 1e-4
    torch.testing.assert_close(batch["tracks"], slow["tracks"], atol=2e-3, rtol=0)
    assert (batch["visible"] != slow["visible"]).float().mean() < 1e-3
    assert (batch["query_valid"] != slow["query_valid"]).float().mean() < 1e-3
    assert 0.05 < slow["visible"].float().mean() < 0.6
    assert torch.equal(batch["cameras"], slow["cameras"])


def test_clips_of_a_batch_do_not_touch_each_other(scenes, batch):
    for i in (0, 3):
        alone = render_scenes(pack_scenes([scenes[i]]), grid=GRID)
        for name, value in alone.items():
            torch.testing.assert_close(value[0], batch[name][i], atol=1e-6, rtol=0)


def test_joined_packs_are_the_pack_of_all(scenes):
    together, joined = pack_scenes(scenes), join_scenes([pack_scenes(scenes[:2]), pack_scenes(scenes[2:])])
    for name in PackedScenes.__dataclass_fields__:
        a, b = getattr(together, name), getattr(joined, name)
        assert torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b, name


def test_some_views_and_frames_are_those_of_the_whole(scenes, batch):
    chosen = torch.tensor([[2, 0], [0, 1], [1, 1], [2, 1], [0, 2]])
    part = render_scenes(pack_scenes(scenes).seen_by(chosen, 3), grid=GRID)
    rows = torch.arange(5)[:, None]
    for name in ("rgba", "flow", "tracks", "visible"):
        torch.testing.assert_close(part[name], batch[name][rows, chosen][:, :, :3], atol=1e-6, rtol=0)
    assert torch.equal(part["cameras"], batch["cameras"][rows, chosen])


def test_pieces_do_not_change_the_picture(scenes, batch, monkeypatch):
    monkeypatch.setitem(raster.PAIRS, "cpu", 37)  # less than the samples of one larger triangle
    monkeypatch.setitem(device_render.SAMPLES, "cpu", 1)
    pieces = render_scenes(pack_scenes(scenes[:1]).seen_by(torch.tensor([[1]]), 2), grid=GRID)
    for name in ("rgba", "flow", "tracks", "visible"):
        torch.testing.assert_close(pieces[name][0, 0], batch[name][0, 1, :2], atol=1e-6, rtol=0)


def test_joint_matrices_give_the_placed_vertices(clips):
    """Stretching, mirroring, turning and placing are in the matrices."""
    seen = set()
    for i in range(8):
        scene = clips.scene(i)
        packed = pack_scenes([scene])
        np.testing.assert_allclose(posed(packed, slice(0, FRAMES)), scene.vertices, atol=3e-6)
        np.testing.assert_allclose(scene.rig.skin(scene.matrices), scene.vertices, atol=3e-6)
        seen.add(bool(np.linalg.det(scene.matrices[0, 0, :, :3].astype(np.float64)) < 0))
    assert seen == {False, True}  # mirrored ones too


def square(side: float, z: float, tint: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and linear colours of a square across the view of a camera on +x, at depth 3 - z."""
    y = np.array([[z, -side, -side], [z, side, -side], [z, side, side], [z, -side, side]], np.float32)
    return y, np.array([[0, 1, 2], [0, 2, 3]], np.int32), np.full((4, 3), tint, np.float32)


def squares(camera: Camera, moves: np.ndarray) -> PackedScenes:
    """Two squares, each a joint: a bright one in front of a dark one; `moves` [T, 2, 3]."""
    parts = [square(0.5, 0.0, 0.1), square(0.2, 0.5, 0.6)]
    vertices = np.concatenate([p[0] for p in parts])
    faces = np.concatenate([parts[0][1], parts[1][1] + 4])
    joints, weights = np.zeros((8, 4), np.int32), np.zeros((8, 4), np.float32)
    joints[4:, 0], weights[:, 0] = 1, 1
    rig = Rig("squares", "square", vertices, faces, np.concatenate([p[2] for p in parts]), joints, weights)
    matrices = np.tile(np.eye(3, 4, dtype=np.float32), (len(moves), 2, 1, 1))
    matrices[..., 3] = moves
    light = replace(LightRig(), ambient=1.0, key_intensity=0.0, fill_intensity=0.0, back_intensity=0.0)
    words = {name: "" for name in ("caption", "verb", "noun", "name", "clip")}
    return pack_scenes([Scene(rig, rig.skin(matrices), matrices, rig.colors, light, [camera], words)])


def test_numbers_known_by_hand():
    """A camera on +x: the near square, at depth 2.5, slides by a quarter of its 0.4 and hides other parts of the far
    one, at depth 3, which stands still."""
    camera = orbit_camera(0.0, 0.0, width=64, height=64)
    focal = float(camera.K[0, 0])
    moves = np.zeros((2, 2, 3), np.float32)
    moves[1, 1] = [0, 0.1, 0]
    found = {
        name: value[0, 0] for name, value in render_scenes(squares(camera, moves), grid=16).items() if value.ndim > 3
    }
    near, far = 0.2 * focal / 2.5, 0.5 * focal / 3
    middle = found["rgba"][0, :, 32, 32]
    srgb = 1.055 * 0.6 ** (1 / 2.4) - 0.055
    torch.testing.assert_close(middle, torch.tensor([srgb, srgb, srgb, 1.0]), atol=1e-4, rtol=0)
    assert float(found["rgba"][0, 3].sum()) == pytest.approx((2 * far) ** 2, rel=0.03)
    bright = found["rgba"][0, 0] > 0.6
    assert float(bright.sum()) == pytest.approx((2 * near) ** 2, rel=0.1)
    # +y is to the right of a camera on +x: backward flow points to the left, in units of half the picture
    shift = 0.1 * focal / 2.5
    flow = found["flow"][1]
    assert float(flow[0, 16, 17]) == pytest.approx(-shift * 2 / 64, abs=1e-5)
    assert float(flow[1, 16, 17]) == pytest.approx(0, abs=1e-6)
    assert float(flow[0, 16, 8]) == pytest.approx(0, abs=1e-6)
    assert torch.all(flow[:, 1, 1] == 0) and found["flow_valid"][1, 0, 1, 1] == 0
    # just left of where the square has gone to, the far one shows what frame 0 did not
    assert found["flow_valid"][1, 0, 16, 16 - round(near / 2) + 1] == 0 and found["flow_valid"][1, 0, 16, 17] == 1
    points, seen = found["tracks"].unflatten(1, (16, 16)), found["visible"].unflatten(1, (16, 16))
    torch.testing.assert_close(points[0, 7, 7], torch.tensor([30.0, 30.0]), atol=1e-4, rtol=0)
    torch.testing.assert_close(points[1, 7, 7], torch.tensor([30.0 + shift, 30.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(points[1, 7, 4], points[0, 7, 4], atol=1e-4, rtol=0)
    # of the far square's points right of the near one, those it slides over are hidden, the others stay
    places = points[0, 7, :, 0]
    hidden = [x for x, was, now in zip(places, seen[0, 7], seen[1, 7]) if was and not now]
    assert hidden and all(32 + near < x < 32 + near + shift + 1 for x in hidden)
    assert seen[:, 7, 7].all() and seen[:, 7, 4].all() and not seen[0, 0, 0]


def test_flow_moves_frame_0_to_every_frame(scenes):
    packed = pack_scenes(scenes)
    packed = replace(packed, colors=torch.full_like(packed.colors, 0.3), ambient=torch.ones_like(packed.ambient))
    packed = replace(packed, intensities=torch.zeros_like(packed.intensities))  # light that does not turn with surfaces
    found = render_scenes(packed)
    frames, valid = found["rgba"].flatten(0, 1), found["flow_valid"].flatten(0, 1)
    moved = warp(frames[:, :1].expand_as(frames).flatten(0, 1), found["flow"].flatten(0, 2)).view_as(frames)
    whole = torch.nn.functional.interpolate(valid.flatten(0, 1), scale_factor=2)[:, 0].view_as(frames[:, :, 0]) > 0
    whole &= frames[:, :, 3] == 1
    assert (moved - frames)[:, :, 0].abs()[whole].mean() < 0.01


def test_is_the_data_set_of_the_cpu_renderer(clips):
    rendered = DeviceClips(clips, "cpu")
    item, twin = rendered[3], clips[3]
    assert set(item) == set(twin) and len(rendered) == len(clips)
    assert {n: v for n, v in item.items() if isinstance(v, str)} == {
        n: v for n, v in twin.items() if isinstance(v, str)
    }
    found = list(rendered.batches(iter([[3, 1], [4]]), 0))
    assert [len(b["caption"]) for b in found] == [2, 1]
    torch.testing.assert_close(found[0]["rgba"][0], item["rgba"], atol=1e-6, rtol=0)
    assert found[1]["caption"][0] == clips.scene(4).words["caption"]


def test_bad_scenes_are_told(clips, scenes):
    other = ClipDataset(None, procedural_fraction=1.0, side=32, views=VIEWS, frames=FRAMES, seed=2).scene(0)
    with pytest.raises(InputError, match="2 shapes"):
        pack_scenes([scenes[0], other])
    with pytest.raises(InputError, match="0 shapes"):
        pack_scenes([])
    with pytest.raises(InputError, match="no flow cells of 3"):
        render_scenes(pack_scenes(scenes[:1]), flow_cell=3)
    rig = scenes[0].rig
    still = Motion(rig, scenes[0].vertices, "cube", "spin", "spin")
    with pytest.raises(InputError, match="no joint matrices"):
        placed_matrices(still, 0.0, None)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_shows_the_same(scenes, batch):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    found = render_scenes(pack_scenes(scenes).to("cuda"), grid=GRID)
    for name, value in found.items():
        different = (value.float().cpu() - batch[name].float()).abs() > 2e-3
        assert different.float().mean() < 2e-3, name
