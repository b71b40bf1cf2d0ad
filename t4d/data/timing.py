"""When the frames of a training clip are taken, and how a clip starts from the rest pose."""

import numpy as np

LOOP_SECONDS = 1.5  # clips up to this long are shown as exactly one loop
LONG_FPS = 12.0  # frame rate of longer clips
EASE_FRAMES = 3


def frame_times(duration: float, frames: int, start: float, speed: float = 1.0, loops: bool = True) -> np.ndarray:
    """Times of a clip's frames.

    A short clip is stretched so that, at speed 1, `frames` frames are exactly one loop (the next frame would be the
    first again); a longer one is shown at `LONG_FPS`. A clip that does not end as it begins (a lid that opens, a
    landing) never starts over: if short it is shown once from its first frame to its last, and the end is held.

    Args:
        duration: Of the stored clip, seconds.
        frames: T.
        start: 0..1: where in the loop, or in the room a long clip leaves, the first frame lies.
        speed: Factor on the time between frames.
        loops: The clip ends as it begins.

    Returns:
        [T] seconds in 0..duration.
    """
    if duration <= LOOP_SECONDS and not loops:
        return np.minimum(np.arange(frames) / max(frames - 1, 1) * speed, 1.0) * duration
    if duration <= LOOP_SECONDS:
        return np.mod(start + np.arange(frames) / frames * speed, 1.0) * duration
    steps = np.arange(frames) / LONG_FPS * speed
    if steps[-1] <= duration:
        return start * (duration - steps[-1]) + steps
    if not loops:
        return np.minimum(steps, duration)
    return np.mod(start * duration + steps, duration)


def ease(frames: int, length: int = EASE_FRAMES) -> np.ndarray:
    """[T] rising from 0 at frame 0 (rest) to 1 after `length` frames, smoothly."""
    u = np.clip(np.arange(frames) / max(length, 1), 0, 1)
    return u * u * (3 - 2 * u)
