"""What a training clip shows, drawn but not yet rendered."""

from dataclasses import dataclass

import numpy as np

from t4d.data.framing import Placement, about_z
from t4d.data.motion import Motion
from t4d.data.rig import Rig
from t4d.errors import InputError
from t4d.geometry.camera import Camera
from t4d.geometry.shading import LightRig


@dataclass(frozen=True)
class Scene:
    """One clip before it is rendered.

    Attributes:
        rig: Faces, skin and smoothing; its colours may have been changed, see `colors`.
        vertices: [T, Nv, 3] float32 world, as the cameras see them.
        matrices: [T, J, 3, 4] float32 with which `rig.skin` gives `vertices`.
        colors: [Nv, 3] float32 linear base colour.
        light: The lights.
        cameras: V cameras of one size.
        words: caption, verb, noun, name and clip.
    """

    rig: Rig
    vertices: np.ndarray
    matrices: np.ndarray
    colors: np.ndarray
    light: LightRig
    cameras: list[Camera]
    words: dict[str, str]


def placed_matrices(motion: Motion, turn: float, placed: Placement) -> np.ndarray:
    """Joint matrices that skin a motion's rig to where it was placed: skin weights sum to 1, so every map of the posed
    object is one of its joints.

    Args:
        motion: With matrices.
        turn: Degrees about z, before placing.
        placed: Where the turned object stands.

    Returns:
        [T, J, 3, 4] float32.

    Raises:
        InputError: The motion does not know its matrices.
    """
    if motion.matrices is None:
        raise InputError(f"the motion {motion.clip!r} of {motion.name!r} has no joint matrices; render its vertices")
    matrices = about_z(turn).astype(np.float64) @ motion.matrices.astype(np.float64)
    matrices[..., 3] -= placed.shift[:, None]
    return (placed.scale * matrices).astype(np.float32)
