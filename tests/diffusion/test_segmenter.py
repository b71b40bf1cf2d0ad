"""Masks of clips without an alpha channel."""

import numpy as np
import torch

from t4d.diffusion.segmenter import BackgroundSegmenter, srgb_to_lab


def moving_disc(views=2, frames=5, height=48, width=64) -> tuple[torch.Tensor, torch.Tensor]:
    """A dark disc that moves two pixels a frame over noisy mid-grey; returns rgb [V,T,3,H,W] and truth [V,T,1,H,W]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    generator = torch.Generator().manual_seed(0)
    rgb = 0.5 + 0.004 * torch.randn(views, frames, 3, height, width, generator=generator)
    truth = torch.zeros(views, frames, 1, height, width)
    for view in range(views):
        for frame in range(frames):
            inside = (y - 24) ** 2 + (x - 20 - 2 * frame - 5 * view) ** 2 < 100
            truth[view, frame, 0] = inside
            rgb[view, frame][:, inside] = torch.tensor([0.6, 0.2, 0.1])[:, None]
    return rgb.clamp(0, 1), truth


def test_lab_matches_published_values():
    """sRGB primaries and white in CIE L*a*b* (D65), as tabulated by Lindbloom."""
    lab = srgb_to_lab(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], float))
    expected = [[53.241, 80.092, 67.203], [87.735, -86.183, 83.179], [32.297, 79.188, -107.860], [100, 0, 0]]
    np.testing.assert_allclose(lab, expected, atol=0.02)


def test_masks_follow_the_object():
    rgb, truth = moving_disc()
    masks = BackgroundSegmenter()(rgb, truth[:, 0])
    overlap = (masks * truth).sum() / torch.maximum(masks, truth).sum()
    assert masks.shape == truth.shape and overlap > 0.97


def test_a_stain_far_from_the_object_is_dropped():
    rgb, truth = moving_disc()
    stained = rgb.clone()
    stained[:, 3:, :, 2:8, 55:62] = 0.1
    assert torch.equal(BackgroundSegmenter()(stained, truth[:, 0]), BackgroundSegmenter()(rgb, truth[:, 0]))


def test_an_empty_reference_gives_empty_masks():
    rgb, truth = moving_disc()
    assert BackgroundSegmenter()(rgb, torch.zeros_like(truth[:, 0])).sum() == 0
