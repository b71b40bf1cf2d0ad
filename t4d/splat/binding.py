"""Gaussians bound to the triangles of a mesh: where they start, and where they go when the mesh moves."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from t4d.errors import InputError
from t4d.geometry.mesh import Mesh
from t4d.geometry.rotations import matrix_to_quat, quat_multiply
from t4d.geometry.shading import surface_alpha, surface_color
from t4d.splat._frames import triangle_rotations
from t4d.splat._scatter import Scatter, scatter_on_surface
from t4d.splat.gaussians import Gaussians
from t4d.splat.sh import rgb_to_sh0

OPACITY = 0.99
SPREAD = 1.8  # standard deviation of a Gaussian over that of the patch it stands for: less leaves holes, more bloats
THICKNESS = 0.02  # across the surface, in standard deviations along it; thicker Gaussians widen every outline
NARROWEST = 0.35  # least width, in standard deviations along the longer axis
HOLE = 0.5  # surface with less coverage than this carries no Gaussians


@dataclass(frozen=True)
class MeshBinding:
    """Which triangle carries which Gaussian.

    Attributes:
        faces: [N] int64 triangle of each Gaussian.
        barycentrics: [N, 3] float32 weights of its corners.
        patch_faces: [N, S] int64, S more points of the patch the Gaussian stands for; its colour is their mean.
        patch_barycentrics: [N, S, 3] float32.
        corners: [N, 3] int64 vertex indices of ``faces``.
        rest_corners: [N, 3, 3] float32 world positions of these vertices when bound.
        rest_quats: [N, 4] float32 (w, x, y, z) when bound.
    """

    faces: np.ndarray
    barycentrics: np.ndarray
    patch_faces: np.ndarray
    patch_barycentrics: np.ndarray
    corners: np.ndarray
    rest_corners: np.ndarray
    rest_quats: np.ndarray

    def __len__(self) -> int:
        return len(self.faces)

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file."""
        save_file({name: np.ascontiguousarray(value) for name, value in vars(self).items()}, path)

    @classmethod
    def load(cls, path: str | Path) -> "MeshBinding":
        """The inverse of ``save``.

        Raises:
            InputError: the file is absent, damaged or not a binding.
        """
        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError, TypeError) as error:
            raise InputError(
                f"{Path(path).name} is not a readable mesh binding ({str(error).splitlines()[0]}); "
                "give a binding.safetensors written by this program."
            ) from error

    def pose(
        self,
        vertices: np.ndarray,  # [..., Nv, 3]
    ) -> tuple[Tensor, Tensor]:
        """Moves the Gaussians with the mesh: means by barycentrics, orientations by their triangle's rotation.

        The rotation is that of the triangle's deformation (polar decomposition), so shear does not favour an edge. A
        triangle that has collapsed to a line keeps the turn of that line, one that is a point keeps its rest rotation.
        Scales stay.

        Args:
            vertices: posed positions, z-up world, of the mesh that was bound; any leading dimensions (frames).

        Returns:
            means [..., N, 3] and unit quats [..., N, 4], float32.

        Raises:
            ValueError: the mesh has another number of vertices.
        """
        vertices = np.asarray(vertices, np.float64)
        if vertices.shape[-1] != 3 or vertices.ndim < 2 or vertices.shape[-2] <= self.corners.max():
            raise ValueError(
                f"posed vertices have shape {list(vertices.shape)}, expected [..., > {self.corners.max()}, 3] of the "
                "mesh that was bound"
            )
        posed = vertices[..., self.corners, :]  # [..., N, 3, 3]
        means = (posed * self.barycentrics[..., None].astype(np.float64)).sum(-2)
        turn = triangle_rotations(self.rest_corners.astype(np.float64), posed)
        rest = torch.from_numpy(self.rest_quats).double()
        quats = quat_multiply(matrix_to_quat(torch.from_numpy(turn)), rest.expand(*turn.shape[:-2], 4))
        return torch.from_numpy(means).float(), torch.nn.functional.normalize(quats, dim=-1).float()

    def colors(self, mesh: Mesh, light: np.ndarray | None = None) -> Tensor:
        """The Gaussians' colours under some light (the re-lit truth of a pose).

        Args:
            mesh: the mesh that was bound.
            light: [Nv, 3] linear light (``shade_vertices`` of the posed mesh), or None for unlit.

        Returns:
            [N, 3] float32 sRGB in 0..1: the mean over each Gaussian's patch.
        """
        n, s = self.patch_faces.shape
        rgb = surface_color(mesh, self.patch_faces.reshape(-1), self.patch_barycentrics.reshape(-1, 3), light)
        return torch.from_numpy(rgb.reshape(n, s, 3).mean(1).astype(np.float32))


