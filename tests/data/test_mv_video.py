"""The MV-Video layout, on videos whose every picture says which view and frame it is."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from sample_items import centre, disc, write_disc_video

from t4d.data.cut_out import cut_out, plain_background
from t4d.data.mv_video import GOOD, INFO, MvVideoClips
from t4d.data.video_clip import frame_choice, resized
from t4d.data.video_file import read_video
from t4d.errors import InputError
from t4d.export.video import write_video
from t4d.geometry.camera import network_camera, orbit_camera

INFOS = {
    "uid_b": {"url": "x", "anim": {"00": {"angle": {"elv": 12.5, "azi_start": -7.0}, "text_prompt": "a disc rolls "}}},
    "uid_a": {
        "url": "y",
        "anim": {
            "00": {"angle": {"elv": 0, "azi_start": 11}, "text_prompt": "a disc slides"},
            "01": {"angle": {"elv": 30.0, "azi_start": 0.0}, "text_prompt": "a disc"},
        },
    },
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three animations, 48 frames of 80x48; only the views that clips of first views 0 and 3 need."""
    root = tmp_path_factory.mktemp("mv")
    (root / INFO).write_text(json.dumps(INFOS))
    (root / GOOD).write_text("uid_b\n\nuid_unknown\n")
    for uid, number, views in (("uid_a", "00", range(0, 16, 4)), ("uid_b", "00", [0, 3, 4, 7, 8, 11, 12, 15])):
        for view in views:
            write_disc_video(root / "videos" / uid / number / f"view_{view}.mp4", view, 48)
    return root


def pictured(item):
    """(x, y) of the disc in every view and frame."""
    return np.array([[centre(a) for a in view] for view in item["rgba"][:, :, 3]])


def test_views_frames_and_cameras_are_the_right_ones(tree):
    data = MvVideoClips(tree, side=(48, 80), frames=16, first_views=(0, 3), good_only=True)
    assert len(data) == 2
    for item, first in zip((data[0], data[1]), (0, 3)):
        assert item["rgba"].shape == (4, 16, 4, 48, 80) and set(item) == {
            "rgba", "cameras", "caption", "verb", "noun", "name", "clip"
        }  # fmt: skip
        assert (item["name"], item["clip"], item["caption"]) == ("uid_b", f"00/{first}", "a disc rolls")
        where = pictured(item)
        frames = np.round(np.linspace(0, 47, 16))
        assert np.abs(where[..., 0] - (12 + frames)).max() < 0.15
        assert np.abs(where[..., 1] - (14 + first + np.array([0, 4, 8, 12]))[:, None]).max() < 0.3
        for k in range(4):
            camera = orbit_camera(-7 + 22.5 * (first + 4 * k), 12.5, width=80, height=48)
            assert torch.equal(item["cameras"][k], network_camera(camera))


def test_pictures_are_the_object_over_grey(tree):
    item = MvVideoClips(tree, side=(48, 80), frames=16)[0]
    for frame, picture in enumerate(np.round(np.linspace(0, 47, 16))):
        truth, alpha = disc(12 + picture, 14, 8, 48, 80, (0.9, 0.3, 0.1), (0.5, 0.5, 0.5))
        rgba = item["rgba"][0, frame].permute(1, 2, 0).numpy()
        assert np.abs(rgba[..., 3] - alpha).mean() < 0.004  # the white rim is taken apart, not kept
        # 4:2:0 chroma blurs colours along the silhouette
        assert np.abs(rgba[..., :3] - truth).mean() < 0.006
    assert (item["rgba"][:, :, :3][(item["rgba"][:, :, 3:] == 0).expand(-1, -1, 3, -1, -1)] == 0.5).all()


def test_stride_starts_anywhere_below_it(tree):
    starts = set()
    for seed in range(6):
        data = MvVideoClips(tree, side=(48, 80), frames=16, sampling="stride", seed=seed)
        x = pictured(data[0])[..., 0] - 12
        starts.add(round(x[0, 0]))
        assert np.abs(x - x[:, :1] - 3 * np.arange(16)).max() < 0.2 and np.ptp(x[:, 0]) < 0.1
    assert starts <= {0, 1, 2} and len(starts) > 1


