"""When the frames of a training clip are taken, and how a clip starts from the rest pose."""

import numpy as np

LOOP_SECONDS = 1.5  # clips up to this long are shown as exactly one loop
LONG_FPS = 12.0  # frame rate of longer clips
EASE_FRAMES = 3


def frame_times(duration: float, frames: int, start: float) -> np.ndarray:
    """Times of a clip's frames.

    A short clip is stretched so that `frames` frames are exactly one loop (the next frame would be the first again);
    a longer one is shown at `LONG_FPS`.

    Args:
        duration: Of the stored clip, seconds.
        frames: T.
        start: 0..1: where in the loop, or in the room a long clip leaves, the first frame lies.

    Returns:
        [T] seconds in 0..duration.
    """
    if duration <= LOOP_SECONDS:
        return np.mod(start + np.arange(frames) / frames, 1.0) * duration
    span = (frames - 1) / LONG_FPS
    if span <= duration:
        return start * (duration - span) + np.arange(frames) / LONG_FPS
    return np.mod(start * duration + np.arange(frames) / LONG_FPS, duration)


def ease(frames: int, length: int = EASE_FRAMES) -> np.ndarray:
    """[T] rising from 0 at frame 0 (rest) to 1 after `length` frames, smoothly."""
    u = np.clip(np.arange(frames) / max(length, 1), 0, 1)
    return u * u * (3 - 2 * u)
