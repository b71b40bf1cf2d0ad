"""What a clip's motion is like, as a vector, and which verb that is nearest to.

The descriptor is of optical flow inside the mask: 4 x 4 cells over the object's box, 8 directions, magnitudes of the
Fourier transform over time, so that where in its cycle a clip begins does not matter.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

CELLS, DIRECTIONS = 4, 8


def flow_descriptor(flow: Tensor, mask: Tensor, cells: int = CELLS, directions: int = DIRECTIONS) -> Tensor:
    """Descriptor of a clip's motion.

    The box of all frames' masks in a view is cut into cells x cells. In every cell the object's flow between two
    frames, in sides of the box, is shared out to the two nearest directions and summed, over the object's mean number
    of pixels. Square roots of the Fourier magnitudes over time: limbs of very different size stay comparable.

    Args:
        flow: [V, T-1, 2, H, W] pixels: what is at p in frame t is at p + flow in frame t + 1.
        mask: [V, T, H, W] bool.
        cells: Per side.
        directions: Evenly spaced, the first to the right.

    Returns:
        [V * F * cells * cells * directions] float64, F = (T-1) // 2 + 1 frequencies; zero for a clip without motion.

    Raises:
        ValueError: Shapes do not fit, or a view shows nothing.
    """
    views, steps, _, height, width = flow.shape
    if mask.shape != (views, steps + 1, height, width) or not bool(mask.flatten(1).any(1).all()):
        raise ValueError(
            f"flow {list(flow.shape)} and masks {list(mask.shape)} were given, expected [V, T-1, 2, H, W] and "
            "[V, T, H, W] with the object in every view"
        )
    series = torch.zeros(views, steps, cells * cells * directions, dtype=torch.float64)
    for v in range(views):
        rows, columns = mask[v].any(0).any(1).nonzero()[:, 0], mask[v].any(0).any(0).nonzero()[:, 0]
        top, left = int(rows.min()), int(columns.min())
        tall, wide = int(rows.max()) + 1 - top, int(columns.max()) + 1 - left
        t, y, x = mask[v, :-1].nonzero(as_tuple=True)
        cell = ((y - top) * cells // tall) * cells + (x - left) * cells // wide
        move = flow[v].double()[t, :, y, x] / max(tall, wide)
        place = torch.atan2(move[:, 1], move[:, 0]) / (2 * math.pi) * directions % directions
        low = place.floor()
        size = move.norm(dim=-1) / max(len(t) / steps, 1)
        for direction, share in ((low, 1 - (place - low)), (low + 1, place - low)):
            index = (t * cells * cells + cell) * directions + direction.long() % directions
            series[v].view(-1).index_add_(0, index, size * share)
    return (torch.fft.rfft(series, dim=1).abs() / steps).sqrt().flatten()


def classify(train: np.ndarray, labels: Sequence[str], test: np.ndarray) -> list[str]:
    """Labels by regularised least squares on one-hot targets, classes weighing alike (a shrunken LDA).

    The ridge is the mean eigenvalue of the centred training vectors' Gram matrix: there is nothing to tune.

    Args:
        train: [N, D].
        labels: N classes, at least two of them.
        test: [M, D].

    Returns:
        M labels.

    Raises:
        ValueError: Shapes do not fit or there is one class only.
    """
    names = sorted(set(labels))
    if train.ndim != 2 or test.ndim != 2 or len(train) != len(labels) or len(names) < 2:
        raise ValueError(
            f"{len(labels)} labels of {len(names)} classes for vectors {train.shape} and {test.shape} were given, "
            "expected one each of at least 2 classes"
        )
    kind = np.array([names.index(label) for label in labels])
    weight = (1 / np.bincount(kind))[kind]
    weight /= weight.sum()
    middle = weight @ train
    a, b = train - middle, test - middle
    target = np.eye(len(names))[kind] - 1 / len(names)
    root = np.sqrt(weight)[:, None]
    kernel = (root * a) @ (root * a).T
    ridge = max(float(np.trace(kernel)) / len(a), 1e-12)
    dual = root * np.linalg.solve(kernel + ridge * np.eye(len(a)), root * target)
    return [names[i] for i in np.argmax(b @ a.T @ dual, axis=1)]


def leave_one_group_out(vectors: np.ndarray, labels: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Every vector's label by a classifier that has seen nothing of its group; arguments as for `classify`."""
    found = [""] * len(labels)
    for group in sorted(set(groups)):
        inside = np.array([g == group for g in groups])
        known = [label for label, held in zip(labels, inside) if not held]
        for i, label in zip(np.flatnonzero(inside), classify(vectors[~inside], known, vectors[inside])):
            found[i] = label
    return found
