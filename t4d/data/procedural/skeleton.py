"""Joints and waves: the one mechanism that moves every procedural object.

Design frame: x forward, y left, z up. Joints rest unrotated, so a joint's skinning matrix is the product, from the root
down, of "turn, scale and shift about the joint's rest position".
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Axis = tuple[float, float, float]
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Wave:
    """One periodic change of one joint: `offset + amplitude * shape(cycles * p + phase)` with p in 0..1 over the clip.

    Attributes:
        joint: Joint name.
        axis: Unit vector: rotation axis, direction of the shift, or axis along which to scale.
        amplitude, offset: Degrees for `turn`, world units for `shift`, log2 for `scale`.
        cycles: Whole number of cycles a clip, so that clips loop.
        phase: In cycles.
        shape: `sine`; `hop` = upper half of a sine twice as often (a bouncing ball); `pulse` = one smooth bump a cycle;
            `ramp` = 0 to 1 once a cycle (amplitude 360 makes a whole turn); `fall` = 0, then ever faster to 1 by the
            middle of the cycle, a small bounce, and 1 until the cycle ends and it starts at 0 again.
        kind: What changes.
    """

    joint: str
    axis: Axis
    amplitude: float
    cycles: int = 1
    phase: float = 0.0
    offset: float = 0.0
    shape: Literal["sine", "hop", "pulse", "ramp", "fall"] = "sine"
    kind: Literal["turn", "shift", "scale"] = "turn"

    def value(self, p: np.ndarray) -> np.ndarray:
        """[T] values at phases p [T]."""
        u = self.cycles * p + self.phase
        if self.shape == "sine":
            s = np.sin(2 * np.pi * u)
        elif self.shape == "hop":
            s = np.abs(np.sin(np.pi * u))
        elif self.shape == "pulse":
            s = (0.5 - 0.5 * np.cos(2 * np.pi * u)) ** 2
        elif self.shape == "fall":
            u = np.mod(u, 1)
            bounce = 0.08 * np.sin(np.pi * np.clip((u - 0.5) / 0.2, 0, 1))
            s = np.clip((u - 0.1) / 0.4, 0, 1) ** 2 - bounce
        else:
            s = u
        return self.offset + self.amplitude * s


@dataclass
class Skeleton:
    """Joints in parent-before-child order."""

    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    positions: list[np.ndarray] = field(default_factory=list)

    def add(self, name: str, parent: str | None, position: Sequence[float]) -> str:
        """Adds a joint at a rest position; returns its name."""
        if name in self.names:
            raise ValueError(f"joint {name!r} exists already")
        self.parents.append(-1 if parent is None else self.names.index(parent))
        self.names.append(name)
        self.positions.append(np.asarray(position, np.float64))
        return name

    def index(self, name: str) -> int:
        """Index of a joint's matrix."""
        return self.names.index(name)

    def matrices(self, waves: Sequence[Wave], phases: np.ndarray, envelope: np.ndarray | float = 1.0) -> np.ndarray:
        """Skinning matrices.

        Args:
            waves: Changes; several of one joint are applied in order.
            phases: [T] in clip lengths.
            envelope: [T] or scalar factor on every wave: 0 is the rest pose, so a rising one starts from rest.

        Returns:
            [T, J, 3, 4] float32, rest position to posed position.
        """
        frames, count = len(phases), len(self.names)
        local = np.broadcast_to(np.eye(4), (frames, count, 4, 4)).copy()
        for wave in waves:
            j = self.index(wave.joint)
            value = wave.value(np.asarray(phases, np.float64)) * envelope
            axis = np.asarray(wave.axis, np.float64)
            axis = axis / np.linalg.norm(axis)
            step = np.broadcast_to(np.eye(4), (frames, 4, 4)).copy()
            if wave.kind == "turn":
                step[:, :3, :3] = axis_angle(axis, np.radians(value))
            elif wave.kind == "shift":
                step[:, :3, 3] = value[:, None] * axis
            else:
                step[:, :3, :3] += (2.0**value - 1)[:, None, None] * np.outer(axis, axis)
            local[:, j] = local[:, j] @ step
        world = np.empty_like(local)
        for j, parent in enumerate(self.parents):
            about = np.eye(4)
            about[:3, 3] = self.positions[j]
            back = np.eye(4)
            back[:3, 3] = -self.positions[j]
            world[:, j] = about @ local[:, j] @ back
            if parent >= 0:
                world[:, j] = world[:, parent] @ world[:, j]
        return world[:, :, :3].astype(np.float32)


def axis_angle(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rodrigues: unit axis [3] and angles [T] in radians to [T, 3, 3]."""
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    s, c = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.eye(3) + s * k + (1 - c) * (k @ k)
