"""Skinning, light and projection of packed scenes in torch: `Rig.skin`, `shade_clip`, `project_vertices`, batched."""

import torch
from torch import Tensor

from t4d.data.device_scene import PackedScenes


def posed(scenes: PackedScenes, frames: slice) -> Tensor:
    """World vertices [S, N, 3] of some frames, by linear blend skinning."""
    matrices = scenes.matrices[frames]
    blended: Tensor | None = None
    for k in range(scenes.joints.shape[1]):
        share = scenes.weights[:, k, None, None] * matrices[:, scenes.joints[:, k].long()]
        blended = share if blended is None else blended + share
    assert blended is not None
    return (blended[..., :3] * scenes.rest[:, None]).sum(-1) + blended[..., 3]


def normals(scenes: PackedScenes, vertices: Tensor) -> Tensor:
    """Area-weighted unit normals [S, N, 3] of vertices [S, N, 3]; (0, 0, 1) where all faces are degenerate.

    Sums are made in the order in which a GPU comes to them, so there the last digits may differ from call to call.
    """
    faces = scenes.faces.long()
    a, b, c = (vertices[:, faces[:, k]] for k in range(3))
    face = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices)
    groups = scenes.groups.long()
    for k in range(3):
        total.index_add_(1, groups[faces[:, k]], face)
    total = total[:, groups]
    length = total.norm(dim=-1, keepdim=True)
    up = torch.tensor([0.0, 0.0, 1.0], device=total.device)
    return torch.where(length < 1e-15, up, total / length.clamp_min(1e-30))


def lit(scenes: PackedScenes, vertices: Tensor) -> Tensor:
    """sRGB vertex colours [S, N, 3] in 0..1 under each clip's lights."""
    n, clip = normals(scenes, vertices), scenes.clip_of_vertex.long()
    light = scenes.ambient[clip].expand_as(n)
    for i in range(scenes.directions.shape[1]):
        lambert = (n * scenes.directions[:, i][clip]).sum(-1, keepdim=True).clamp_min(0)
        light = light + lambert * scenes.intensities[:, i][clip]
    linear = (scenes.colors * light).clamp(0, 1)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055)


def projected(scenes: PackedScenes, vertices: Tensor, supersample: int) -> Tensor:
    """(x, y in samples, camera depth) [V, S, N, 3] of world vertices [S, N, 3] in every view of their clip."""
    clip, found = scenes.clip_of_vertex.long(), []
    for v in range(scenes.views):
        view, K = scenes.viewmats[:, v][clip], scenes.Ks[:, v][clip]
        x, y, z = ((vertices * view[:, row, :3]).sum(-1) + view[:, row, 3] for row in range(3))
        inverse = supersample / z.clamp_min(1e-6)
        across = (K[:, 0, 0] * x + K[:, 0, 1] * y) * inverse + K[:, 0, 2] * supersample
        found.append(torch.stack([across, K[:, 1, 1] * y * inverse + K[:, 1, 2] * supersample, z], -1))
    return torch.stack(found)
