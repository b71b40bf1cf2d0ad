"""The verb descriptor on flows known by hand, and the classifier on planted classes."""

import math

import numpy as np
import pytest
import torch

from t4d.metrics.motion_verbs import CELLS, DIRECTIONS, classify, flow_descriptor, leave_one_group_out

STEPS, SIDE = 15, 32


def box_mask(views: int = 1) -> torch.Tensor:
    mask = torch.zeros(views, STEPS + 1, SIDE, SIDE, dtype=torch.bool)
    mask[:, :, 8:24, 4:20] = True  # 16 x 16: cells of 4 x 4
    return mask


def shaped(vector: torch.Tensor, views: int = 1) -> torch.Tensor:
    return vector.reshape(views, STEPS // 2 + 1, CELLS * CELLS, DIRECTIONS)


def constant(dx: float, dy: float) -> torch.Tensor:
    flow = torch.zeros(1, STEPS, 2, SIDE, SIDE)
    flow[:, :, 0], flow[:, :, 1] = dx, dy
    return flow


def test_even_motion_is_at_frequency_zero_in_its_direction():
    found = shaped(flow_descriptor(constant(2, 0), box_mask()))[0]
    # 2 px of 16 a step; each of the 16 cells holds a sixteenth of the pixels
    assert torch.allclose(found[0, :, 0], torch.full((16,), math.sqrt(2 / 16 / 16), dtype=torch.float64))
    assert found[0, :, 1:].abs().max() < 1e-6 and found[1:].abs().max() < 1e-6
    down = shaped(flow_descriptor(constant(0, 2), box_mask()))[0]
    assert (down[0, :, 2] > 0).all() and down[0, :, [0, 1, 3, 4, 5, 6, 7]].abs().max() < 1e-6
    between = shaped(flow_descriptor(constant(math.cos(math.pi / 8), math.sin(math.pi / 8)), box_mask()))[0]
    assert torch.allclose(between[0, :, 0], between[0, :, 1], rtol=1e-4) and between[0, :, 2:].abs().max() < 1e-4


def test_only_the_cell_that_moves_counts_and_the_background_never_does():
    flow = torch.zeros(1, STEPS, 2, SIDE, SIDE)
    flow[:, :, 0, 8:12, 16:20] = 1.0  # upper right cell
    flow[:, :, 0, :8] = 9.0  # background
    found = shaped(flow_descriptor(flow, box_mask()))[0, 0].sum(-1)
    assert found.nonzero()[:, 0].tolist() == [3]


def test_where_in_the_cycle_a_clip_begins_does_not_matter():
    wave = torch.sin(torch.arange(STEPS) / STEPS * 2 * math.pi * 3)
    flow = constant(1, 0) * wave[None, :, None, None, None]
    a, b = flow_descriptor(flow, box_mask()), flow_descriptor(flow.roll(4, 1), box_mask())
    assert torch.allclose(a, b, atol=1e-6)
    strongest = shaped(a)[0, 1:, 0, 0].argmax() + 1
    assert int(strongest) == 3  # three cycles


def test_size_in_the_picture_does_not_matter():
    small = torch.zeros(1, STEPS + 1, SIDE, SIDE, dtype=torch.bool)
    small[:, :, 8:16, 8:16] = True
    a, b = flow_descriptor(constant(2, 0), box_mask()), flow_descriptor(constant(1, 0), small)
    assert torch.allclose(a, b, atol=1e-6)


def test_no_motion_is_zero_and_nothing_seen_is_refused():
    assert not flow_descriptor(constant(0, 0), box_mask()).any()
    with pytest.raises(ValueError, match="in every view"):
        flow_descriptor(constant(0, 0), torch.zeros_like(box_mask()))


def test_planted_classes_are_found_and_sizes_of_classes_do_not_matter():
    rng = np.random.default_rng(0)
    middles = {"walk": 3 * np.eye(20)[0], "run": 3 * np.eye(20)[1], "idle": np.zeros(20)}
    labels = ["walk"] * 40 + ["run"] * 6 + ["idle"] * 6
    vectors = np.stack([middles[label] + 0.2 * rng.standard_normal(20) for label in labels])
    probes = {label: classify(vectors, labels, middle[None])[0] for label, middle in middles.items()}
    assert probes == {label: label for label in middles}
    with pytest.raises(ValueError, match="at least 2 classes"):
        classify(vectors[:3], ["a"] * 3, vectors)


def test_a_group_is_judged_by_the_others_only():
    """Vectors tell the group alone: a classifier that saw the group is right, one that did not cannot be."""
    rng = np.random.default_rng(1)
    groups = [f"g{i}" for i in range(10) for _ in range(2)]
    labels = [("a", "b")[i % 2] for i in range(10) for _ in range(2)]
    vectors = np.repeat(np.eye(10), 2, 0) + 0.01 * rng.standard_normal((20, 10))
    assert classify(vectors, labels, vectors) == labels
    apart = leave_one_group_out(vectors, labels, groups)
    assert np.mean([x == y for x, y in zip(apart, labels)]) < 0.8
