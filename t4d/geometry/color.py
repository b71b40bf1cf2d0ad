"""sRGB transfer function (IEC 61966-2-1), numpy."""

import numpy as np

# 8-bit textures hold 256 values, so decoding is a look-up.
SRGB8_TO_LINEAR: np.ndarray = np.where(
    np.arange(256) / 255 <= 0.04045, np.arange(256) / 255 / 12.92, ((np.arange(256) / 255 + 0.055) / 1.055) ** 2.4
).astype(np.float32)


def srgb_to_linear(srgb: np.ndarray) -> np.ndarray:
    """Linear light 0..1 of sRGB-encoded values 0..1; any shape."""
    srgb = np.clip(srgb, 0.0, 1.0)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB-encoded values 0..1 of linear light (clipped to 0..1); any shape."""
    linear = np.clip(linear, 0.0, 1.0)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 1e-12) ** (1 / 2.4) - 0.055)
