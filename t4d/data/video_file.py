"""Videos as arrays."""

from pathlib import Path

import numpy as np

from t4d.errors import InputError

MAX_PIXELS = 2**29  # of a whole video: 2 GB as RGBA


def read_video(path: Path, *, alpha: bool = False) -> tuple[np.ndarray, float]:
    """Decode a whole video.

    Args:
        path: A file ffmpeg can read.
        alpha: Return RGBA; a video without alpha gets 255.

    Returns:
        (uint8 [T, H, W, 3 or 4] RGB(A), frames per second). Pictures stand upright where the file says that it was
        filmed turned. Colours are converted as the file's tags say; untagged ones as BT.601, which is what untagged
        files of ffmpeg hold.

    Raises:
        InputError: When the file is not a video or is gigantic, or its pixels are not square.
    """
    import av  # here, because clips that are rendered need no ffmpeg

    frames = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate, aspect = stream.average_rate, stream.sample_aspect_ratio
            if aspect and aspect != 1:
                raise InputError(
                    f"{Path(path).name} has pixels {aspect} times as wide as high; write it with square ones"
                )
            decoder = container.decode(stream)
            if alpha and stream.codec_context.name in ("vp8", "vp9"):
                # ffmpeg's own VP8/VP9 decoders drop the alpha channel, libvpx's keep it
                codec = av.CodecContext.create(f"libvpx{'-vp9' if stream.codec_context.name == 'vp9' else ''}", "r")
                decoder = (frame for packet in container.demux(stream) for frame in codec.decode(packet))  # type: ignore[attr-defined]
            for frame in decoder:
                if (len(frames) + 1) * frame.width * frame.height > MAX_PIXELS:
                    raise InputError(
                        f"{Path(path).name} has more than {MAX_PIXELS} pixels in all; shorten or shrink it"
                    )
                picture = frame.reformat(format="rgba" if alpha else "rgb24")
                turns, rest = divmod(frame.rotation, 90)  # counter-clockwise; telephones film lying down
                if rest:
                    raise InputError(f"{Path(path).name} is turned by {frame.rotation} degrees; write it upright")
                frames.append(np.rot90(picture.to_ndarray(), turns))
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{Path(path).name} cannot be read as a video ({error}); give an mp4 file.") from error
    if not frames:
        raise InputError(f"{Path(path).name} holds no pictures; give an mp4 file.")
    return np.stack(frames), float(rate or 0)
