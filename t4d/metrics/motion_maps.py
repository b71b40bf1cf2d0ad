"""Where, how much and how evenly a clip's pictures change, against the real clip and against a still copy of frame 0.

Clips are [V, T, 4, H, W]: sRGB colour 0..1 over mid-grey, and coverage. Regions are bool [V, H, W] or [V, T, H, W].
"""

import torch
from torch import Tensor

INSIDE = 0.5  # coverage above it is object


def ever_inside(*clips: Tensor) -> Tensor:
    """Pixels that belong to the object in any frame of any of the clips [V, T, 4, H, W], as bool [V, H, W]."""
    return torch.stack([(_checked(clip)[:, :, 3] > INSIDE).any(1) for clip in clips]).any(0)


def temporal_variance(clip: Tensor) -> Tensor:
    """Variance of every pixel's colour over the frames, mean of the three channels.

    Args:
        clip: [V, T, 4, H, W].

    Returns:
        [V, H, W] float64.
    """
    return _checked(clip)[:, :, :3].double().var(1, correction=0).mean(1)


def map_correlation(found: Tensor, truth: Tensor, where: Tensor) -> float:
    """Pearson correlation of two maps over a region.

    Args:
        found, truth: [V, H, W], for example of `temporal_variance`.
        where: [V, H, W] bool.

    Returns:
        -1..1; 0 where `found` is constant: a clip that stands still has no pattern to agree with.

    Raises:
        ValueError: Shapes differ, fewer than two pixels count, or the truth is constant there.
    """
    if found.shape != truth.shape or found.shape != where.shape or int(where.sum()) < 2:
        raise ValueError(
            f"maps {list(found.shape)} and {list(truth.shape)} with {int(where.sum())} counted pixels of "
            f"{list(where.shape)} were given, expected equal shapes and at least 2 pixels"
        )
    a, b = (x[where].double() - x[where].double().mean() for x in (found, truth))
    if float(b.norm()) <= 1e-12:
        raise ValueError("the true map is constant in the region: the real clip does not move, leave it out")
    if float(a.norm()) <= 1e-12:
        return 0.0
    return float((a @ b) / (a.norm() * b.norm()))


def magnitude(clip: Tensor, where: Tensor) -> float:
    """Amount of motion in pictures: root of the mean temporal variance over a region [V, H, W], 0..0.5 (sRGB units)."""
    return float(_mean(temporal_variance(clip), where).sqrt())


def second_difference(clip: Tensor, where: Tensor) -> float:
    """Flicker: RMS of x[t+1] - 2 x[t] + x[t-1] of the colours over a region [V, H, W].

    Raises:
        ValueError: Fewer than 3 frames.
    """
    rgb = _checked(clip)[:, :, :3].double()
    if rgb.shape[1] < 3:
        raise ValueError(f"a clip has {rgb.shape[1]} frames, expected at least 3")
    bend = rgb[:, 2:] - 2 * rgb[:, 1:-1] + rgb[:, :-2]
    return float(_mean(bend.square().mean((1, 2)), where).sqrt())


def gain_over_still(clip: Tensor, truth: Tensor) -> float:
    """How much nearer to the real clip a clip is than copying frame 0 would be.

    Squared colour error of frames 1..T-1 over one region for both: pixels that are object in the real frame, in the
    real frame 0, or in the judged frame. So neither leaving the object's place nor staying in it is free.

    Args:
        clip, truth: [V, T, 4, H, W]; the truth's frame 0 is what copying repeats.

    Returns:
        dB: PSNR of the clip minus PSNR of the copy; 0 for the copy itself, at most 100.

    Raises:
        ValueError: Shapes differ or nothing is seen.
    """
    if _checked(clip).shape != _checked(truth).shape:
        raise ValueError(f"clips have shapes {list(clip.shape)} and {list(truth.shape)}, expected the same")
    still = truth[:, :1]
    region = (truth[:, 1:, 3] > INSIDE) | (still[:, :, 3] > INSIDE) | (clip[:, 1:, 3] > INSIDE)
    errors = [
        _mean((x[:, :, :3].double() - truth[:, 1:, :3].double()).square().mean(2), region) for x in (still, clip[:, 1:])
    ]
    return float(10 * torch.log10(errors[0].clamp(min=1e-10) / errors[1].clamp(min=1e-10)))


def first_frame_psnr(clip: Tensor, reference: Tensor) -> float:
    """PSNR in dB (at most 100) of a clip's frame 0 against its condition views, inside the union of their masks.

    Args:
        clip: [V, T, 4, H, W].
        reference: [V, 4, H, W].
    """
    first = _checked(clip)[:, 0]
    error = (first[:, :3].double() - reference[:, :3].double()).square().mean(1)
    region = (first[:, 3] > INSIDE) | (reference[:, 3] > INSIDE)
    return float(-10 * torch.log10(_mean(error, region).clamp(min=1e-10)))


def lab_shift(clip: Tensor) -> float:
    """How far the object's mean colour leaves that of frame 0: CIE76 difference of mean Lab inside each frame's mask.

    Args:
        clip: [V, T, 4, H, W]; coverage of the clip itself is the mask.

    Returns:
        Mean over views and frames 1..T-1; a frame without any object counts 100, the distance of white from black.
    """
    lab, inside = srgb_to_lab(_checked(clip)[:, :, :3].movedim(2, -1)), clip[:, :, 3] > INSIDE
    count = inside.flatten(2).sum(-1)
    mean = (lab * inside[..., None]).flatten(2, 3).sum(2) / count.clamp(min=1)[..., None]  # [V, T, 3]
    away = (mean[:, 1:] - mean[:, :1]).norm(dim=-1)
    return float(torch.where((count[:, 1:] > 0) & (count[:, :1] > 0), away, torch.full_like(away, 100)).mean())


def srgb_to_lab(rgb: Tensor) -> Tensor:
    """CIE Lab (D65 white, L 0..100) of sRGB colours [..., 3] in 0..1, float64."""
    rgb = rgb.double().clamp(0, 1)
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = linear.new_tensor(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / to_xyz.sum(1)
    small = 6 / 29
    f = torch.where(xyz > small**3, xyz.clamp(min=1e-12) ** (1 / 3), xyz / (3 * small**2) + 4 / 29)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    if values.shape != where.shape or not bool(where.any()):
        raise ValueError(
            f"values {list(values.shape)} over a region {list(where.shape)} of {int(where.sum())} pixels were given, "
            "expected equal shapes and some pixels"
        )
    return values[where].mean()


def _checked(clip: Tensor) -> Tensor:
    if clip.dim() != 5 or clip.shape[2] != 4:
        raise ValueError(f"a clip has shape {list(clip.shape)}, expected [V, T, 4, H, W]")
    return clip
