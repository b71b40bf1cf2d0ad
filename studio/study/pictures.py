"""Pictures of different makers on one square of one background, so that format tells nothing about the maker."""

import cv2
import numpy as np

_TOLERANCE = 24
_PLAIN_SHARE = 0.98
_SAME = 2


def on_square(frames: np.ndarray, side: int, background: tuple[int, int, int]) -> np.ndarray:
    """Composites, replaces a plain background of another colour, and fits into a square.

    Args:
        frames: uint8 [T, H, W, 4] RGBA, straight alpha.
        side: of the square, pixels.
        background: R, G, B in 0..255.

    Returns:
        uint8 [T, side, side, 3]. The shape of the picture is kept; what is left of the square is background.
    """
    target = np.array(background, np.float32)
    flat = [_flatten(frame, target) for frame in frames]
    colour = plain_background(np.stack(flat))
    if colour is not None and np.abs(colour - target).max() > _SAME:
        flat = [_replace(frame, colour, target) for frame in flat]
    return np.stack([_fit(frame, side, background) for frame in flat])


def _flatten(frame: np.ndarray, target: np.ndarray) -> np.ndarray:
    alpha = frame[..., 3:].astype(np.float32) / 255
    return np.rint(frame[..., :3] * alpha + target * (1 - alpha)).astype(np.uint8)


def plain_background(frames: np.ndarray) -> np.ndarray | None:
    """The one colour along the border of all frames.

    Args:
        frames: uint8 [T, H, W, 3].

    Returns:
        float32 [3], or None where the border is not of one colour (a scene, or an object that reaches the edge).
    """
    edge = np.concatenate(
        [frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]], axis=1
    ).reshape(-1, 3).astype(np.float32)  # fmt: skip
    colour = np.median(edge, axis=0)
    near = np.abs(edge - colour).max(axis=1) <= _TOLERANCE / 2
    return colour if near.mean() >= _PLAIN_SHARE else None


def _replace(frame: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Paints the region of colour ``old`` that touches the border in ``new``, with the mixed pixels along it unmixed.

    Regions of that colour inside the object stay: they may as well be the object.
    """
    distance = np.abs(frame.astype(np.float32) - old).max(axis=2)
    _, labels = cv2.connectedComponents((distance <= _TOLERANCE).astype(np.uint8), connectivity=4)
    outer = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    outside = np.isin(labels, outer[outer > 0])
    # A pixel beside the background is a mix; how much of it is object follows from the purest object colour nearby.
    pure = cv2.dilate(np.where(outside, 0, distance), np.ones((5, 5), np.uint8))
    beside = cv2.dilate(outside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~outside
    share = np.where(beside, np.clip(distance / np.maximum(pure, 1), 0, 1), 1.0)
    share[outside] = 0
    mixed = frame + (1 - share)[..., None] * (new - old)
    mixed[outside] = new
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def _fit(frame: np.ndarray, side: int, background: tuple[int, int, int]) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != (width, height):
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = background
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = frame
    return square
