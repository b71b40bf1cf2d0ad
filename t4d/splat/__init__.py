"""3D Gaussians: parameters, spherical harmonics, binding to a mesh, and differentiable rasterisers."""

from t4d.splat.binding import MeshBinding, bind_gaussians
from t4d.splat.gaussians import Gaussians, stack_gaussians
from t4d.splat.rasterize import rasterize
from t4d.splat.render import PIXEL_FILTER, render_gaussians
from t4d.splat.sh import eval_sh, rgb_to_sh0, sh0_to_rgb

__all__ = [
    "PIXEL_FILTER",
    "Gaussians",
    "MeshBinding",
    "bind_gaussians",
    "eval_sh",
    "rasterize",
    "render_gaussians",
    "rgb_to_sh0",
    "sh0_to_rgb",
    "stack_gaussians",
]
