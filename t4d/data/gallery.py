"""Makes the example objects of `assets/objects`: `python -m t4d.data.gallery [FOLDER]`.

Each is a procedural body of a chosen seed at rest, cut down to what can be seen from outside, written as .glb with
vertex colours (our own generator: CC0), with a thumbnail and prompts that suit it. The same bytes come out every time.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from t4d.data.glb import write_glb
from t4d.data.procedural import generate
from t4d.data.render import render_clip
from t4d.data.shade import clip_normals, shade_clip
from t4d.geometry.camera import orbit_camera
from t4d.geometry.shading import LightRig
from t4d.paths import ASSETS


@dataclass(frozen=True)
class Exhibit:
    """One object: file stem, body plan, noun, seed, mesh detail, prompts."""

    stem: str
    plan: str
    noun: str
    seed: int
    prompts: tuple[str, ...]
    detail: float = 1.4


EXHIBITS = (
    Exhibit("fox", "quadruped", "fox", 5, ("a fox is running", "a fox wags its tail", "a fox looks around")),
    Exhibit(
        "dinosaur", "quadruped", "dinosaur", 8, ("a dinosaur is walking", "a dinosaur jumps", "a dinosaur attacks")
    ),
    Exhibit(
        "elephant", "quadruped", "elephant", 8, ("an elephant is walking", "an elephant rears up", "an elephant nods")
    ),
    Exhibit("penguin", "bird", "penguin", 2, ("a penguin is walking", "a penguin flaps its wings", "a penguin jumps")),
    Exhibit("dragon", "dragon", "dragon", 3, ("a dragon is flying", "a dragon is walking", "a dragon looks around")),
    Exhibit(
        "butterfly", "insect", "butterfly", 5, ("a butterfly is flying", "a butterfly hovers", "a butterfly dances")
    ),
    Exhibit("goldfish", "fish", "goldfish", 9, ("a goldfish is swimming", "a goldfish turns", "a goldfish jumps")),
    Exhibit("octopus", "octopus", "octopus", 6, ("an octopus is swimming", "an octopus waves", "an octopus curls up")),
    Exhibit("crab", "crawler", "crab", 7, ("a crab is walking", "a crab waves", "a crab is dancing")),
    Exhibit(
        "sunflower",
        "plant",
        "sunflower",
        1,
        ("a sunflower sways in the wind", "a sunflower blooms", "a sunflower dances"),
    ),
    Exhibit("robot", "robot", "robot", 3, ("a robot is waving", "a robot dances", "a robot is walking"), 1.2),
    Exhibit("race_car", "vehicle", "race car", 4, ("a race car drives", "a race car bounces", "a race car turns"), 1.2),
    Exhibit("caterpillar", "snake", "caterpillar", 9, ("a caterpillar crawls forward", "a caterpillar curls up"), 1.2),
    Exhibit(
        "astronaut",
        "biped",
        "astronaut",
        4,
        ("an astronaut waves hello", "an astronaut is jumping", "an astronaut walks"),
    ),
)


def write_gallery(folder: Path, exhibits: tuple[Exhibit, ...] = EXHIBITS) -> list[dict]:
    """Writes every exhibit's .glb and .png and gallery.json into a folder.

    Returns:
        The records of gallery.json: name, file, thumbnail, prompts (files relative to the folder).
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for exhibit in exhibits:
        body = generate(np.random.default_rng(exhibit.seed), exhibit.plan, exhibit.noun, exhibit.detail)
        rig = body.rig
        vertices, faces = rig.rest_vertices(), rig.faces
        low, high = vertices.min(0), vertices.max(0)
        vertices = vertices - (low + high) / 2
        vertices /= np.linalg.norm(vertices, axis=1).max()
        normals = clip_normals(vertices[None], faces)[0]
        shown = seen_from_outside(vertices, faces)
        used = np.unique(faces[shown])
        renumber = np.zeros(len(vertices), np.int64)
        renumber[used] = np.arange(len(used))
        write_glb(
            folder / f"{exhibit.stem}.glb",
            exhibit.stem,
            vertices[used],
            renumber[faces[shown]],
            rig.colors[used],
            normals[used],
        )
        thumbnail(vertices * 0.98, faces, rig.colors).save(folder / f"{exhibit.stem}.png", optimize=True)
        records.append(
            {
                "name": exhibit.stem.replace("_", " "),
                "file": f"{exhibit.stem}.glb",
                "thumbnail": f"{exhibit.stem}.png",
                "prompts": list(exhibit.prompts),
            }
        )
    (folder / "gallery.json").write_text(json.dumps(records, indent=1) + "\n")
    return records


def seen_from_outside(vertices: np.ndarray, faces: np.ndarray, size: int = 512) -> np.ndarray:
    """Which triangles can be seen from some of 42 directions, or share a vertex with one that can.

    Bodies are unions of closed parts; what lies inside others would only waste Gaussians.

    Args:
        vertices: [Nv, 3] within the unit sphere.
        faces: [F, 3].
        size: Pixels of each look.

    Returns:
        [F] bool.
    """
    cameras = [
        orbit_camera(a, e, 3.0, 40.0, size, size) for e in (-80, -45, -15, 15, 45, 80) for a in range(0, 360, 52)
    ]
    grey = np.zeros((1, len(vertices), 3), np.float32)
    seen = np.zeros(len(faces), bool)
    for camera in cameras:
        looked = render_clip(vertices[None], faces, grey, [camera], supersample=1, flow_cell=size, keep_samples=True)
        assert looked.samples is not None
        ids = looked.samples.face
        seen[np.unique(ids[ids >= 0])] = True
    touched = np.zeros(len(vertices), bool)
    touched[faces[seen]] = True
    return seen | touched[faces].all(1)


def thumbnail(vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray, size: int = 256):
    """A PIL picture with transparent background, seen from the front left."""
    from PIL import Image

    lit = shade_clip(vertices[None], faces, colors, LightRig())
    camera = orbit_camera(235, 18, width=size, height=size)
    rgba = render_clip(vertices[None], faces, lit, [camera], supersample=3, flow_cell=size).rgba[0, 0]
    alpha = rgba[3:]
    straight = np.where(alpha > 0, (rgba[:3] - 0.5 * (1 - alpha)) / np.maximum(alpha, 1e-6), 0)
    return Image.fromarray(
        np.round(np.concatenate([straight, alpha]).clip(0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
    )


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS / "objects"
    for record in write_gallery(target):
        print(f"{target / record['file']}: {(target / record['file']).stat().st_size // 1024} KB")
