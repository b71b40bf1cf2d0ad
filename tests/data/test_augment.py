"""Augmentation of objects and motions, and clips that start from rest."""

import dataclasses

import numpy as np
import pytest
import torch

from t4d.data.augment import mirrored, recolored, stretched, swollen
from t4d.data.dataset import ClipDataset
from t4d.data.motion import Motion, procedural_motion, rig_motion, root_translation
from t4d.data.procedural import generate
from t4d.data.rigpack import PackedClip
from t4d.data.timing import frame_times
from t4d.geometry.camera import orbit_camera

H, W = 40, 52


@pytest.fixture(scope="module")
def running() -> Motion:
    body = generate(np.random.default_rng(2), "quadruped", "fox", detail=0.6)
    return procedural_motion(np.random.default_rng(0), body, 5, False, verb="run")


def render(motion: Motion, azimuth: float) -> np.ndarray:
    from t4d.data.render import render_clip

    vertices = np.ascontiguousarray(motion.vertices - motion.vertices[0].mean(0) * [0, 1, 1], np.float32)
    srgb = np.repeat(motion.rig.colors[None], len(vertices), 0)
    return render_clip(vertices, motion.rig.faces, srgb, [orbit_camera(azimuth, 15.0, width=W, height=H)]).rgba[0]


def volume(motion: Motion) -> float:
    corner = motion.vertices[0][motion.rig.faces].astype(np.float64)
    return float(np.einsum("fi,fi->", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])) / 6)


def test_mirror_is_the_mirror_image(running):
    """Objects face -y: from there, the mirrored object looks as the flipped picture does."""
    other = mirrored(running)
    ours, theirs = render(running, -70.0)[..., ::-1], render(other, -110.0)
    assert np.mean(np.abs(ours - theirs) > 0.02) < 0.01 < np.mean(np.abs(render(running, -70.0) - theirs) > 0.02)
    assert volume(other) == pytest.approx(volume(running)) and volume(other) > 0, "faces keep facing outwards"
    again = mirrored(other)
    np.testing.assert_array_equal(again.vertices, running.vertices)
    np.testing.assert_array_equal(again.rig.faces, running.rig.faces)


def test_stretching_scales_the_axes(running):
    tall = stretched(running, np.array([1.0, 0.9, 1.3]))
    ratio = np.ptp(tall.vertices.reshape(-1, 3), axis=0) / np.ptp(running.vertices.reshape(-1, 3), axis=0)
    np.testing.assert_allclose(ratio, [1.0, 0.9, 1.3], rtol=1e-5)


def test_swelling_changes_parts_alike_on_both_sides():
    body = generate(np.random.default_rng(2), "quadruped", "fox", detail=0.6)
    rig, names = body.rig, body.skeleton.names
    np.testing.assert_allclose(swollen(rig, np.random.default_rng(0), 0.0).vertices, rig.vertices, atol=1e-6)
    size = np.ptp(rig.vertices, axis=0).max()
    seen = []
    for seed in range(6):
        fat = swollen(rig, np.random.default_rng(seed), 0.15)
        moved = np.linalg.norm(fat.vertices - rig.vertices, axis=1)
        assert 0.002 * size < moved.max() < 0.15 * size, "thicker or thinner, not torn apart"
        # A part is one joint's rigid share: its size changes alike on both sides, by no more than asked.
        factors = {}
        for name in ("fl_low", "fr_low", "head", "bl_low", "br_low"):
            part = _rigid(rig, names.index(name))
            factors[name] = np.ptp(fat.vertices[part], axis=0)[2] / np.ptp(rig.vertices[part], axis=0)[2]
            assert 0.85 - 1e-3 <= factors[name] <= 1.15 + 1e-3
        assert factors["fl_low"] == pytest.approx(factors["fr_low"], rel=2e-2)
        assert factors["bl_low"] == pytest.approx(factors["br_low"], rel=2e-2)
        seen.append(factors["head"] / factors["bl_low"])
    assert np.ptp(seen) > 0.05, "proportions differ between draws"


def _rigid(rig, joint: int) -> np.ndarray:
    """Vertices that follow one joint only."""
    return np.flatnonzero(((rig.joints == joint) * rig.weights).sum(1) > 0.999)


