"""Per-vertex light of whole clips: `t4d.geometry.shading` for meshes with vertex colours, batched and compiled."""

import numba
import numpy as np

from t4d.geometry.shading import LightRig


def light_arrays(light: LightRig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ambient [3], directions [3, 3], intensities [3, 3]) float32 of the key, fill and back light."""
    intensities = np.array([light.key_intensity, light.fill_intensity, light.back_intensity], np.float32)
    return (
        np.full(3, light.ambient, np.float32),
        np.array([light.key, light.fill, light.back], np.float32),
        np.repeat(intensities[:, None], 3, 1),
    )


def clip_normals(vertices: np.ndarray, faces: np.ndarray, smoothing: np.ndarray | None = None) -> np.ndarray:
    """Area-weighted vertex normals of every frame, as `Mesh.normals` gives for one.

    Args:
        vertices: [T, Nv, 3] float32.
        faces: [F, 3] int32.
        smoothing: [Nv] int32 or None; vertices of one number share a normal.

    Returns:
        [T, Nv, 3] float32 unit normals; (0, 0, 1) where every adjacent triangle is degenerate.
    """
    count = vertices.shape[1]
    groups = np.arange(count, dtype=np.int32) if smoothing is None else np.ascontiguousarray(smoothing, np.int32)
    out = np.empty(vertices.shape, np.float32)
    _normals(np.ascontiguousarray(vertices, np.float32), faces, groups, np.zeros((count, 3)), out)
    return out


@numba.njit(cache=True, nogil=True)
def _normals(vertices, faces, groups, total, out):  # pragma: no cover (compiled)
    for t in range(vertices.shape[0]):
        total[:] = 0
        v = vertices[t]
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            ax, ay, az = np.float64(v[a, 0]), np.float64(v[a, 1]), np.float64(v[a, 2])
            ux, uy, uz = v[b, 0] - ax, v[b, 1] - ay, v[b, 2] - az
            wx, wy, wz = v[c, 0] - ax, v[c, 1] - ay, v[c, 2] - az
            nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
            for k in range(3):
                g = groups[faces[f, k]]
                total[g, 0] += nx
                total[g, 1] += ny
                total[g, 2] += nz
        for n in range(v.shape[0]):
            g = groups[n]
            length = np.sqrt(total[g, 0] ** 2 + total[g, 1] ** 2 + total[g, 2] ** 2)
            if length < 1e-30:
                out[t, n, 0], out[t, n, 1], out[t, n, 2] = 0, 0, 1
            else:
                for k in range(3):
                    out[t, n, k] = total[g, k] / length


@numba.njit(cache=True, fastmath=True, nogil=True)
def lit_srgb(normals, colors, ambient, directions, intensities, out):  # pragma: no cover (compiled)
    """sRGB vertex colours [T, Nv, 3] of linear base colours [Nv, 3] under Lambert lights.

    Args:
        ambient: [3] linear; directions: [L, 3] unit, towards the lights; intensities: [L, 3] linear.
    """
    for t in range(normals.shape[0]):
        for n in range(normals.shape[1]):
            r, g, b = ambient[0], ambient[1], ambient[2]
            for i in range(directions.shape[0]):
                lambert = (
                    normals[t, n, 0] * directions[i, 0]
                    + normals[t, n, 1] * directions[i, 1]
                    + normals[t, n, 2] * directions[i, 2]
                )
                if lambert > 0:
                    r += lambert * intensities[i, 0]
                    g += lambert * intensities[i, 1]
                    b += lambert * intensities[i, 2]
            for k in range(3):
                light = r if k == 0 else (g if k == 1 else b)
                x = min(max(colors[n, k] * light, np.float32(0)), np.float32(1))
                if x <= np.float32(0.0031308):
                    out[t, n, k] = x * np.float32(12.92)
                else:
                    out[t, n, k] = np.float32(1.055) * x ** np.float32(1 / 2.4) - np.float32(0.055)


def shade_clip(
    vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray, light: LightRig, smoothing: np.ndarray | None = None
) -> np.ndarray:
    """sRGB vertex colours of each frame under lights that stand still in the world.

    Args:
        vertices: [T, Nv, 3] world.
        faces: [F, 3].
        colors: [Nv, 3] linear base colour.
        light: The lights.
        smoothing: [Nv] or None, see `clip_normals`.

    Returns:
        [T, Nv, 3] float32 in 0..1.
    """
    normals = clip_normals(vertices, faces, smoothing)
    out = np.empty(vertices.shape, np.float32)
    lit_srgb(normals, np.ascontiguousarray(colors, np.float32), *light_arrays(light), out)
    return out
