"""A folder of one's own videos, with and without alpha, and what is wrong with it."""

import json
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from sample_items import centre, disc, write_disc_video

from t4d.data.video_file import read_video
from t4d.data.video_folder import CAPTIONS, VideoFolderClips
from t4d.errors import InputError
from t4d.geometry.camera import network_camera, orbit_camera


@pytest.fixture
def folder(tmp_path):
    captions = {"roll": {"caption": "it rolls", "elevation": 20, "azimuth": 45, "noun": "disc"}, "a jump": "it jumps"}
    (tmp_path / CAPTIONS).write_text(json.dumps(captions))
    for name in captions:
        for view in range(3):
            write_disc_video(tmp_path / name / f"view_{view}.mp4", view, 9)
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def write_alpha(path, codec: str, pixels: str, options=None) -> np.ndarray:
    """Five RGBA frames of a moving disc; the alphas [5, 40, 64]."""
    pairs = [disc(15 + 3 * t, 18, 9, 40, 64, (0.2, 0.7, 0.3), (0.2, 0.7, 0.3)) for t in range(5)]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 40, pixels
        stream.options = options or {}
        for picture, alpha in pairs:
            rgba = np.round(255 * np.dstack([picture, alpha])).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pixels)))
        container.mux(stream.encode(None))
    return np.stack([alpha for _, alpha in pairs])


def test_clips_of_a_folder(folder):
    data = VideoFolderClips(folder, side=(48, 80), frames=5)
    assert len(data) == 2 and data.views == 3
    jump, roll = data[0], data[1]
    assert [jump[k] for k in ("caption", "noun", "verb", "name", "clip")] == ["it jumps", "", "", "a jump", "a jump"]
    assert roll["caption"] == "it rolls" and roll["noun"] == "disc" and roll["rgba"].shape == (3, 5, 4, 48, 80)
    for view in range(3):
        assert torch.equal(
            roll["cameras"][view], network_camera(orbit_camera(45 + 120 * view, 20, width=80, height=48))
        )
        assert torch.equal(jump["cameras"][view], network_camera(orbit_camera(120 * view, 15, width=80, height=48)))
        for k, frame in enumerate((0, 2, 4, 6, 8)):
            assert centre(roll["rgba"][view, k, 3]) == pytest.approx((12 + frame, 14 + view), abs=0.15)


@pytest.mark.parametrize(
    "suffix, codec, pixels, options, tolerance",
    [
        ("mov", "png", "rgba", {}, 1 / 255),
        ("mov", "qtrle", "argb", {}, 1 / 255),
        ("webm", "libvpx-vp9", "yuva420p", {"crf": "4", "b": "0", "auto-alt-ref": "0"}, 0.06),
    ],
)
def test_alpha_of_videos_is_coverage(tmp_path, suffix, codec, pixels, options, tolerance):
    (tmp_path / CAPTIONS).write_text(json.dumps({"a": "a disc"}))
    (tmp_path / "a").mkdir()
    truth = write_alpha(tmp_path / "a" / f"view_0.{suffix}", codec, pixels, options)
    item = VideoFolderClips(tmp_path, side=(40, 64), frames=5, background="alpha")[0]
    assert np.abs(item["rgba"][0, :, 3].numpy() - truth).max() <= tolerance
    grey = item["rgba"][0, :, :3].permute(0, 2, 3, 1).numpy()
    expected = truth[..., None] * np.array((0.2, 0.7, 0.3)) + (1 - truth[..., None]) * 0.5
    assert np.abs(grey - expected).max() < tolerance + 0.02


@pytest.mark.parametrize("tagged", [True, False])
def test_colours_follow_the_files_tags(tmp_path, tagged):
    """Files tagged BT.709 and untagged ones, which ffmpeg makes with BT.601, show the same colour."""
    flat = np.full((3, 32, 48, 3), (200, 30, 40), np.uint8)
    path = tmp_path / "flat.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt, stream.options = 48, 32, "yuv420p", {"crf": "4"}
        if tagged:
            stream.codec_context.colorspace = Colorspace.ITU709
        for picture in flat:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709 if tagged else Colorspace.ITU601)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert np.abs(read_video(path)[0].astype(int) - flat).max() <= 4