def test_speed_scales_time():
    for duration, frames, start in ((0.8, 16, 0.25), (4.0, 16, 0.5), (1.8, 40, 0.1)):
        slow, fast = (np.diff(frame_times(duration, frames, start, s)) % duration for s in (1.0, 1.2))
        np.testing.assert_allclose(fast, 1.2 * slow, atol=1e-9)
    tight = frame_times(1.55, 16, 1.0, 1.2)  # longer than one loop at this speed: goes round rather than past the end
    assert tight.min() >= 0 and tight.max() <= 1.55
    body = generate(np.random.default_rng(1), "fish", "shark")
    slow, fast = (procedural_motion(np.random.default_rng(5), body, 9, True, s, "swim").vertices for s in (1.0, 2.0))
    np.testing.assert_allclose(fast[4], slow[8], atol=1e-5)


def test_falling_happens_once():
    body = generate(np.random.default_rng(1), "biped", "knight")
    motion = procedural_motion(np.random.default_rng(5), body, 16, False, 1.2, "fall")
    height, rest = np.ptp(motion.vertices[..., 2], axis=1), np.ptp(body.rig.vertices[:, 2])
    np.testing.assert_allclose(motion.vertices[0], body.rig.vertices, atol=1e-5)
    assert height[1] > 0.99 * rest and height[7:].max() < 0.5 * rest and np.ptp(height[-4:]) < 1e-5, "it stays down"
    ground = body.rig.vertices[:, 2].min()
    assert abs(motion.vertices[-1][:, 2].min() - ground) < 0.02 * rest, "on the ground it stood on"


def test_crawling_is_low_and_on_the_ground():
    for plan, noun in (("biped", "child"), ("robot", None), ("quadruped", "cat")):
        body = generate(np.random.default_rng(1), plan, noun)
        motion = procedural_motion(np.random.default_rng(5), body, 8, False, verb="crawl")
        ground, rest = body.rig.vertices[:, 2].min(), np.ptp(body.rig.vertices[:, 2])
        assert (motion.vertices[..., 2].mean() - ground) < 0.95 * (body.rig.vertices[:, 2].mean() - ground)
        assert abs(motion.vertices[..., 2].min() - ground) < 0.03 * rest


def travelling(dog_pack, offset, velocity, hop):
    """The pack's clip carried to another place, walking away, and hopping once."""
    clip = dog_pack.clips[0]
    count = len(clip.matrices)
    time = np.arange(count, dtype=np.float64)[:, None]
    path = np.asarray(offset) + time * np.asarray(velocity)
    path[:, 2:] += hop * np.sin(np.pi * time / (count - 1))
    matrices = clip.matrices.astype(np.float32)
    matrices[..., 3] += path[:, None]
    return dataclasses.replace(dog_pack, clips=[PackedClip("Gallop", 2.0, np.repeat(matrices, 4, 0))])


def test_from_rest_takes_the_root_translation_out(dog_pack):
    """Stands where it rests in frame 0, stays there, keeps its jump, and leaves no slide in the blend."""
    rest = dog_pack.rig.rest_vertices()
    size = np.ptp(rest, axis=0).max()
    home = rig_motion(travelling(dog_pack, (0, 0, 0), (0, 0, 0), 0.0), 0, "run", 16, 0.3, True)
    away = rig_motion(travelling(dog_pack, (5, -3, 2), (0.2, 0.1, 0), 0.0), 0, "run", 16, 0.3, True)
    np.testing.assert_allclose(away.vertices[0], rest, atol=1e-5)
    assert np.abs(away.vertices - home.vertices).max() < 0.15 * size  # the run bobs that much
    drift = away.vertices[:, :, :2].mean(1) - rest[:, :2].mean(0)
    assert np.abs(drift).max() < 0.1 * size and np.abs(away.vertices[..., 2].mean(1) - rest[:, 2].mean()).max() < 0.25
    hop = rig_motion(travelling(dog_pack, (5, -3, 2), (0.2, 0.1, 0), 0.8), 0, "run", 16, 0.3, True)
    rise = hop.vertices[:, :, 2].min(1) - rest[:, 2].min()
    assert rise.max() > 0.6 and rise[0] == 0, "a jump stays a jump"
    # Without the removal the first three frames would carry the dog five units away.
    kept = rig_motion(travelling(dog_pack, (5, -3, 2), (0.2, 0.1, 0), 0.0), 0, "run", 16, 0.0, False)
    assert kept.vertices[0, :, 0].mean() - rest[:, 0].mean() > 4


