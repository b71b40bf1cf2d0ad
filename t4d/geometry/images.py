"""Decoding pictures that come with object files."""

import io
from typing import Any

import numpy as np

MAX_PIXELS = 8192 * 8192
MAX_TEXTURE = 2048


def decode_image(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3 or 4] of an encoded picture, at most 2048 pixels a side; raises OSError if undecodable."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return to_array(image)


def to_array(image: Any) -> np.ndarray:
    """uint8 [H, W, 3 or 4] of a PIL image, at most 2048 pixels a side; raises OSError if it is absurdly large."""
    from PIL import Image

    if image.width * image.height > MAX_PIXELS:
        raise OSError(f"it has {image.width}x{image.height} pixels")
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    picture = image.convert("RGBA" if transparent else "RGB")
    picture.thumbnail((MAX_TEXTURE, MAX_TEXTURE), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.uint8)
