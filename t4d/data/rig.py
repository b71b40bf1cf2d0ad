"""A rigged object reduced to what rendering training clips needs: one skinned mesh with a colour per vertex."""

from dataclasses import dataclass

import numba
import numpy as np

from t4d.errors import InputError


@dataclass(frozen=True)
class Rig:
    """A skinned mesh in world orientation (z up) at rest.

    Attributes:
        name: File or generator name, for logs.
        noun: What a caption calls it ("fox").
        vertices: [Nv, 3] float32 positions that the joint matrices act on.
        faces: [F, 3] int32 triangles, counter-clockwise seen from outside.
        colors: [Nv, 3] float32 linear base colour in 0..1.
        joints: [Nv, 4] int32 indices into the joint matrices.
        weights: [Nv, 4] float32, each row sums to 1.
        smoothing: [Nv] int32 or None; vertices of one number share a normal (`t4d.geometry.mesh.Mesh.smoothing`).
        rest: [J, 3, 4] float32 joint matrices of the rest pose, or None where they are all identity.
    """

    name: str
    noun: str
    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray
    joints: np.ndarray
    weights: np.ndarray
    smoothing: np.ndarray | None = None
    rest: np.ndarray | None = None

    def __post_init__(self) -> None:
        nv = len(self.vertices)
        shapes = (self.vertices.shape, self.colors.shape, self.joints.shape, self.weights.shape)
        if shapes != ((nv, 3), (nv, 3), (nv, 4), (nv, 4)) or self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise InputError(f"rig {self.name!r} has array shapes {shapes}, faces {self.faces.shape}; rebuild its pack")
        if not (np.isfinite(self.vertices).all() and np.isfinite(self.weights).all()):
            raise InputError(f"rig {self.name!r} holds values that are not finite; rebuild its pack")

    def skin(self, matrices: np.ndarray) -> np.ndarray:
        """Linear blend skinning.

        Args:
            matrices: [T, J, 3, 4] maps from rest position to posed position per frame and joint.

        Returns:
            [T, Nv, 3] float32 posed vertices.
        """
        if matrices.ndim != 4 or matrices.shape[2:] != (3, 4) or matrices.shape[1] <= int(self.joints.max()):
            raise InputError(
                f"joint matrices of {self.name!r} have shape {matrices.shape}; "
                f"expected [T, more than {int(self.joints.max())}, 3, 4]"
            )
        out = np.empty((len(matrices), len(self.vertices), 3), np.float32)
        _skin(self.vertices, self.joints, self.weights, np.ascontiguousarray(matrices, np.float32), out)
        return out

    def rest_vertices(self) -> np.ndarray:
        """[Nv, 3] float32 positions of the rest pose."""
        return self.vertices if self.rest is None else self.skin(self.rest[None])[0]

    def joint_middles(self, vertices: np.ndarray | None = None) -> np.ndarray:
        """Weighted middle of the surface that each joint moves.

        Args:
            vertices: [Nv, 3] positions to average; the stored ones where None.

        Returns:
            [J, 3] float64, J = 1 + the largest joint index; NaN for a joint that moves nothing.
        """
        positions = self.vertices if vertices is None else vertices
        count = int(self.joints.max()) + 1
        joint, weight = self.joints.ravel(), self.weights.ravel().astype(np.float64)
        total = np.bincount(joint, weight, count)
        sums = [np.bincount(joint, weight * np.repeat(positions[:, k], 4), count) for k in range(3)]
        return np.stack(sums, 1) / np.where(total > 1e-6, total, np.nan)[:, None]


def skin_reference(rig: Rig, matrices: np.ndarray) -> np.ndarray:
    """Slow twin of `Rig.skin`: the same blend written as one einsum."""
    blended = np.einsum("nk,tnkij->tnij", rig.weights, matrices[:, rig.joints])
    return np.einsum("tnij,nj->tni", blended[..., :3], rig.vertices) + blended[..., 3]


def rigid(matrices_3x3: np.ndarray, translations: np.ndarray) -> np.ndarray:
    """Joins [..., 3, 3] and [..., 3] to [..., 3, 4]."""
    return np.concatenate([matrices_3x3, translations[..., None]], -1)


@numba.njit(cache=True, fastmath=True, nogil=True)
def _skin(vertices, joints, weights, matrices, out):  # pragma: no cover (compiled)
    frames, count = out.shape[0], out.shape[1]
    for t in range(frames):
        for n in range(count):
            x, y, z = vertices[n, 0], vertices[n, 1], vertices[n, 2]
            ox = oy = oz = np.float32(0)
            for k in range(4):
                w = weights[n, k]
                if w != 0:
                    m = matrices[t, joints[n, k]]
                    ox += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
                    oy += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
                    oz += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
            out[t, n, 0], out[t, n, 1], out[t, n, 2] = ox, oy, oz
