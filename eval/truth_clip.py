"""A posed mesh over time as truth for Stage Two: its pictures, and Gaussians bound to it.

The frames of a clip are taken uniformly over one loop (i/T of its duration); frame 0 is the static object, normalised
so that the whole clip stays in view. Pictures of the posed mesh are ray cast with 2 x 2 samples a pixel over grey.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from t4d.geometry.camera import Camera, orbit_camera
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import shade_vertices
from t4d.geometry.visibility import render_mesh
from t4d.splat.binding import MeshBinding, bind_gaussians
from t4d.splat.gaussians import Gaussians, stack_gaussians
from t4d.splat.sh import rgb_to_sh0

FRAMES, SIZE = 16, 128


@dataclass(frozen=True)
class BoundTruth:
    """Static Gaussians of frame 0 and where the mesh takes them.

    Attributes:
        gaussians: the static object, lit as in frame 0.
        binding: their triangles.
        oracle: [T] posed by the mesh, in the light of each frame (of frame 0 where the clip is not re-lit).
    """

    gaussians: Gaussians
    binding: MeshBinding
    oracle: Gaussians

    @property
    def frames(self) -> int:
        """T."""
        return len(self.oracle.means)

    @property
    def colors(self) -> Tensor:
        """[T, N, 3] true sRGB colours."""
        return self.oracle.colors()

    def still(self) -> Gaussians:
        """The unmoved object as T frames."""
        return stack_gaussians([self.gaussians] * self.frames)

    def posed_in_first_light(self) -> Gaussians:
        """True poses with the colours of frame 0: the most that static colour can reach."""
        return self.oracle.replace(sh=self.still().sh)


class TruthClip:
    """A posed mesh over time.

    Args:
        path: animated object file.
        clip: display name of its animation.
        frames: T.
        relit: whether light stays in the world and every frame is shaded anew (``shade_vertices`` of the posed mesh);
            otherwise light is baked in frame 0 and travels with the surface.

    Attributes:
        vertices: [T, Nv, 3] world.
        light: [T, Nv, 3] linear light at the vertices.
        diagonal: of the bounds of frame 0, world units.
    """

    def __init__(self, path: Path, clip: str, *, frames: int = FRAMES, relit: bool = True) -> None:
        model = load_object(path)
        index = model.clip_index(clip)
        duration = model.clips[index].duration
        posed = [model.pose(index, duration * i / frames) for i in range(frames)]
        normaliser = Normaliser.fit_clip(posed, model.up)
        self.mesh = model.mesh
        self.vertices = np.stack([normaliser.apply(vertices) for vertices in posed])
        shaded = [shade_vertices(self.mesh, pose) for pose in (self.vertices if relit else self.vertices[:1])]
        self.light = np.stack(shaded if relit else shaded * frames)
        self.diagonal = float(np.linalg.norm(np.ptp(self.vertices[0], axis=0)))

    def bind(self, count: int, seed: int) -> BoundTruth:
        """Gaussians bound to frame 0, and their true motion and colour."""
        gaussians, binding = bind_gaussians(self.mesh, self.vertices[0], count, self.light[0], seed)
        means, quats = binding.pose(self.vertices)
        lit, posed = gaussians.sh, []
        for i in range(len(means)):
            if not np.array_equal(self.light[i], self.light[0]):
                lit = rgb_to_sh0(binding.colors(self.mesh, self.light[i]))[:, None]
            posed.append(gaussians.replace(means=means[i], quats=quats[i], sh=lit))
        return BoundTruth(gaussians, binding, stack_gaussians(posed))

    def pictures(self, cameras: list[Camera]) -> Tensor:
        """Ray-cast truth, [T, V, 4, H, W] over grey."""
        return torch.stack(
            [
                torch.stack([render_mesh(self.mesh, pose, camera, light, supersample=2)[0] for camera in cameras])
                for pose, light in zip(self.vertices, self.light)
            ]
        )


def held_out_cameras(size: int = SIZE) -> list[Camera]:
    """The judges: azimuths 45/135/225/315 between the rig's, at elevations 0 and 30."""
    return [orbit_camera(a, e, width=size, height=size) for e in (0.0, 30.0) for a in (45.0, 135.0, 225.0, 315.0)]
