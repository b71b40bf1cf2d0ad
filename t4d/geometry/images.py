"""Decoding pictures that come with object files."""

import io
import struct
from typing import Any

import numpy as np

MAX_PIXELS = 8192 * 8192
MAX_TEXTURE = 2048
# Pillow also opens files that make it start other programs (EPS: Ghostscript); strangers send these pictures.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TGA", "TIFF", "DDS")


def decode_image(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3 or 4] of an encoded picture, at most 2048 pixels a side; raises OSError if undecodable."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return to_array(image)
    except UnidentifiedImageError as error:  # its own words are a memory address
        raise OSError("it is no picture of a known kind") from error
    except (Image.DecompressionBombError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise OSError(" ".join(str(error).split())) from error


def to_array(image: Any) -> np.ndarray:
    """uint8 [H, W, 3 or 4] of a PIL image, at most 2048 pixels a side; raises OSError if it is absurdly large."""
    from PIL import Image

    if image.width * image.height > MAX_PIXELS:
        raise OSError(f"it has {image.width}x{image.height} pixels")
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    picture = image.convert("RGBA" if transparent else "RGB")
    picture.thumbnail((MAX_TEXTURE, MAX_TEXTURE), Image.Resampling.LANCZOS)
    return np.asarray(picture, np.uint8)
