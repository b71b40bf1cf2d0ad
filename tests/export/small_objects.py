"""Small object files and meshes that the export tests move."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from t4d.export.glb_builder import INDICES, VERTICES, GlbBuilder
from t4d.geometry.mesh import Mesh


def picture(seed: int, width: int = 6, height: int = 4) -> np.ndarray:
    """[H, W, 3] uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Pixels as a PNG file."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def tube(rings: int = 9, sides: int = 12, length: float = 1.2, radius: float = 0.15) -> tuple[np.ndarray, ...]:
    """An open tube along x whose first and last column of vertices coincide (a seam of the texture).

    Returns:
        vertices [rings (sides + 1), 3], faces [2 (rings - 1) sides, 3], normals, uv.
    """
    along, around = np.meshgrid(np.linspace(0, 1, rings), np.arange(sides + 1), indexing="ij")
    angle = 2 * np.pi * (around % sides) / sides  # the same bits on both sides of the seam
    normals = np.stack([np.zeros_like(angle), np.cos(angle), np.sin(angle)], -1).reshape(-1, 3)
    vertices = radius * normals
    vertices[:, 0] = length * (along.ravel() - 0.5)
    corner = (np.arange(rings - 1)[:, None] * (sides + 1) + np.arange(sides)).ravel()
    a, b, c, d = corner, corner + sides + 1, corner + 1, corner + sides + 2
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([c, d, b], 1)])
    uv = np.stack([around.ravel() / sides, along.ravel()], 1)
    return vertices.astype(np.float32), faces, normals, uv


def tube_mesh(**options: Any) -> Mesh:
    """The tube as a mesh in the world."""
    vertices, faces, _, uv = tube(**options)
    return Mesh(vertices, faces, uv.astype(np.float32))


def bend(vertices: np.ndarray, amount: float) -> np.ndarray:
    """Bends along x in the xz plane, an arc of curvature ``amount``; [..., 3] float64."""
    x, y, z = np.moveaxis(np.asarray(vertices, np.float64), -1, 0)
    if amount == 0:
        return np.stack([x, y, z], -1)
    angle, reach = amount * x, 1 / amount - z
    return np.stack([reach * np.sin(angle), y, 1 / amount - reach * np.cos(angle)], -1)