def test_videos_without_alpha_are_refused(folder):
    with pytest.raises(InputError, match=r"a jump/view_0\.mp4 has no alpha"):
        VideoFolderClips(folder, side=(48, 80), frames=5, background="alpha")[0]


def test_gigantic_videos_are_refused(folder, monkeypatch):
    monkeypatch.setattr("t4d.data.video_file.MAX_PIXELS", 8 * 48 * 80)
    with pytest.raises(InputError, match=r"view_0\.mp4 has more than 30720 pixels in all"):
        VideoFolderClips(folder, frames=5)[0]


def test_views_are_checked(folder):
    (folder / "roll" / "view_1.mp4").rename(folder / "roll" / "view_5.mp4")
    with pytest.raises(InputError, match=r"roll has these views: view_0\.mp4, view_2\.mp4, view_5\.mp4; expected"):
        VideoFolderClips(folder)[1]
    (folder / "roll" / "view_5.mp4").rename(folder / "roll" / "view_2.webm")
    with pytest.raises(InputError, match=r"roll has both view_2\.mp4 and view_2\.webm"):
        VideoFolderClips(folder)[1]
    (folder / "roll" / "view_2.webm").unlink()
    (folder / "roll" / "view_2.mp4").rename(folder / "roll" / "view_1.mp4")
    with pytest.raises(InputError, match="roll has 2 views, 3 are asked for"):
        VideoFolderClips(folder)[1]
    for path in (folder / "a jump").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="a jump has these views: none"):
        VideoFolderClips(folder)


@pytest.mark.parametrize(
    "captions, message",
    [
        ("{", "is not JSON"),
        ("{}", "lists no clips"),
        ('{"roll": "x"}', "has no caption of a jump"),
        ('{"roll": "x", "a jump": "y", "walk": "z"}', "names walk, which is no folder"),
        ('{"roll": "", "a jump": "y"}', "roll has no caption"),
        ('{"roll": 3, "a jump": "y"}', "roll has no caption"),
        ('{"roll": {"caption": "x", "camera": 1}, "a jump": "y"}', r"roll has \['camera'\]"),
        ('{"roll": {"caption": "x", "elevation": "up"}, "a jump": "y"}', "elevation of roll is 'up'"),
        ('{"roll": {"caption": "x", "elevation": 91}, "a jump": "y"}', "roll is seen from"),
        ('{"roll": {"caption": "x", "azimuth": NaN}, "a jump": "y"}', "roll is seen from"),
    ],
)
def test_captions_are_checked(folder, captions, message):
    (folder / CAPTIONS).write_text(captions)
    with pytest.raises(InputError, match=message):
        VideoFolderClips(folder)


def test_captions_are_needed(folder):
    (folder / CAPTIONS).unlink()
    with pytest.raises(InputError, match=r"captions\.json is missing"):
        VideoFolderClips(folder)


def test_turned_and_squeezed_videos(tmp_path):
    """A telephone stores lying pictures and a note to turn them; anamorphic pixels are refused."""
    pictures = np.zeros((3, 48, 64, 3), np.uint8)
    pictures[:, :, 40:] = 255  # bright on the right: turned counter-clockwise, on top
    for name, degrees, aspect in (("turned", 90, 1), ("wide", 0, 2)):
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=8)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
            stream.set_display_rotation(degrees)
            for picture in pictures:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            out.mux(stream.encode())
    upright = read_video(tmp_path / "turned.mp4")[0]
    assert upright.shape == (3, 64, 48, 3)
    assert upright[:, :20].min() > 200 and upright[:, 30:].max() < 50
    with pytest.raises(InputError, match=r"wide\.mp4 has pixels 2 times as wide as high; write it with square ones"):
        read_video(tmp_path / "wide.mp4")