def test_frame_choice():
    rng = np.random.default_rng(0)
    assert frame_choice(48, 16, "uniform", rng)[[0, 1, -1]].tolist() == [0, 3, 47]
    assert frame_choice(16, 16, "uniform", rng).tolist() == frame_choice(16, 16, "stride", rng).tolist()
    for have in range(16, 60):
        for how in ("uniform", "stride"):
            chosen = frame_choice(have, 16, how, rng)
            assert (np.diff(chosen) >= 1).all() and 0 <= chosen[0] and chosen[-1] < have
    assert {int(frame_choice(48, 16, "stride", rng)[0]) for _ in range(60)} == {0, 1, 2}
    with pytest.raises(InputError, match="has 15 frames, a clip needs 16"):
        frame_choice(15, 16, "uniform", rng)


def test_entries_are_sorted_and_filtered(tree):
    data = MvVideoClips(tree)
    assert [(e.uid, e.animation) for e in data.entries] == [("uid_a", "00"), ("uid_a", "01"), ("uid_b", "00")]
    assert [e.first for e in MvVideoClips(tree, first_views=(3, 1)).entries] == [3, 1] * 3
    small = MvVideoClips(tree, side=(24, 40), views=2, frames=5)
    assert small[0]["rgba"].shape == (2, 5, 4, 24, 40)
    assert np.abs(pictured(small[0])[:, 0] - [[6, 7], [6, 11]]).max() < 0.1  # views 0 and 8


def test_wrong_videos_are_named(tree, tmp_path):
    with pytest.raises(InputError, match=r"uid_a/01/view_0\.mp4 is missing"):
        MvVideoClips(tree)[1]
    with pytest.raises(InputError, match=r"uid_a/00/view_1\.mp4 is missing"):
        MvVideoClips(tree, first_views=(1,))[0]
    with pytest.raises(InputError, match=r"uid_a/00/view_0\.mp4: the video has 48 frames, a clip needs 60"):
        MvVideoClips(tree, frames=60)[0]
    with pytest.raises(InputError, match="uid_a/00 is 80x48, asked for is 64x64"):
        MvVideoClips(tree, side=64)[0]
    folder = tmp_path / "videos" / "u" / "00"
    info = {"u": {"anim": {"00": {"angle": {"elv": 1, "azi_start": 2}, "text_prompt": ""}}}}
    (tmp_path / INFO).write_text(json.dumps(info))
    data = MvVideoClips(tmp_path, views=2, around=2, frames=4, side=(48, 80))
    write_disc_video(folder / "view_0.mp4", 0, 6)
    for options, message in (
        ({"frames": 5}, r"u/00/view_1.mp4 has 5 frames of 80x48, u/00/view_0.mp4 6 frames of 80x48"),
        ({"frames": 6, "width": 64}, "has 6 frames of 64x48"),
        ({"frames": 6, "color": (1, 1, 1)}, "view_1.mp4 shows no object in frame 0"),
    ):
        write_disc_video(folder / "view_1.mp4", 1, **options)
        with pytest.raises(InputError, match=message):
            data[0]
    (folder / "view_1.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"view_1\.mp4 cannot be read as a video"):
        data[0]


def entry(**changes):
    facts = {"angle": {"elv": 1.0, "azi_start": 2.0}, "text_prompt": "a"}
    return {"u": {"anim": {"00": {**facts, **changes}}}}


@pytest.mark.parametrize(
    "info, message",
    [
        ({}, "lists no objects"),
        ([1], "lists no objects"),
        ({"u": {}}, "entry of u is wrong"),
        (entry(angle={"elv": 1.0}), r"entry of u is wrong \(KeyError: 'azi_start'\)"),
        (entry(angle={"elv": "high", "azi_start": 0}), "entry of u is wrong"),
        (entry(angle={"elv": 95, "azi_start": 0}), "the angles are"),
        (entry(angle={"elv": 5, "azi_start": float("nan")}), "the angles are"),
        (entry(text_prompt=None), "is not plain text"),
        ({"../u": entry()["u"]}, "is not plain text"),
    ],
)
def test_wrong_metadata_is_named(tmp_path, info, message):
    (tmp_path / INFO).write_text(json.dumps(info))
    with pytest.raises(InputError, match=message):
        MvVideoClips(tmp_path)


def test_wrong_options_are_refused(tree, tmp_path):
    cases: list[tuple[dict[str, Any], str]] = [
        ({"views": 3}, "3 views cannot be spread evenly over 16"),
        ({"first_views": (4,)}, r"expected different numbers of 0\.\.3"),
        ({"first_views": (1, 1)}, "expected different"),
    ]
    for options, message in cases:
        with pytest.raises(InputError, match=message):
            MvVideoClips(tree, **options)
    with pytest.raises(InputError, match=f"{INFO} is missing"):
        MvVideoClips(tmp_path)
    (tmp_path / INFO).write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        MvVideoClips(tmp_path)
    (tmp_path / INFO).write_text(json.dumps(entry()))
    with pytest.raises(InputError, match=f"{GOOD} is missing"):
        MvVideoClips(tmp_path, good_only=True)
    (tmp_path / GOOD).write_text("v\n")
    with pytest.raises(InputError, match="no UID of"):
        MvVideoClips(tmp_path, good_only=True)


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.1, 0.6, 0.2)])
def test_cut_out_recovers_coverage_and_colour(background):
    """Antialiased truth: better than any hard mask, whose error is a quarter pixel along the silhouette."""
    color = np.array((0.8, 0.2, 0.3))
    picture, alpha = disc(30.3, 22.7, 14, 48, 64, color, background)
    hole, hole_alpha = disc(30.3, 22.7, 6, 48, 64, background, color)  # a ring: what shows through stays open
    picture = np.where(hole_alpha[..., None] > 0, hole, picture).astype(np.float32)
    alpha = alpha - hole_alpha
    paint, found = cut_out(picture, np.asarray(background, np.float32))
    hard = (alpha > 0.5).astype(float)
    assert np.abs(found - alpha).mean() < 0.3 * np.abs(hard - alpha).mean()
    assert np.abs(found - alpha).max() < 0.12
    assert np.abs(paint[found > 0.1] - color).max() < 0.05  # a pixel covered by 95 % keeps its own colour


