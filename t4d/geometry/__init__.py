"""Cameras, rotations, object files, posing, shading and ray casting."""

from t4d.geometry.camera import Camera, network_camera, orbit_camera, rig, stack
from t4d.geometry.mesh import Material, Mesh
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import ClipInfo, Object3D, load_object
from t4d.geometry.occlusion import ambient_occlusion
from t4d.geometry.rotations import matrix_to_quat, quat_multiply, quat_to_matrix, slerp
from t4d.geometry.shading import LightRig, shade_vertices, surface_alpha, surface_color
from t4d.geometry.visibility import cast_visibility, render_mesh

__all__ = [
    "Camera",
    "ClipInfo",
    "LightRig",
    "Material",
    "Mesh",
    "Normaliser",
    "Object3D",
    "ambient_occlusion",
    "cast_visibility",
    "load_object",
    "matrix_to_quat",
    "network_camera",
    "orbit_camera",
    "quat_multiply",
    "quat_to_matrix",
    "render_mesh",
    "rig",
    "shade_vertices",
    "slerp",
    "stack",
    "surface_alpha",
    "surface_color",
]