def rich_glb(folder: Path) -> Path:
    """A .glb with about everything a file may carry besides its surface.

    Two nodes: a mirrored, scaled and turned one of two primitives (embedded texture with KHR_texture_transform; vertex
    colours and an emissive strength), and a skinned one (texture in a file beside it). An old animation, an old morph
    target, a camera and a copyright.
    """
    vertices, faces, normals, uv = tube()
    builder = GlbBuilder({"asset": {"version": "2.0", "copyright": "CC0 someone", "extras": {"author": "someone"}}})

    def surface(offset: float, **extra: Any) -> dict[str, Any]:
        attributes = {
            "POSITION": builder.accessor(
                vertices + np.array([0, offset, 0], np.float32), "<f4", target=VERTICES, bounds=True
            ),
            "NORMAL": builder.accessor(normals, "<f4", target=VERTICES),
            "TEXCOORD_0": builder.accessor(uv, "<f4", target=VERTICES),
            **extra.pop("attributes", {}),
        }
        return {"attributes": attributes, "indices": builder.accessor(faces.ravel(), "<u2", target=INDICES), **extra}

    count = len(vertices)
    colors = np.random.default_rng(5).integers(0, 65536, (count, 4))
    colors[:, 3] = 65535
    joints, weights = np.zeros((count, 4)), np.zeros((count, 4))
    joints[:, 1], weights[:, 0] = 1, 0.5 - vertices[:, 0] / 1.2
    weights[:, 1] = 1 - weights[:, 0]
    skinned = {
        "JOINTS_0": builder.accessor(joints, "<u2", target=VERTICES),
        "WEIGHTS_0": builder.accessor(weights, "<f4", target=VERTICES),
    }
    old_target = builder.accessor(0.3 * vertices, "<f4", target=VERTICES, bounds=True)
    times = builder.accessor(np.array([0.0, 1.0]), "<f4", bounds=True)
    turns = builder.accessor(np.array([[0, 0, 0, 1], [0, 0.6, 0, 0.8]]), "<f4")
    (folder / "beside it.png").write_bytes(png(picture(2)))
    builder.document |= {
        "scene": 0,
        "scenes": [{"nodes": [0, 1, 4]}],
        "nodes": [
            {
                "name": "mirrored",
                "mesh": 0,
                "scale": [-2, 2, 2],
                "rotation": [0.6, 0, 0, 0.8],
                "translation": [0, 1, 0],
            },
            {"name": "skinned", "mesh": 1, "skin": 0},
            {"name": "joint a", "children": [3]},
            {"name": "joint b", "rotation": [0, 0, 0.28, 0.96]},
            {"name": "camera", "camera": 0, "children": [2]},
        ],
        "cameras": [{"type": "perspective", "perspective": {"yfov": 1.0, "znear": 0.1}}],
        "skins": [{"joints": [2, 3]}],
        "animations": [
            {
                "name": "old",
                "samplers": [{"input": times, "output": turns}],
                "channels": [{"sampler": 0, "target": {"node": 3, "path": "rotation"}}],
            }
        ],
        "meshes": [
            {
                "name": "two looks",
                "primitives": [
                    surface(0.0, material=1),
                    surface(0.5, material=2, attributes={"COLOR_0": builder.accessor(colors, "<u2", normalized=True)}),
                ],
            },
            {
                "name": "arm",
                "primitives": [surface(-1.5, material=3, attributes=skinned, targets=[{"POSITION": old_target}])],
            },
        ],
        "materials": [
            {"name": "unused", "pbrMetallicRoughness": {"baseColorTexture": {"index": 2}}},
            {
                "name": "moved texture",
                "doubleSided": True,
                "alphaMode": "MASK",
                "alphaCutoff": 0.25,
                "pbrMetallicRoughness": {
                    "roughnessFactor": 0.3,
                    "baseColorTexture": {
                        "index": 1,
                        "extensions": {
                            "KHR_texture_transform": {"offset": [0.25, 0.5], "rotation": 0.5, "scale": [2, 3]}
                        },
                    },
                },
                "extras": {"shelf": 7},
            },
            {
                "name": "glowing",
                "emissiveFactor": [0.5, 0.25, 0.125],
                "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 3.0}},
            },
            {"name": "file beside", "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}},
        ],
        "textures": [{"source": 1, "sampler": 0}, {"source": 0, "sampler": 1}, {"source": 2}],
        "samplers": [{"wrapS": 33071, "wrapT": 33071}, {"magFilter": 9728, "wrapS": 33648, "wrapT": 10497}],
        "images": [
            {"bufferView": builder.view(png(picture(1))), "mimeType": "image/png", "name": "embedded"},
            {"uri": "beside%20it.png"},
            {"bufferView": builder.view(png(picture(3))), "mimeType": "image/png", "name": "unused"},
        ],
    }
    builder.save(folder / "rich.glb")
    return folder / "rich.glb"


def textured_obj(folder: Path) -> Path:
    """The tube as an .obj with two materials: one textured, one blue."""
    vertices, faces, _, uv = tube(rings=4, sides=6)
    lines = ["mtllib a.mtl"]
    lines += [f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices]
    lines += [f"vt {u:.7g} {1 - v:.7g}" for u, v in uv]
    half = len(faces) // 2
    for name, some in (("skin", faces[:half]), ("blue", faces[half:])):
        lines += [f"usemtl {name}"] + ["f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in some]
    (folder / "a.obj").write_text("\n".join(lines) + "\n")
    (folder / "a.mtl").write_text("newmtl skin\nKd 1 1 1\nmap_Kd a.png\nnewmtl blue\nKd 0 0 1\n")
    (folder / "a.png").write_bytes(png(picture(4)))
    return folder / "a.obj"


def z_up_ply(folder: Path) -> Path:
    """The tube as an ASCII .ply; PLY files stand z up."""
    vertices, faces, _, _ = tube(rings=4, sides=6)
    head = (
        f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty float z\n"
    )
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [f"{x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices] + [f"3 {a} {b} {c}" for a, b, c in faces]
    (folder / "a.ply").write_text(head + "\n".join(rows) + "\n")
    return folder / "a.ply"
