"""Scenes of several clips side by side in a few tensors, on any device: what the batched renderer takes.

Rigs differ in size, so vertices, faces and joints of all clips stand one after another; nothing is padded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from t4d.data.scene import Scene
from t4d.data.shade import light_arrays
from t4d.errors import InputError
from t4d.geometry.camera import network_camera, stack


@dataclass(frozen=True)
class PackedScenes:
    """B clips of T frames and V views; N vertices, F faces and J joints of all of them together.

    Attributes:
        rest: [N, 3] float32 positions that the joint matrices act on.
        joints: [N, 4] int32 into the J joints.
        weights: [N, 4] float32.
        groups: [N] int32; vertices of one number share a normal.
        colors: [N, 3] float32 linear base colour.
        clip_of_vertex: [N] int32, 0..B-1.
        faces: [F, 3] int32 into the N vertices.
        clip_of_face: [F] int32.
        matrices: [T, J, 3, 4] float32 to the world.
        ambient: [B, 3]; directions, intensities: [B, L, 3] float32 lights.
        viewmats: [B, V, 4, 4] and Ks: [B, V, 3, 3] float32.
        cameras: [B, V, 16] float32 (`network_camera`).
        height, width: Pixels.
        words: Each clip's caption, verb, noun, name and clip.
    """

    rest: Tensor
    joints: Tensor
    weights: Tensor
    groups: Tensor
    colors: Tensor
    clip_of_vertex: Tensor
    faces: Tensor
    clip_of_face: Tensor
    matrices: Tensor
    ambient: Tensor
    directions: Tensor
    intensities: Tensor
    viewmats: Tensor
    Ks: Tensor
    cameras: Tensor
    height: int
    width: int
    words: list[dict[str, str]]

    @property
    def clips(self) -> int:
        """B."""
        return len(self.viewmats)

    @property
    def views(self) -> int:
        """V."""
        return self.viewmats.shape[1]

    @property
    def frames(self) -> int:
        """T."""
        return len(self.matrices)

    def to(self, device: torch.device | str) -> "PackedScenes":
        """The same on a device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {name: x.to(device, non_blocking=True) for name, x in tensors.items() if isinstance(x, Tensor)}
        return replace(self, **moved)

    def seen_by(self, views: Tensor, frames: int) -> "PackedScenes":
        """The first frames only, seen by some of the cameras.

        Args:
            views: [B, v] int64 indices of each clip's cameras.
            frames: 1..T.
        """
        rows = torch.arange(self.clips, device=self.viewmats.device)[:, None]
        views = views.to(self.viewmats.device)
        chosen = {name: getattr(self, name)[rows, views] for name in ("viewmats", "Ks", "cameras")}
        return replace(self, matrices=self.matrices[:frames], **chosen)


def pack_scenes(scenes: Sequence[Scene]) -> PackedScenes:
    """Scenes of one number of frames, views and pixels as tensors on the CPU.

    Raises:
        InputError: They differ in these numbers, or there is none.
    """
    shapes = {(len(s.matrices), *((c.width, c.height) for c in s.cameras)) for s in scenes}
    if len(shapes) != 1:
        raise InputError(f"scenes of {len(shapes)} shapes (frames, picture sizes) were given; pack those of one shape")
    vertex_starts = np.cumsum([0, *(len(s.rig.vertices) for s in scenes)])
    joint_starts = np.cumsum([0, *(s.matrices.shape[1] for s in scenes)])
    groups = [np.arange(len(s.rig.vertices)) if s.rig.smoothing is None else s.rig.smoothing for s in scenes]
    lights = [light_arrays(s.light) for s in scenes]
    seen = [stack(s.cameras) for s in scenes]
    camera = scenes[0].cameras[0]

    def together(arrays: Sequence[np.ndarray], dtype: type, starts: np.ndarray | None = None) -> Tensor:
        shifted = arrays if starts is None else [a + start for a, start in zip(arrays, starts)]
        return torch.from_numpy(np.concatenate(shifted).astype(dtype, copy=False))

    def owners(counts: Sequence[int]) -> Tensor:
        return torch.from_numpy(np.repeat(np.arange(len(counts), dtype=np.int32), counts))

    return PackedScenes(
        rest=together([s.rig.vertices for s in scenes], np.float32),
        joints=together([s.rig.joints for s in scenes], np.int32, joint_starts),
        weights=together([s.rig.weights for s in scenes], np.float32),
        groups=together(groups, np.int32, vertex_starts),
        colors=together([s.colors for s in scenes], np.float32),
        clip_of_vertex=owners([len(s.rig.vertices) for s in scenes]),
        faces=together([s.rig.faces for s in scenes], np.int32, vertex_starts),
        clip_of_face=owners([len(s.rig.faces) for s in scenes]),
        matrices=torch.from_numpy(np.concatenate([s.matrices for s in scenes], 1)),
        ambient=torch.from_numpy(np.stack([light[0] for light in lights])),
        directions=torch.from_numpy(np.stack([light[1] for light in lights])),
        intensities=torch.from_numpy(np.stack([light[2] for light in lights])),
        viewmats=torch.stack([viewmats for viewmats, _ in seen]),
        Ks=torch.stack([Ks for _, Ks in seen]),
        cameras=torch.stack([torch.stack([network_camera(c) for c in s.cameras]) for s in scenes]),
        height=camera.height,
        width=camera.width,
        words=[s.words for s in scenes],
    )


def join_scenes(parts: Sequence[PackedScenes]) -> PackedScenes:
    """Packed scenes one after another, as `pack_scenes` of all of them gives."""
    if len(parts) == 1:
        return parts[0]
    vertices, joints, clips = (
        [0, *accumulate(counts)]
        for counts in ([len(p.rest) for p in parts], [p.matrices.shape[1] for p in parts], [p.clips for p in parts])
    )
    moved = {"groups": vertices, "faces": vertices, "joints": joints, "clip_of_vertex": clips, "clip_of_face": clips}
    found = {}
    for field in fields(PackedScenes):
        values = [getattr(p, field.name) for p in parts]
        if isinstance(values[0], Tensor):
            starts = moved.get(field.name)
            values = values if starts is None else [value + start for value, start in zip(values, starts)]
            found[field.name] = torch.cat(values, 1 if field.name == "matrices" else 0)
    return replace(parts[0], **found, words=[w for p in parts for w in p.words])
