"""Fewer Gaussians that look like many: clusters replaced by one Gaussian of the same moments."""

import numpy as np
import torch

from t4d.geometry.rotations import matrix_to_quat, quat_to_matrix
from t4d.splat.gaussians import Gaussians
from t4d.splat.sh import C0

ROUNDS = 3  # of Lloyd's algorithm
COLOR_WEIGHT = 4.0  # a colour difference of 1 counts like this many cluster spacings
WIDEST = 1.3  # most a merged Gaussian is widened to close the surface again; 1.0 costs 12 dB, 1.8 costs 2
OPAQUE = 0.99


def merge_gaussians(gaussians: Gaussians, count: int, seed: int = 0) -> Gaussians:
    """Reduces a set to ``count`` Gaussians by clustering and moment matching.

    Clusters are compact in position and colour (k-means on both, so a texture's edges stay). Members weigh with the
    light they stop: opacity times the area of their two longest axes. A merged Gaussian has its cluster's mean,
    covariance (within plus between members), weighted mean colour of every degree, and an opacity that keeps the
    stopped light; what opacity cannot express widens it along the surface.

    Args:
        gaussians: [N, ...], N > 0, finite.
        count: how many to keep, > 0; N <= count returns the input.
        seed: of the cluster seeds.

    Returns:
        At most ``count`` Gaussians (clusters that lose all members vanish).
    """
    if len(gaussians) <= count:
        return gaussians
    means = gaussians.means.double().numpy()
    scales = gaussians.scales.double().numpy()
    area = np.sort(scales, axis=1)[:, 1] * np.sort(scales, axis=1)[:, 2]
    weight = np.maximum(gaussians.opacities.double().numpy() * area, 1e-30)
    label = _clusters(means, gaussians.sh[:, 0].double().numpy() * C0, weight, count, seed)
    return _matched(gaussians, label, weight, area)


def _clusters(means: np.ndarray, color: np.ndarray, weight: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Cluster of each Gaussian [N], numbered without gaps."""
    from scipy.spatial import KDTree

    rng = np.random.default_rng(seed)
    start = rng.choice(len(means), count, replace=False)
    distance = KDTree(means[start]).query(means[start], 2)[0][:, 1]  # infinite where there is but one seed
    spacing = float(np.median(distance)) if count > 1 else 0.0
    points = np.concatenate([means, COLOR_WEIGHT * spacing * color], axis=1)
    centres = points[start]
    label = np.zeros(len(points), np.int64)
    for _ in range(ROUNDS):
        label = KDTree(centres).query(points)[1]
        total = np.bincount(label, weight, minlength=len(centres))
        alive = total > 0
        summed = np.stack([np.bincount(label, weight * column, minlength=len(centres)) for column in points.T], axis=1)
        centres = summed[alive] / total[alive, None]
    return np.unique(KDTree(centres).query(points)[1], return_inverse=True)[1].reshape(-1)


def _matched(gaussians: Gaussians, label: np.ndarray, weight: np.ndarray, area: np.ndarray) -> Gaussians:
    """One Gaussian a cluster."""
    index = torch.from_numpy(label)
    clusters = int(label.max()) + 1
    share = torch.from_numpy(weight)
    total = torch.zeros(clusters, dtype=torch.float64).index_add_(0, index, share)
    share = share / total[index]

    def mean(values: torch.Tensor) -> torch.Tensor:
        flat = values.double().reshape(len(values), -1)
        out = torch.zeros(clusters, flat.shape[1], dtype=torch.float64)
        return out.index_add_(0, index, flat * share[:, None]).reshape(clusters, *values.shape[1:])

    means = mean(gaussians.means)
    axes = quat_to_matrix(gaussians.quats.double()) * gaussians.scales.double()[:, None, :]
    offset = gaussians.means.double() - means[index]
    values, vectors = torch.linalg.eigh(mean(axes @ axes.mT + offset[:, :, None] * offset[:, None, :]))
    sigma = values.clamp(min=1e-20).sqrt()  # ascending: the last two span the surface
    vectors = vectors.clone()
    vectors[:, :, 0] *= torch.linalg.det(vectors).sign()[:, None]
    ratio = total / (sigma[:, 1] * sigma[:, 2])  # stopped light over area: the opacity that would keep it
    widen = (ratio / OPAQUE).sqrt().clamp(1.0, WIDEST)
    sigma = torch.stack([sigma[:, 0], sigma[:, 1] * widen, sigma[:, 2] * widen], dim=1)
    merged = Gaussians(
        means=means,
        quats=matrix_to_quat(vectors),
        log_scales=sigma.log(),
        opacity_logits=torch.logit(ratio.clamp(1e-3, OPAQUE)),
        sh=mean(gaussians.sh),
    )
    # A cluster of one is that Gaussian, exactly.
    alone = torch.bincount(index, minlength=clusters)[index] == 1
    for name, value in merged.state_dict().items():
        value[index[alone]] = getattr(gaussians, name)[alone].double()
    return merged.to(torch.float32)
