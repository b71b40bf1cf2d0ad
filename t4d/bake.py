"""An object file -> the same object with its textures and light baked into vertex colours (paper, supplement).

The paper bakes "a standard four-point lighting setup ... into vertex colours" with Blender Cycles before Stage Two.
This does it with ray-cast soft shadows and ambient occlusion of our own, or with Cycles where Blender's module is
installed.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from t4d.errors import InputError
from t4d.export.files import atomic_path
from t4d.geometry.bake import bake_vertex_colors
from t4d.geometry.baked_light import light_steps
from t4d.geometry.fine_mesh import split_for_light
from t4d.geometry.glb_writer import write_colored_glb
from t4d.geometry.normalise import Y_UP_TO_Z_UP, Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import LightRig

# PSNR of the baked picture against the textured one, lit alike, at 5, 10, 20 and 30 thousand vertices: Spot 34, 47, 55,
# 60 dB; Fox 49, 51, 55, 59; Duck 51, 52, 52, 52 (`python -m eval.bench.baking`). Below 40 dB eyes and small print
# blur. Baking ends earlier where the surface is 50 dB right.
VERTICES = 30_000
MAX_VERTICES = 1_000_000
MAX_SAMPLES = 4096

Result = TypeVar("Result")


@dataclass(frozen=True)
class BakeStep:
    """Progress: fraction 0..1, one line for a person, and in the last step the notes about the file."""

    fraction: float
    message: str
    notes: tuple[str, ...] = ()


def bake_file(
    path: str | Path,
    out: str | Path,
    *,
    samples: int = 64,
    seed: int = 0,
    cycles: bool = False,
    vertices: int = VERTICES,
    up: str | None = None,
) -> Iterator[BakeStep]:
    """Bakes texture x light into COLOR_0 of a new .glb without textures, marked KHR_materials_unlit.

    The object is lit as the pipeline lights it (`LightRig` in the z-up world), with soft shadows and ambient occlusion,
    after edges were split so that vertices can carry what textures and shadows show. A file with animations is baked
    in its rest pose and the result is static, as what moves it here is the generated clip. Position, size and
    orientation stay the file's own (y up in the .glb).

    Args:
        path: .glb, .gltf, .obj or mesh .ply.
        out: the .glb to write; its folder is made.
        samples: rays towards the sky a vertex, or Cycles' samples; 1 to 4096.
        seed: of the rays; equal arguments give equal files.
        cycles: let Blender's Cycles compute the light (with what surfaces reflect on each other); needs ``bpy``.
        vertices: most vertices in the result, unless the object has more to begin with.
        up: the file's up axis where it is not the format's custom (``load_object``).

    Yields:
        Progress; the last step says what was written.

    Raises:
        InputError: one sentence, before anything is written.
    """
    path, out = Path(path), Path(out)
    _check(path, out, samples, vertices, cycles)
    yield BakeStep(0.0, f"Reading {path.name}")
    loaded = load_object(path, up=up)
    notes = list(loaded.notes)
    if loaded.clips:
        notes.append(f"{path.name} is animated; its rest pose was baked and the animations were left out.")
    if all(loaded.mesh.materials[index].unlit for index in np.unique(loaded.mesh.face_material)):
        notes.append(f"{path.name} is unlit already, so its colours were kept and no light was added.")
    normaliser = Normaliser.fit_static(loaded)
    fine = split_for_light(loaded.mesh, normaliser.apply(loaded.rest_vertices()), vertices)
    yield BakeStep(0.1, f"Lighting {len(fine.mesh.vertices)} vertices")
    if cycles:
        from t4d.cycles import cycles_light

        light = cycles_light(fine, LightRig(), samples, seed)
    else:
        light = yield from _shown(light_steps(fine, LightRig(), samples, seed), 0.1, 0.5, "Casting rays")
    baked = yield from _shown(bake_vertex_colors(fine, light, vertices), 0.5, 0.95, "Adding vertices for the texture")
    facts = {"source": path.name, "light": "cycles" if cycles else "rays", "samples": samples, "seed": seed}
    with atomic_path(out) as temporary:
        write_colored_glb(temporary, baked, _file_space(baked.vertices, normaliser), {"t4d_bake": facts})
    found = f"{len(baked.vertices)} vertices, {len(baked.faces)} triangles"
    yield BakeStep(1.0, f"{out.name} written: {found}, light and textures in vertex colours", tuple(notes))


def _shown(
    steps: Generator[float, None, Result], start: float, end: float, message: str
) -> Generator[BakeStep, None, Result]:
    """Passes the progress of a part on as progress of the whole, and its result."""
    while True:
        try:
            share = next(steps)
        except StopIteration as stop:
            return stop.value
        yield BakeStep(start + (end - start) * share, message)


def _file_space(world: np.ndarray, normaliser: Normaliser) -> np.ndarray:
    """Positions [Nv, 3] of the z-up world in the file's units and place, glTF's y up."""
    straight = replace(normaliser, rotation=Y_UP_TO_Z_UP)
    return straight.invert(world)


def _check(path: Path, out: Path, samples: int, vertices: int, cycles: bool) -> None:
    if out.suffix.lower() != ".glb":
        raise InputError(f"the result {out.name} must be a .glb file; give a name that ends in .glb.")
    if out.resolve() == path.resolve():
        raise InputError(f"{out.name} is the object itself; give the result another name.")
    if not 1 <= samples <= MAX_SAMPLES:
        raise InputError(f"{samples} samples were asked for, expected 1 to {MAX_SAMPLES}; 64 are usual.")
    if not 100 <= vertices <= MAX_VERTICES:
        raise InputError(f"{vertices} vertices were asked for, expected 100 to {MAX_VERTICES}; {VERTICES} are usual.")
    if cycles:
        from t4d.cycles import require_bpy

        require_bpy()
