"""What the gates compare with: real clips and condition views, drawn by the product's own rasteriser.

A posed rig's Gaussians are bound to its frame 0, as the product binds a user's object, and carried by the mesh; light
stands still in the world and every frame is lit anew.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eval.ablation_store import PACKAGE, Store, digest, source_digest
from eval.mini_cases import KENNEY, MIDDLE, REAL3D, VERBS, Case
from t4d.data.captions import plain_caption, verb_of
from t4d.data.catalog import Catalog
from t4d.data.framing import place
from t4d.data.motion import Motion, rig_motion
from t4d.data.rig import Rig
from t4d.data.rigpack import PackedRig, load_pack
from t4d.data.rigpacker import pack_object
from t4d.errors import InputError
from t4d.geometry.camera import Camera, rig
from t4d.geometry.mesh import Mesh
from t4d.geometry.normalise import Normaliser
from t4d.geometry.object3d import load_object
from t4d.geometry.shading import LightRig, shade_vertices
from t4d.splat.binding import bind_gaussians
from t4d.splat.gaussians import Gaussians, stack_gaussians
from t4d.splat.render import render_gaussians
from t4d.splat.sh import rgb_to_sh0

SIZE, FRAMES, RADIUS, COUNT = 128, 16, 0.7, 8000
CODE = ("motion", "framing", "timing", "rig", "rigpack", "rigpacker")


@dataclass(frozen=True)
class Truth:
    """What is known of a case.

    Attributes:
        reference: [V, 4, H, W] condition views.
        clip: [V, T, 4, H, W] the real clip, whose frame 0 is `reference`; None where none exists.
        prompt: Plain sentence.
    """

    reference: Tensor
    clip: Tensor | None
    prompt: str


class World:
    """Where cases come from.

    Args:
        rigs: Rig pack folder.
        real3d: Folder with animated/ and static/.
        store: Of pictures.

    Raises:
        InputError: A folder is missing.
    """

    def __init__(self, rigs: Path, real3d: Path, store: Store) -> None:
        for folder, what in ((rigs, "a rig pack folder (index.json)"), (real3d, "models of real3d (animated/)")):
            if not folder.is_dir():
                raise InputError(f"{folder} is not a folder; give {what}")
        self.rigs, self.real3d, self.store = rigs, real3d, store
        self.cameras: list[Camera] = rig(width=SIZE, height=SIZE)
        data = [(PACKAGE / "data" / f"{name}.py").read_text() for name in CODE]
        self._code = digest([source_digest(("geometry", "splat")), data])
        self._catalog = Catalog(rigs, "all", (), ())

    def truth(self, case: Case) -> Truth:
        """Condition views and real clip of a case, cached by everything they come from."""
        pack, key = self.pack(case), self.key(case)
        prompt = plain_caption(case.noun or (pack.rig.noun if pack else case.object.lower()), case.verb)
        stored = self.store.tensors(case.name.replace("/", "-"), key, lambda: self._drawn(case, pack))
        pictures = stored["pictures"].float() / 255
        return Truth(pictures[:, 0], pictures if case.real else None, prompt)

    def key(self, case: Case) -> dict[str, Any]:
        """Everything that a case's pictures come from."""
        return {
            "case": [case.rig, case.verb if case.real else "", case.rest, case.variant, case.real],
            "file": _file_digest(self._path(case)),
            "code": self._code,
            "as": [SIZE, FRAMES, RADIUS, COUNT, MIDDLE],
        }

    def pack(self, case: Case) -> PackedRig | None:
        """The rig of a case; None for an object without motion."""
        path = self._path(case)
        if case.group == "real3d":
            return None if case.rig.startswith("static/") else _packed(path)
        return load_pack(path)

    def scene(self, case: Case) -> tuple[Gaussians, Gaussians | None]:
        """Gaussians of frame 0, and of all frames [T] where the real clip is known."""
        pack = self.pack(case)
        if pack is None:
            loaded = load_object(self._path(case))
            vertices = Normaliser.fit_static(loaded, radius=RADIUS).apply(loaded.rest_vertices())
            light = shade_vertices(loaded.mesh, vertices, LightRig())
            return bind_gaussians(loaded.mesh, vertices, COUNT, light, 0)[0], None
        if not case.real:
            rest = Motion(pack.rig, pack.rig.rest_vertices()[None], pack.source, case.verb, "")
            return self._posed(rest)[0], None
        return self._posed(self.motion(case, pack))

    def surface(self, case: Case) -> tuple[np.ndarray, np.ndarray]:
        """World vertices [Nv, 3] of frame 0 and faces [F, 3] of a case that has a rig."""
        pack = self.pack(case)
        if pack is None:
            raise InputError(f"{case.name} has no rig; choose a case with a real clip")
        motion = self.motion(case, pack)
        return self._placed(motion)[0], motion.rig.faces

    def motion(self, case: Case, pack: PackedRig) -> Motion:
        """The real motion of a case.

        Raises:
            InputError: The rig has no such clip.
        """
        clips = [i for i, clip in enumerate(pack.clips) if verb_of(clip.name) == case.verb]
        if case.variant >= len(clips):
            raise InputError(
                f"{case.object} has {len(clips)} clips of {case.verb!r}, number {case.variant} was asked for; "
                f"its clips are {', '.join(clip.name for clip in pack.clips)}"
            )
        start = 0.0 if case.rest else MIDDLE
        return rig_motion(pack, clips[case.variant], case.verb, FRAMES, start, case.rest)

    def verb_cases(self) -> list[Case]:
        """Every real clip of the six verbs from rest: all variants of near, far and real3d rigs."""
        found = []
        for group in ("near", "far"):
            for entry in Catalog(self.rigs, group, (), ()).entries:
                stem = entry.source.rsplit(".", 1)[0]
                for verb in VERBS:
                    number = len(entry.verbs.get(verb, ()))
                    found += [Case(group, stem, verb, variant=k) for k in range(number)]
        for path, (noun, verbs) in {**REAL3D, KENNEY[0]: (KENNEY[1], ("idle", "jump", "walk"))}.items():
            found += [Case("real3d", path, verb, noun=noun) for verb in verbs]
        return found

    def _path(self, case: Case) -> Path:
        if case.group == "real3d":
            return self.real3d / case.rig
        for entry in self._catalog.entries:
            if entry.source.rsplit(".", 1)[0] == case.rig:
                return entry.path
        raise InputError(f"the rig pack folder {self.rigs} has no {case.rig}; pack the whole collection")

    def _drawn(self, case: Case, pack: PackedRig | None) -> dict[str, Tensor]:
        still, moving = self.scene(case)
        with torch.no_grad():
            shown = render_gaussians(moving if moving is not None else stack_gaussians([still]), self.cameras)
        return {"pictures": (shown.clamp(0, 1).transpose(0, 1) * 255).round().byte()}

    def _placed(self, motion: Motion) -> np.ndarray:
        placed = place(motion.vertices, self.cameras, RADIUS)
        if placed is None:
            raise InputError(f"{motion.name} [{motion.clip}] leaves the picture; choose another clip")
        return placed[0]

    def _posed(self, motion: Motion) -> tuple[Gaussians, Gaussians]:
        vertices, mesh = self._placed(motion), _mesh(motion.rig)
        light = [shade_vertices(mesh, pose, LightRig()) for pose in vertices]
        gaussians, binding = bind_gaussians(mesh, vertices[0], COUNT, light[0], 0)
        means, quats = binding.pose(vertices)
        colors = [rgb_to_sh0(binding.colors(mesh, each))[:, None] for each in light]
        frames = [gaussians.replace(means=m, quats=q, sh=c) for m, q, c in zip(means, quats, colors)]
        return gaussians, stack_gaussians(frames)


def _mesh(rig: Rig) -> Mesh:
    opaque = np.concatenate([rig.colors, np.ones((len(rig.colors), 1), np.float32)], 1)
    smoothing = None if rig.smoothing is None else rig.smoothing.astype(np.int64)
    return Mesh(rig.vertices, rig.faces, vertex_color=opaque, smoothing=smoothing)


@lru_cache(maxsize=8)
def _packed(path: Path) -> PackedRig:
    return pack_object(path, path.name, path.name)


@lru_cache(maxsize=256)
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
