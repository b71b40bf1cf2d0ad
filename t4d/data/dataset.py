"""Training samples: clips of packed rigs and of procedural objects, rendered on the fly.

Sample i of seed s is a pure function of (s, i): nothing needs saving to resume, and workers need no seeding.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from t4d.data.augment import jittered_light, mirrored, recolored, stretched, swollen
from t4d.data.captions import VERBS, VIOLENT, caption
from t4d.data.catalog import EVALUATION_TWINS, Catalog
from t4d.data.framing import placement, turned
from t4d.data.motion import Motion, procedural_motion, rig_motion
from t4d.data.procedural import generate
from t4d.data.render import render_clip
from t4d.data.scene import Scene, placed_matrices
from t4d.data.shade import shade_clip
from t4d.errors import InputError
from t4d.geometry.camera import Camera, network_camera, orbit_camera
from t4d.geometry.shading import LightRig

RADII = (0.5, 0.85)
LOG = logging.getLogger(__name__)
TRIES = 200  # draws before a data set none of whose clips can be shown is given up


class ClipDataset(Dataset[dict[str, Any]]):
    """Rendered training clips.

    An item is a dict: `rgba` [V, T, 4, H, W] float32 in 0..1 (sRGB colour over 0.5 grey; coverage), `flow`
    [V, T, 2, H/2, W/2] backward displacement to frame 0 in units where the image spans -1..1
    (``grid_sample(frame_0, identity + flow)`` gives frame t where valid), `flow_valid` [V, T, 1, H/2, W/2] in {0, 1},
    `cameras` [V, 16] (`network_camera`), exact tracks of a regular grid over frame 0 of each view (`tracks`
    [V, T, grid*grid, 2] float32 pixels, `visible` [V, T, grid*grid] bool, `query_valid` [V, grid*grid] bool: see
    `t4d.data.render.ClipRender`), and the strings `caption`, `verb`, `noun`, `name`, `clip`.

    Args:
        rigs: Folder of rig packs, or None for procedural objects only.
        split: "train", "near", "far" or "all".
        side: Picture side in pixels, or (height, width).
        views: V, evenly spaced in azimuth over the full circle.
        frames: T.
        flow_cell: Pixels per side of a flow cell.
        grid: Tracked points per side (paper: 15 x 15).
        exclude: Rigs to leave out, by name or "folder/name".
        procedural_fraction: Share of procedural objects.
        rest_fraction: Share of clips whose frame 0 is the rest pose and that blend into the motion over frames 1 to 3.
        proportions: Largest relative change of an object's axes and of the thickness of its parts.
        mirror: Share of objects mirrored left to right.
        speed: Largest relative change of a motion's tempo.
        rig_fraction: Share seen by the inference rig exactly (elevation 15, azimuths from 0) under the default lights;
            the others get elevation 0..30, an azimuth offset and changed light.
        drop_verbs: Canonical verbs to leave out.
        verbs: Canonical verbs to draw from; empty: all.
        held_out_captions: Use evaluation's wordings.
        seed: See the module's docstring.
        length: What `len` says.

    Raises:
        InputError: No rigs and no procedural share, the folder is not a rig pack, or pictures of no size.
    """

    def __init__(
        self,
        rigs: Path | str | None,
        *,
        split: str = "train",
        side: int | tuple[int, int] = 64,
        views: int = 4,
        frames: int = 16,
        flow_cell: int = 2,
        grid: int = 15,
        exclude: tuple[str, ...] = EVALUATION_TWINS,
        procedural_fraction: float = 0.3,
        rest_fraction: float = 0.5,
        proportions: float = 0.15,
        mirror: float = 0.5,
        speed: float = 0.2,
        rig_fraction: float = 0.6,
        drop_verbs: tuple[str, ...] = VIOLENT,
        verbs: tuple[str, ...] = (),
        held_out_captions: bool = False,
        seed: int = 0,
        length: int = 1_000_000,
    ) -> None:
        if rigs is None and procedural_fraction < 1:
            raise InputError(f"no rig folder and procedural_fraction={procedural_fraction}; give rigs or set it to 1")
        if unknown := sorted(set(verbs) - set(VERBS)):
            raise InputError(f"unknown verbs {', '.join(unknown)}; use some of {', '.join(sorted(VERBS))}")
        self.verbs = frozenset(verbs)
        self.catalog = None if rigs is None else Catalog(Path(rigs), split, exclude, drop_verbs, self.verbs)
        self.height, self.width = (side, side) if isinstance(side, int) else side
        if min(views, frames, flow_cell) < 1 or grid < 0 or self.height % flow_cell or self.width % flow_cell:
            raise InputError(
                f"{views} views of {frames} frames of {self.width}x{self.height} pixels with flow cells of {flow_cell} "
                f"and a grid of {grid} were asked for; give positive numbers and a size that {flow_cell} divides"
            )
        self.views, self.frames, self.flow_cell, self.grid = views, frames, flow_cell, grid
        self.procedural_fraction, self.rest_fraction, self.rig_fraction = (
            procedural_fraction,
            rest_fraction,
            rig_fraction,
        )
        self.proportions, self.mirror, self.speed = proportions, mirror, speed
        self._skipped: list[tuple[str, str]] = []
        self.held_out_captions, self.seed, self.length = held_out_captions, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene = self.scene(index)
        rig, cameras = scene.rig, scene.cameras
        srgb = shade_clip(scene.vertices, rig.faces, scene.colors, scene.light, rig.smoothing)
        shown = render_clip(scene.vertices, rig.faces, srgb, cameras, flow_cell=self.flow_cell, grid=self.grid)
        return {
            "rgba": torch.from_numpy(shown.rgba),
            "flow": torch.from_numpy(shown.flow),
            "flow_valid": torch.from_numpy(shown.flow_valid),
            "cameras": torch.stack([network_camera(c) for c in cameras]),
            "tracks": torch.from_numpy(shown.tracks),
            "visible": torch.from_numpy(shown.visible),
            "query_valid": torch.from_numpy(shown.query_valid),
            **scene.words,
        }

    def scene(self, index: int) -> Scene:
        """Everything about item `index` but its pictures."""
        rng = np.random.default_rng([self.seed, index])
        extra = rng.spawn(1)[0]  # of its own, so that switching augmentation off does not change which clip is drawn
        for _ in range(TRIES):
            motion = self._motion(rng, extra)
            standard = rng.random() < self.rig_fraction
            turn = 0.0 if rng.random() < 0.7 else 90.0 * rng.integers(1, 4)
            cameras = self._cameras(*((15.0, 0.0) if standard else (rng.uniform(0, 30), rng.uniform(-45, 45))))
            radius = 0.7 if standard and rng.random() < 0.5 else rng.uniform(*RADII)
            if not np.isfinite(motion.vertices).all():
                self._skip(f"{motion.name} [{motion.clip}]", "positions that are not finite")
                continue
            placed = placement(turned(motion.vertices, turn), cameras, radius)
            if placed is not None:
                break
        else:
            raise InputError(f"{TRIES} clips in a row cannot be shown: {self.skipped[-1:] or 'they leave the picture'}")
        rig = motion.rig
        light = LightRig() if standard else jittered_light(rng)
        colors = rig.colors if rng.random() < 0.5 else recolored(rig.colors, rng)
        words = {"caption": caption(rig.noun, motion.verb, rng, self.held_out_captions), "verb": motion.verb}
        words |= {"noun": rig.noun, "name": motion.name, "clip": motion.clip}
        return Scene(rig, placed.vertices, placed_matrices(motion, turn, placed), colors, light, cameras, words)

    def _motion(self, rng: np.random.Generator, extra: np.random.Generator) -> Motion:
        from_rest = bool(rng.random() < self.rest_fraction)
        speed = float(np.exp(extra.uniform(-1, 1) * np.log1p(self.speed)))
        swell = extra.spawn(1)[0]
        if self.catalog is None or rng.random() < self.procedural_fraction:
            body, tries = generate(rng), 1
            while self.verbs and not self.verbs & set(body.verbs):
                if tries == TRIES:
                    raise InputError(
                        f"{TRIES} procedural objects in a row do none of {', '.join(sorted(self.verbs))}; name other "
                        "verbs, or set data.procedural_fraction=0 and use rigs."
                    )
                body, tries = generate(rng), tries + 1
            if self.verbs:
                body.verbs = {verb: waves for verb, waves in body.verbs.items() if verb in self.verbs}
            if self.proportions:
                body.rig = swollen(body.rig, swell, self.proportions)
            motion = procedural_motion(rng, body, self.frames, from_rest, speed)
        else:
            pack, verb, clip = self.catalog.draw(rng)
            if self.proportions:
                pack = replace(pack, rig=swollen(pack.rig, swell, self.proportions))
            motion = rig_motion(pack, clip, verb, self.frames, float(rng.random()), from_rest, speed)
        if self.proportions:
            motion = stretched(motion, np.exp(extra.uniform(-1, 1, 3) * np.log1p(self.proportions)))
        return mirrored(motion) if extra.random() < self.mirror else motion

    def _cameras(self, elevation: float, offset: float) -> list[Camera]:
        return [
            orbit_camera(offset + k * 360 / self.views, elevation, width=self.width, height=self.height)
            for k in range(self.views)
        ]

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """(asset, reason) of everything left out so far in this process."""
        return ([] if self.catalog is None else self.catalog.skipped) + self._skipped

    def _skip(self, asset: str, reason: str) -> None:
        if (asset, reason) not in self._skipped:
            self._skipped.append((asset, reason))
            LOG.warning("left out: %s: %s", asset, reason)


def warp(frame_0: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Moves frame 0 to frame t: out(p) = frame_0(p + flow(p)).

    Args:
        frame_0: [B, C, H, W].
        flow: [B, 2, h, w] backward displacement in normalised units; resized to H x W where it differs.

    Returns:
        [B, C, H, W].
    """
    height, width = frame_0.shape[-2:]
    if flow.shape[-2:] != (height, width):
        flow = torch.nn.functional.interpolate(flow, (height, width), mode="bilinear", align_corners=False)
    eye = torch.eye(2, 3, dtype=flow.dtype, device=flow.device).expand(len(flow), 2, 3)
    grid = torch.nn.functional.affine_grid(eye, [len(flow), 1, height, width], align_corners=False)
    return torch.nn.functional.grid_sample(
        frame_0, grid + flow.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False
    )