@pytest.mark.parametrize("background", [(1.0, 1.0, 1.0), (0.5, 0.5, 0.5)])
def test_cut_out_survives_a_codec(tmp_path, background):
    """Thin and thick parts of strong and faint colours; 4:2:0 chroma leaves halos that are no object."""
    color, leg = np.array((0.8, 0.2, 0.3)), np.array((0.75, 0.7, 0.2))
    picture, alpha = disc(60, 44, 30, 96, 128, color, background)
    picture[74:92, 50:53], alpha[74:92, 50:53] = leg, 1
    path = write_video(tmp_path / "a.mp4", np.stack([picture] * 2).astype(np.float32), 8, crf=18)
    found = cut_out(read_video(path)[0][1].astype(np.float32) / 255, np.asarray(background, np.float32))[1]
    assert np.minimum(found, alpha).sum() / np.maximum(found, alpha).sum() > 0.97
    assert found[80:90, 50:53].min() > 0.5 and found[:, :26].max() == found[:, 94:].max() == 0


def test_thin_parts_are_kept():
    picture = np.ones((20, 30, 3), np.float32)
    picture[4:16, 10] = (0.2, 0.2, 0.8)
    _, alpha = cut_out(picture, np.ones(3, np.float32))
    assert (alpha[4:16, 10] == 1).all() and alpha.sum() == 12


def test_background_must_be_plain():
    rng = np.random.default_rng(0)
    picture = np.full((20, 30, 3), 0.75)
    picture[5:, 8:14] = 0.1  # an object that leaves the picture below
    assert np.allclose(plain_background(picture, None, "v"), 0.75)
    assert np.allclose(plain_background(picture, (191, 191, 191), "v"), 0.749, atol=1e-3)
    with pytest.raises(
        InputError, match=r"only 0% of the border of v's frame 0 is of the background's colour \(0, 0, 255"
    ):
        plain_background(picture, (0, 0, 255), "v")
    with pytest.raises(InputError, match="give the right colour, or videos with alpha"):
        plain_background(rng.random((20, 30, 3)), None, "v")


def test_resizing_keeps_places_and_sums():
    rgba = torch.zeros(2, 3, 4, 24, 40)
    rgba[1, 2, 3, 8:12, 20:24] = 1
    small = resized(rgba, (12, 20), "x")
    assert small.shape == (2, 3, 4, 12, 20) and small.sum() == 4 and (small[1, 2, 3, 4:6, 10:12] == 1).all()
    large = resized(rgba, (48, 80), "x")
    assert large.shape == (2, 3, 4, 48, 80) and centre(large[1, 2, 3]) == pytest.approx((44, 20), abs=1e-4)
    assert resized(rgba, (24, 40), "x") is rgba
