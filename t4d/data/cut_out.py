"""Objects out of pictures over a plain background."""

from typing import cast

import numpy as np
from scipy import ndimage

from t4d.diffusion.segmenter import srgb_to_lab
from t4d.errors import InputError

LOW, HIGH = 4.0, 12.0  # CIE76: from LOW on a pixel may be object, from HIGH on it is
STRONG = 24.0  # halos that codecs leave beside objects are fainter
PLAIN = 0.7  # least share of frame 0's border that shows the background
# sRGB -> BT.709 luma and, for the same reason as in `cut_out`, a quarter of the chroma
_SEEN = np.array([[0.2126, 0.7152, 0.0722], [-0.0287, -0.0963, 0.125], [0.125, -0.1135, -0.0115]], np.float32).T


def plain_background(picture: np.ndarray, expected: tuple[int, int, int] | None, name: str) -> np.ndarray:
    """The one colour at a picture's border.

    Args:
        picture: [H, W, 3] sRGB in 0..1.
        expected: sRGB 0..255 it must be; None: the border's median.
        name: Of the video.

    Returns:
        [3] sRGB in 0..1.

    Raises:
        InputError: Too much of the border is of other colours.
    """
    border = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    color = np.median(border, 0) if expected is None else np.asarray(expected, np.float32) / 255
    share = float((np.linalg.norm(srgb_to_lab(border) - srgb_to_lab(color), axis=-1) < HIGH).mean())
    if share < PLAIN:
        rgb = tuple(int(x) for x in np.round(color * 255))
        raise InputError(
            f"only {share:.0%} of the border of {name}'s frame 0 is of the background's colour {rgb}; give the right "
            "colour, or videos with alpha"
        )
    return color.astype(np.float32)


def cut_out(picture: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separates an object from a plain background.

    Pixels farther than `HIGH` from the background in CIE Lab are object, those farther than `LOW` that touch them too.
    Along the silhouette a pixel mixes both colours; it is taken apart with the colour of the nearest pixel inside.
    Faint specks that touch nothing stronger are dropped. Unlike `t4d.diffusion.segmenter`, which judges generated
    pictures, nothing is linked to other frames and holes stay open: a rendered background has no stains.

    Args:
        picture: [H, W, 3] sRGB in 0..1.
        background: [3].

    Returns:
        The object's own colour [H, W, 3] (anything where it is not) and coverage [H, W], both float32 in 0..1.
    """
    distance = np.linalg.norm(srgb_to_lab(picture) - srgb_to_lab(background), axis=-1)
    grown = ndimage.binary_propagation(distance > HIGH, mask=distance > LOW, structure=np.ones((3, 3)))
    mask = np.asarray(grown, dtype=bool)
    # two pixels deep: videos hold colour at half size, which bleeds across the silhouette
    inside = np.asarray(ndimage.binary_erosion(mask, np.ones((5, 5)), border_value=1), dtype=bool)
    labels = np.zeros(mask.shape, np.int32)
    count = cast(int, ndimage.label(mask, np.ones((3, 3)), output=labels))
    stays = np.bincount(labels[inside | (distance > STRONG)], minlength=count + 1) > 0
    stays[0] = False
    mask = stays[labels]
    alpha, paint = mask.astype(np.float32), picture.copy()
    rim = mask & ~inside
    if rim.any():
        seen = (picture - background) @ _SEEN
        rows, columns = _solid_pixels(inside, np.square(seen).sum(-1), rim, distance < STRONG)
        whole, part, solid = seen[rows, columns], seen[rim], picture[rows, columns]
        share = (whole * part).sum(-1) / np.maximum(np.square(whole).sum(-1), 1e-6)
        alpha[rim] = np.clip(share, 0, 1)
        paint[rim] = np.where((share < 0.95)[:, None], solid, picture[rim])
    return paint, alpha


def _solid_pixels(
    inside: np.ndarray, signal: np.ndarray, rim: np.ndarray, weak: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, one a rim pixel, of pixels that show the object's colour unmixed.

    The nearest one inside; where the object is too thin to have an inside, the pixel itself, or, if it is so faint
    that it may be a video codec's halo of something stronger, the strongest about it.
    """
    place = np.argwhere(rim).T
    found = place.copy()
    reach = np.arange(-2, 3)
    around = np.stack(np.meshgrid(reach, reach, indexing="ij")).reshape(2, -1, 1) + place[:, None]  # [2, 25, rim]
    around = np.clip(around, 0, np.array(signal.shape)[:, None, None] - 1)
    strongest = np.argmax(signal[around[0], around[1]], 0)
    faint = weak[rim]
    found[:, faint] = np.take_along_axis(around, strongest[None, None], 1)[:, 0, faint]
    if inside.any():
        nearest = np.asarray(ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True))
        nearest = nearest[:, rim]
        near = np.abs(nearest - place).max(0) <= 3
        found[:, near] = nearest[:, near]
    return found[0], found[1]