def bind_gaussians(
    mesh: Mesh,
    vertices_world: np.ndarray,
    count: int,
    light: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Gaussians, MeshBinding]:
    """Static Gaussians sampled from the mesh's vertices and triangles (paper, section 3.3).

    Vertices and area-weighted points on the triangles are relaxed until they lie evenly (centroidal patches of the
    surface, front and back kept apart). Each Gaussian takes the shape of its patch: flat along the surface, wide enough
    that neighbours close the surface, as narrow as a thin part is. Seen from both sides alike.

    Args:
        mesh: topology and materials; surface that is transparent in its materials gets no Gaussians.
        vertices_world: [Nv, 3] positions to bind in, z-up world.
        count: how many Gaussians, > 0.
        light: [Nv, 3] linear light at the vertices, or None for unlit colour.
        seed: of the sampling; equal arguments give equal Gaussians.

    Returns:
        Gaussians (spherical harmonics of degree 0, sRGB) and their binding.

    Raises:
        InputError: count is not positive or the mesh has no visible surface.
    """
    if count < 1:
        raise InputError(f"{count} Gaussians were asked for, expected at least 1; raise the number of Gaussians")
    vertices = np.asarray(vertices_world, np.float64)
    scatter = scatter_on_surface(
        mesh.faces, vertices, count, seed, keep=lambda face, bary: surface_alpha(mesh, face, bary) >= HOLE
    )
    scales, rotations = _shapes(scatter)
    quats = matrix_to_quat(torch.from_numpy(rotations)).float()
    corners = mesh.faces[scatter.faces]
    binding = MeshBinding(
        faces=scatter.faces,
        barycentrics=scatter.barycentrics.astype(np.float32),
        patch_faces=scatter.patch_faces,
        patch_barycentrics=scatter.patch_barycentrics.astype(np.float32),
        corners=corners,
        rest_corners=vertices[corners].astype(np.float32),
        rest_quats=quats.numpy(),
    )
    means = (vertices[corners] * scatter.barycentrics[..., None]).sum(1)
    alpha = surface_alpha(mesh, scatter.faces, scatter.barycentrics).astype(np.float64)
    opacity = torch.from_numpy(np.clip(OPACITY * alpha, 0.02, OPACITY)).float()
    gaussians = Gaussians(
        means=torch.from_numpy(means).float(),
        quats=quats,
        log_scales=torch.from_numpy(scales).float().log(),
        opacity_logits=torch.logit(opacity),
        sh=rgb_to_sh0(binding.colors(mesh, light))[:, None],
    )
    return gaussians, binding


def _shapes(scatter: Scatter) -> tuple[np.ndarray, np.ndarray]:
    """Standard deviations [N, 3], the last across the surface, and rotations [N, 3, 3], from the covariances."""
    values, axes = np.linalg.eigh(scatter.covariances)  # ascending
    sigma = np.sqrt(np.maximum(values[:, ::-1], 0))  # longest first
    axes = axes[:, :, ::-1].copy()
    # A patch of very few samples says nothing about its shape: the typical patch stands in as the least size.
    typical = max(float(np.median(sigma[:, 0])), 1e-9)
    long = np.maximum(sigma[:, 0], 0.25 * typical)
    wide = np.maximum(sigma[:, 1], NARROWEST * long)
    thin = THICKNESS * wide
    axes[:, :, 2] *= np.sign(np.linalg.det(axes))[:, None]
    return SPREAD * np.stack([long, wide, thin], axis=1), axes
