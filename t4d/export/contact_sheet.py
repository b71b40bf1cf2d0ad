"""One picture of a whole clip: a row per view, a column per frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from t4d.errors import InputError
from t4d.export.files import atomic_path
from t4d.export.tiles import Frames, clip_bytes, draw_labels, enlarge, tile


def contact_sheet(
    rgb: Frames,
    *,
    max_frames: int = 8,
    view_labels: Sequence[str] | None = None,
    frame_labels: bool = True,
    gap: int = 2,
    min_tile: int = 96,
) -> np.ndarray:
    """Lay a clip out as rows of views and columns of frames.

    Args:
        rgb: [V, T, 3 or 4, H, W] uint8 or sRGB 0..1.
        max_frames: Most columns; a longer clip is sampled uniformly, first and last frame included.
        view_labels: V texts drawn on the first column (for example azimuths); None draws none.
        frame_labels: Draw the frame number on the first row.
        gap: Pixels between tiles.
        min_tile: Tiles whose shorter side is below this many pixels are enlarged by a whole factor.

    Returns:
        uint8 [height, width, 3].

    Raises:
        InputError: For a clip of another shape or with values that are not finite, or labels that do not match V.
    """
    clip = clip_bytes(rgb)
    views, frames, height, width = clip.shape[:4]
    if max_frames < 1:
        raise InputError(f"max_frames is {max_frames}, expected at least 1.")
    if view_labels is not None and len(view_labels) != views:
        raise InputError(f"{len(view_labels)} view labels were given for {views} views; give one each.")
    columns = np.unique(np.linspace(0, frames - 1, min(max_frames, frames)).round().astype(int))
    factor = max(1, -(-min_tile // min(height, width)))
    chosen = enlarge(clip[:, columns], factor)
    sheet = tile(chosen.reshape(-1, *chosen.shape[2:]), columns=len(columns), gap=gap)
    step_y, step_x = height * factor + gap, width * factor + gap
    labels = [(3, view * step_y + step_y - gap - 18, text) for view, text in enumerate(view_labels or ())]
    if frame_labels:
        labels += [(column * step_x + 3, 1, str(frame)) for column, frame in enumerate(columns)]
    return draw_labels(sheet, labels, size=12)


def write_contact_sheet(path: Path, rgb: Frames, **options) -> Path:
    """Write `contact_sheet(rgb, **options)` as a PNG and return its path; arguments and errors as there."""
    from PIL import Image

    sheet = contact_sheet(rgb, **options)
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG", optimize=True)
    return Path(path)
