"""Videos: what was written is what is read, and browsers can play it."""

import numpy as np
import pytest
import torch

from t4d.data.video_file import read_video
from t4d.errors import InputError
from t4d.export.video import render_orbit, write_grid, write_orbit, write_video
from t4d.geometry.camera import orbit_camera
from t4d.splat.render import render_gaussians


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a.astype(float) - b.astype(float)) ** 2 / 255**2)))


def smooth_frames(frames: int = 5, height: int = 48, width: int = 64) -> np.ndarray:
    """Coloured gradients that move; [T, H, W, 3] float 0..1."""
    t, y, x = np.meshgrid(np.arange(frames) / frames, *(np.linspace(0, 1, n) for n in (height, width)), indexing="ij")
    return np.stack([x, y, 0.5 + 0.5 * np.sin(6.28 * (t + x))], axis=-1)


def test_round_trip_keeps_pixels_order_and_rate(tmp_path):
    frames = smooth_frames()
    read, fps = read_video(write_video(tmp_path / "a.mp4", frames, 8))
    assert read.shape == (5, 48, 64, 3) and fps == 8
    table = np.array([[psnr(a, 255 * b) for b in frames] for a in read])
    assert (np.diag(table) > 36).all(), table
    assert (table.argmax(1) == np.arange(5)).all()


@pytest.mark.parametrize("color", [(200, 30, 40), (10, 180, 60), (128, 128, 128), (30, 60, 220)])
def test_colours_do_not_shift(tmp_path, color):
    """A wrong YUV matrix or range moves flat colours by 5 levels and more."""
    frames = np.full((3, 32, 48, 3), color, dtype=np.uint8)
    read, _ = read_video(write_video(tmp_path / "flat.mp4", frames, 4))
    assert np.abs(read.astype(int) - frames).max() <= 3


def test_stream_is_what_browsers_play(tmp_path):
    import av

    path = write_video(tmp_path / "a.mp4", smooth_frames(), 12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate or 0) == 12.5
        assert (int(stream.codec_context.colorspace), int(stream.codec_context.color_range)) == (1, 1)
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # the index comes first, so playing starts at once


def test_odd_sizes_are_padded(tmp_path):
    frames = smooth_frames(height=31, width=45)
    read, _ = read_video(write_video(tmp_path / "odd.mp4", frames, 8))
    assert read.shape[1:3] == (32, 46)
    assert psnr(read[0, :31, :45], 255 * frames[0]) > 30


def test_grid_places_views_in_reading_order(tmp_path):
    """Three views of 20 x 28 fill a 2 x 2 grid, the fourth place stays grey."""
    clip = torch.zeros(3, 4, 3, 20, 28)
    for view in range(3):
        clip[view, :, view] = 0.8
    read, _ = read_video(write_grid(tmp_path / "grid.mp4", clip, 4, min_side=0))
    assert read.shape == (4, 40, 56, 3)
    centres = [read[2, y, x] for y, x in ((10, 14), (10, 42), (30, 14))]
    assert [int(c.argmax()) for c in centres] == [0, 1, 2] and all(c.max() > 190 for c in centres)
    assert np.abs(read[2, 30, 42].astype(int) - 128).max() <= 3


def test_grid_enlarges_by_a_whole_factor_and_draws_labels(tmp_path):
    clip = torch.full((4, 2, 3, 20, 30), 0.5)
    plain, _ = read_video(write_grid(tmp_path / "plain.mp4", clip, 4, min_side=100))
    labelled, _ = read_video(write_grid(tmp_path / "labels.mp4", clip, 4, min_side=100, labels=list("abcd")))
    assert plain.shape == labelled.shape == (2, 120, 180, 3)
    assert plain.std() < 2 < labelled.std()


def test_orbit_pictures_are_renders_of_the_right_frame_and_angle(tmp_path, moving_asset):
    """Picture 7 of 10 over a 5-frame loop is frame 2 seen from azimuth 252."""
    pictures = render_orbit(moving_asset, 5, length=10, size=40, elevation=15)
    expected = render_gaussians(moving_asset(2), [orbit_camera(252.0, 15.0, 3.0, 40.0, 40, 40)], background=0.5)
    assert torch.equal(pictures[7], expected[0, :3].permute(1, 2, 0))
    read, fps = read_video(write_orbit(tmp_path / "orbit.mp4", moving_asset, 5, 6, length=10, size=40))
    assert read.shape == (10, 40, 40, 3) and fps == 6
    assert psnr(read[7], 255 * pictures[7].numpy()) > 28


@pytest.mark.parametrize(
    ("frames", "fps", "found"),
    [
        (np.zeros((0, 8, 8, 3), np.uint8), 8, "shape"),
        (np.zeros((2, 3, 8, 8), np.uint8), 8, "shape"),
        (np.full((2, 8, 8, 3), np.nan), 8, "NaN"),
        (np.zeros((2, 8, 8, 3), np.int64), 8, "dtype"),
        (np.zeros((2, 8, 8, 3), np.uint8), 0, "fps"),
    ],
)
def test_bad_input_is_named_and_leaves_no_file(tmp_path, frames, fps, found):
    with pytest.raises(InputError, match=found):
        write_video(tmp_path / "bad.mp4", frames, fps)
    assert list(tmp_path.iterdir()) == []


def test_reading_something_else_is_refused(tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"a\.mp4"):
        read_video(tmp_path / "a.mp4")
