"""Posing a glTF scene: node hierarchy, animation channels, morph targets and linear blend skinning (all float64)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from t4d.geometry.rotations import quat_to_matrix, slerp


@dataclass
class SceneNode:
    """One node: its stored transform, either TRS or a matrix.

    Attributes:
        parent: index or -1.
        translation: [3].
        rotation: [4] (w, x, y, z).
        scale: [3].
        matrix: [4, 4] or None; replaces TRS.
        weights: [K] morph weights at rest.
    """

    parent: int
    translation: np.ndarray
    rotation: np.ndarray
    scale: np.ndarray
    matrix: np.ndarray | None
    weights: np.ndarray


@dataclass
class SceneSkin:
    """Joint node indices and [J, 4, 4] inverse bind matrices."""

    joints: np.ndarray
    inverse_bind: np.ndarray


@dataclass
class ScenePart:
    """One primitive drawn by one node.

    Attributes:
        node: index of the drawing node.
        positions: [n, 3].
        morphs: [K, n, 3] displacements or None.
        skin: index or None.
        joints: [n, k] into the skin's joints, where skinned.
        weights: [n, k], rows sum to 1.
    """

    node: int
    positions: np.ndarray
    morphs: np.ndarray | None = None
    skin: int | None = None
    joints: np.ndarray | None = None
    weights: np.ndarray | None = None


@dataclass
class Channel:
    """One animated property.

    Attributes:
        node: index.
        path: "translation", "rotation" (w, x, y, z), "scale" or "weights".
        interpolation: "STEP", "LINEAR" or "CUBICSPLINE".
        times: [k] seconds, increasing.
        values: [k, d]; for CUBICSPLINE [k, 3, d]: in-tangent, value, out-tangent.
    """

    node: int
    path: str
    interpolation: str
    times: np.ndarray
    values: np.ndarray

    def span(self, seconds: float) -> tuple[int, float]:
        """Key before the time and the fraction of the way to the next; held at both ends."""
        times = self.times
        key = int(np.searchsorted(times, seconds, side="right")) - 1
        if key < 0:
            return 0, 0.0
        if key >= len(times) - 1:
            return len(times) - 1, 0.0
        return key, float((seconds - times[key]) / (times[key + 1] - times[key]))

    def sample(self, seconds: float) -> np.ndarray:
        """[d] value at a time; rotations are not normalised, and LINEAR ones need ``rotation_pairs`` instead."""
        key, u = self.span(seconds)
        if self.interpolation != "CUBICSPLINE":
            value = self.values[key]
            if self.interpolation == "STEP" or u == 0.0:
                return value
            return value + u * (self.values[key + 1] - value)
        value = self.values[key, 1]
        if u == 0.0:
            return value
        width = self.times[key + 1] - self.times[key]  # tangents are per second, so they scale with the interval
        leaving, arriving = width * self.values[key, 2], width * self.values[key + 1, 0]
        return (
            (2 * u**3 - 3 * u**2 + 1) * value
            + (u**3 - 2 * u**2 + u) * leaving
            + (3 * u**2 - 2 * u**3) * self.values[key + 1, 1]
            + (u**3 - u**2) * arriving
        )


@dataclass
class SceneGraph:
    """Everything needed to place the vertices of a glTF file at any time (a ``Poser``).

    Attributes:
        nodes: all nodes of the file.
        order: node indices, parents before children.
        parts: in vertex order.
        skins: the skins.
        clips: channels of each animation.
    """

    nodes: Sequence[SceneNode]
    order: Sequence[int]
    parts: Sequence[ScenePart]
    skins: Sequence[SceneSkin]
    clips: Sequence[Sequence[Channel]]

    def vertices(self, clip: int | None, seconds: float) -> np.ndarray:
        """[Nv, 3] float32 positions of a clip at a time (seconds), or at rest where clip is None; file space."""
        channels = [] if clip is None else self.clips[clip]
        world, morph_weights = self._evaluate(channels, seconds)
        return np.concatenate([self._place(part, world, morph_weights) for part in self.parts]).astype(np.float32)

    def mirrored(self, part: ScenePart) -> bool:
        """Whether the rest transform of a part turns it inside out, so that its winding must be flipped."""
        world, _ = self._evaluate([], 0.0)
        if part.skin is not None:
            skin = self.skins[part.skin]
            assert part.joints is not None and part.weights is not None
            joint = int(np.bincount(part.joints.ravel(), part.weights.ravel()).argmax())
            return bool(np.linalg.det((world[skin.joints[joint]] @ skin.inverse_bind[joint])[:3, :3]) < 0)
        return bool(np.linalg.det(world[part.node][:3, :3]) < 0)

    def rest_linear(self) -> list[np.ndarray]:
        """Per part, the linear part of what places its vertices at rest: [3, 3], or [n, 3, 3] where it is skinned."""
        world, _ = self._evaluate([], 0.0)
        maps = []
        for part in self.parts:
            if part.skin is None:
                maps.append(world[part.node][:3, :3])
                continue
            skin = self.skins[part.skin]
            palette = (world[skin.joints] @ skin.inverse_bind)[:, :3, :3]
            assert part.joints is not None and part.weights is not None
            maps.append(np.einsum("nk,nkij->nij", part.weights, palette[part.joints]))
        return maps

    def _evaluate(self, channels: Sequence[Channel], seconds: float) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """World matrices [N, 4, 4] of all nodes, and the animated morph weights by node."""
        translation = np.stack([node.translation for node in self.nodes])
        rotation = np.stack([node.rotation for node in self.nodes])
        scale = np.stack([node.scale for node in self.nodes])
        morph_weights: dict[int, np.ndarray] = {}
        arcs: list[tuple[int, np.ndarray, np.ndarray, float]] = []
        for channel in channels:
            if channel.path == "rotation" and channel.interpolation == "LINEAR":
                key, u = channel.span(seconds)
                arcs.append(
                    (channel.node, channel.values[key], channel.values[min(key + 1, len(channel.times) - 1)], u)
                )
                continue
            value = channel.sample(seconds)
            if channel.path == "weights":
                morph_weights[channel.node] = value
            else:
                {"translation": translation, "rotation": rotation, "scale": scale}[channel.path][channel.node] = value
        if arcs:
            a, b = (torch.from_numpy(np.stack([arc[side] for arc in arcs])) for side in (1, 2))
            turned = slerp(a, b, torch.tensor([arc[3] for arc in arcs], dtype=torch.float64))
            rotation[[arc[0] for arc in arcs]] = turned.numpy()
        local = np.zeros((len(self.nodes), 4, 4))
        local[:, :3, :3] = quat_to_matrix(torch.from_numpy(rotation)).numpy() * scale[:, None, :]
        local[:, :3, 3] = translation
        local[:, 3, 3] = 1.0
        for index, node in enumerate(self.nodes):
            if node.matrix is not None:
                local[index] = node.matrix
        world = local.copy()
        for index in self.order:
            parent = self.nodes[index].parent
            if parent >= 0:
                world[index] = world[parent] @ local[index]
        return world, morph_weights

    def _place(self, part: ScenePart, world: np.ndarray, morph_weights: dict[int, np.ndarray]) -> np.ndarray:
        """[n, 3] file-space positions of one part."""
        positions = part.positions
        if part.morphs is not None:
            weights = morph_weights.get(part.node, self.nodes[part.node].weights)
            positions = positions + np.tensordot(weights[: len(part.morphs)], part.morphs[: len(weights)], 1)
        if part.skin is None:
            matrix = world[part.node]
            return positions @ matrix[:3, :3].T + matrix[:3, 3]
        # A skinned mesh ignores the transform of the node that draws it (glTF 2.0, 3.7.3.3).
        skin = self.skins[part.skin]
        palette = world[skin.joints] @ skin.inverse_bind  # [J, 4, 4]
        assert part.joints is not None and part.weights is not None
        blended = np.einsum("nk,nkij->nij", part.weights, palette[part.joints][..., :3, :])
        return np.einsum("nij,nj->ni", blended[..., :3], positions) + blended[..., 3]
