"""Object masks of generated clips, needed by L_rec (Eq. 10).

Neither the paper nor Animate3D's pipeline orders a segmenter, and Stage Two cannot run without masks. Default for
autoencoders without an alpha channel: distance in CIE Lab from the known background with hysteresis, linked in time.
"""

from typing import Protocol, cast

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

_RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE_D65 = _RGB_TO_XYZ.sum(axis=1)


class Segmenter(Protocol):
    """Finds the object in a clip over a known background."""

    def __call__(self, rgb: Tensor, reference_alpha: Tensor) -> Tensor:
        """Segment.

        Args:
            rgb: [V, T, 3, H, W] in 0..1.
            reference_alpha: coverage of frame 0 of every view as rendered, [V, 1, H, W].

        Returns:
            Masks [V, T, 1, H, W], 0. or 1.; frame 0 is ``reference_alpha > 0.5``.
        """
        ...


class BackgroundSegmenter:
    """Lab distance to a constant background with hysteresis, linked to the previous frame's mask.

    A pixel farther than ``high`` from the background is object; pixels farther than ``low`` join if connected to one.
    Components that do not touch the previous mask dilated by ``link`` pixels are dropped: they are background stains
    of the generator, since nothing moves farther than that in one frame.

    Args:
        background: grey level of the background, sRGB 0..1.
        low, high: thresholds, CIE76 colour difference units.
        link: dilation, pixels at 256 px clip width; scaled with the clip.
    """

    def __init__(self, background: float = 0.5, low: float = 4.0, high: float = 12.0, link: float = 8.0) -> None:
        self.background, self.low, self.high, self.link = background, low, high, link

    def __call__(self, rgb: Tensor, reference_alpha: Tensor) -> Tensor:
        views, frames, _, height, width = rgb.shape
        reach = max(1, round(self.link * width / 256))
        grey = srgb_to_lab(np.full(3, self.background))
        distance = np.linalg.norm(srgb_to_lab(np.moveaxis(rgb.cpu().numpy(), 2, -1)) - grey, axis=-1)
        masks = np.zeros((views, frames, 1, height, width), np.float32)
        for view in range(views):
            previous = reference_alpha[view, 0].cpu().numpy() > 0.5
            masks[view, 0, 0] = previous
            for frame in range(1, frames):
                labels = np.zeros((height, width), np.int32)
                count = cast(int, ndimage.label(distance[view, frame] > self.low, output=labels))
                near = np.asarray(ndimage.binary_dilation(previous, iterations=reach), dtype=bool)
                strong = np.bincount(labels[distance[view, frame] > self.high], minlength=count + 1) > 0
                linked = np.bincount(labels[near], minlength=count + 1) > 0
                keep = strong & linked
                keep[0] = False
                previous = np.asarray(ndimage.binary_fill_holes(keep[labels]), dtype=bool)
                masks[view, frame, 0] = previous
        return torch.from_numpy(masks)


def srgb_to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of sRGB colours [..., 3] in 0..1."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _RGB_TO_XYZ.T / _WHITE_D65
    cube = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack(
        [116 * cube[..., 1] - 16, 500 * (cube[..., 0] - cube[..., 1]), 200 * (cube[..., 1] - cube[..., 2])], axis=-1
    )
