"""Reading what methods wrote, and writing videos that carry nothing but their pictures."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from PIL import Image, UnidentifiedImageError

from studio.study.schema import VideoSpec
from t4d.data.video_file import read_video
from t4d.errors import InputError

VIDEOS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif", ".m4v")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_MAX_PICTURE = 2**26


def read_frames(path: Path) -> tuple[np.ndarray, float]:
    """Frames of a video, or a picture as its only frame.

    Returns:
        (uint8 [T, H, W, 4] RGBA, frames per second; 0 for a picture).

    Raises:
        InputError: neither, damaged or gigantic.
    """
    if path.suffix.lower() in VIDEOS:
        return read_video(path, alpha=True)
    return _read_picture(path)[None], 0.0


def _read_picture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _MAX_PICTURE:
                raise InputError(f"{path} has {picture.width} x {picture.height} pixels; shrink it below 8000 x 8000.")
            return np.array(picture.convert("RGBA"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a picture ({error}); save it again as PNG.") from error


def moments(path: Path, count: int, fps: float, spec: VideoSpec) -> np.ndarray:
    """Which source frame stands at the middle of every prepared frame.

    Args:
        path: the source, for the message.
        count: source frames.
        fps: source rate.
        spec: what the study's videos are like.

    Returns:
        int [spec.frames].

    Raises:
        InputError: the source is too short for ``fit: trim``.
    """
    middles = (np.arange(spec.frames) + 0.5) / spec.frames
    if spec.fit == "stretch":
        return np.minimum((middles * count).astype(int), count - 1)
    if fps <= 0 or count / fps < spec.seconds - 0.5 / max(fps, 1e-9):
        lasts = count / fps if fps > 0 else 0
        raise InputError(
            f"{path} lasts {lasts:.2f} s, the study's videos {spec.seconds:g} s; shorten "
            "video.seconds or use video.fit: stretch."
        )
    return np.minimum((middles * spec.seconds * fps).astype(int), count - 1)


def write_plain_video(path: Path, frames: np.ndarray, spec: VideoSpec) -> None:
    """Writes H.264 that every browser plays, without a word of metadata; equal frames give equal bytes.

    Args:
        path: the file.
        frames: uint8 [T, side, side, 3] RGB.
        spec: rate and quality.
    """
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=Fraction(spec.fps))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": str(spec.crf), "preset": "medium", "threads": "1", "flags": "+bitexact", "g": "16"}
        codec = stream.codec_context
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for image in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                dst_colorspace=Colorspace.ITU709,
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