def test_what_stands_still_is_the_root(dog_pack):
    """A lid that swings open must not push its chest away, however many of the vertices it has."""
    rig = dog_pack.rig
    head = (np.arange(18) >= 9)[None, :, None]  # half of the joints swing out and come to rest elsewhere
    matrices = np.tile(np.eye(3, 4, dtype=np.float32), (8, 18, 1, 1))
    path = np.stack([np.linspace(0, 1, 8) ** 2, np.zeros(8), np.zeros(8)], 1)[:, None]
    matrices[..., 3] += head * path
    np.testing.assert_allclose(root_translation(rig, matrices), 0, atol=1e-6)
    matrices[..., 3] += np.array([3.0, 0, 1.0]) + np.arange(8)[:, None, None] * [0, 0.5, 0]
    expected = np.array([3.0, 0, 1.0]) + np.arange(8)[:, None] * [0, 0.5, 0]
    np.testing.assert_allclose(root_translation(rig, matrices), expected, atol=1e-5)


def test_blend_is_over_three_frames(dog_pack):
    rest = dog_pack.rig.rest_vertices()
    pack = travelling(dog_pack, (0, 0, 0), (0, 0, 0), 0.0)
    motion = rig_motion(pack, 0, "run", 16, 0.0, True)
    matrices = pack.clips[0].at(frame_times(2.0, 16, 0.0))
    posed = pack.rig.skin(matrices) - root_translation(pack.rig, matrices)[:, None]
    np.testing.assert_allclose(motion.vertices[3:], posed[3:], atol=1e-5)
    for t, share in ((1, 7 / 27), (2, 20 / 27)):  # smoothstep of 1/3 and 2/3
        np.testing.assert_allclose(motion.vertices[t], rest + share * (posed[t] - rest), atol=1e-4)


def test_half_of_all_clips_start_from_rest():
    data = ClipDataset(None, procedural_fraction=1.0, side=16, views=1, frames=4)
    flags = []
    for i in range(150):
        rng = np.random.default_rng([data.seed, i])
        motion = data._motion(rng, rng.spawn(1)[0])
        flags.append(motion.from_rest)
    assert abs(np.mean(flags) - 0.5) < 0.12
    always = ClipDataset(None, procedural_fraction=1.0, side=16, views=1, frames=4, rest_fraction=1.0)
    rng = np.random.default_rng([0, 5])
    motion = always._motion(rng, rng.spawn(1)[0])
    assert motion.from_rest and not np.allclose(motion.vertices[0], motion.vertices[-1])


def test_augmentation_changes_looks_not_what_is_drawn():
    make = lambda **kw: ClipDataset(None, procedural_fraction=1.0, side=(24, 32), views=2, frames=4, seed=3, **kw)  # noqa: E731
    plain, changed = make(proportions=0, mirror=0, speed=0), make(mirror=1.0)
    for i in range(5):
        a, b = plain[i], changed[i]
        for key in ("caption", "verb", "noun", "name", "clip"):
            assert a[key] == b[key]
        assert torch.equal(a["cameras"], b["cameras"]) and not torch.equal(a["rgba"], b["rgba"])
        torch.testing.assert_close(b["rgba"], changed[i]["rgba"], atol=0, rtol=0)


def test_recolouring_keeps_range_and_grey():
    rng = np.random.default_rng(0)
    colors = rng.uniform(0, 1, (50, 3)).astype(np.float32)
    colors[0] = 0.25
    for _ in range(5):
        new = recolored(colors, rng)
        assert new.min() >= 0 and new.max() <= 1 and np.isfinite(new).all()
        assert np.ptp(new[0]) < 1e-6, "grey stays grey: hues turn about the grey axis"
        assert np.abs(new - colors).max() > 0.05
