"""Training samples: clips of packed rigs and of procedural objects, rendered on the fly.

Sample i of seed s is a pure function of (s, i): nothing needs saving to resume, and workers need no seeding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from t4d.data.captions import VIOLENT, caption
from t4d.data.catalog import EVALUATION_TWINS, Catalog
from t4d.data.procedural import generate
from t4d.data.render import render_clip
from t4d.data.rig import Rig
from t4d.data.rigpack import PackedRig
from t4d.data.shade import shade_clip
from t4d.data.timing import ease, frame_times
from t4d.errors import InputError
from t4d.geometry.camera import Camera, network_camera, orbit_camera
from t4d.geometry.shading import LightRig

RADII = (0.5, 0.85)
MIN_RADIUS = 0.3  # a clip that must shrink below this to stay in frame is dropped for another
MARGIN = 0.03  # share of the picture kept free around the moving object
COMMON_VERBS = ("spin", "shake", "breathe", "jump")  # nearly every procedural body has them: drawn half as often


@dataclass(frozen=True)
class Motion:
    """Posed vertices of one clip before cameras and light: [T, Nv, 3], frame 0 first."""

    rig: Rig
    vertices: np.ndarray
    name: str
    verb: str
    clip: str


def rig_motion(pack: PackedRig, clip: int, verb: str, frames: int, start: float, from_rest: bool) -> Motion:
    """A clip of a packed rig.

    Args:
        pack: The rig.
        clip: Index into its clips.
        verb: Its canonical verb.
        frames: T.
        start: Where in the loop frame 0 lies, 0..1.
        from_rest: Frame 0 is the rest pose and the clip (from its beginning) is blended in over the first frames.
    """
    packed = pack.clips[clip]
    matrices = packed.at(frame_times(packed.duration, frames, 0.0 if from_rest else start))
    if from_rest:
        rest = np.eye(3, 4, dtype=np.float32) if pack.rig.rest is None else pack.rig.rest
        mix = ease(frames).astype(np.float32)[:, None, None, None]
        matrices = rest + mix * (matrices - rest)
    return Motion(pack.rig, pack.rig.skin(matrices), pack.source, verb, packed.name)


def procedural_motion(rng: np.random.Generator, frames: int, from_rest: bool, plan: str | None = None) -> Motion:
    """A random procedural object acting out one of its verbs for one loop."""
    body = generate(rng, plan)
    verbs = sorted(body.verbs)
    weight = np.array([0.5 if verb in COMMON_VERBS else 1.0 for verb in verbs])
    verb = verbs[int(rng.choice(len(verbs), p=weight / weight.sum()))]
    waves = body.verbs[verb](rng)
    phases = (0.0 if from_rest else rng.random()) + np.arange(frames) / frames
    # A ramp starts at 0 by itself; easing it would only slow its first frames, which is right as well.
    matrices = body.matrices(waves, phases, ease(frames) if from_rest else 1.0)
    return Motion(body.rig, body.rig.skin(matrices), body.rig.name, verb, verb)


def place(vertices: np.ndarray, cameras: Sequence[Camera], radius: float) -> tuple[np.ndarray, float] | None:
    """Centres and scales a moving object for the cameras.

    The static object (frame 0) is centred on its bounds with the wanted radius, as inference does. Where the clip then
    leaves a picture, steady travel over the ground is removed first, then the scale shrinks.

    Returns:
        World vertices [T, Nv, 3] float32 and the radius used, or None where it would fall below `MIN_RADIUS`.
    """
    best: tuple[np.ndarray, float] | None = None
    for keep_travel in (True, False):
        moved = vertices
        if not keep_travel:
            middle = (vertices.min(1) + vertices.max(1)) / 2
            middle[:, 2] = middle[0, 2]
            moved = vertices - (middle - middle[0])[:, None]
        low, high = moved[0].min(0), moved[0].max(0)
        centred = moved - (low + high) / 2
        extent = float(np.linalg.norm(centred[0], axis=1).max())
        corners = _silhouette(centred)
        scale = radius / max(extent, 1e-9)
        for _ in range(40):
            if _inside(corners * scale, cameras):
                break
            scale *= 0.95
        used = scale * extent
        if best is None or used > best[1] + 1e-6:
            best = (centred * np.float32(scale), used)
        if used >= 0.85 * radius:
            break
    return best if best is not None and best[1] >= MIN_RADIUS else None


def _silhouette(vertices: np.ndarray) -> np.ndarray:
    """Extreme points of each frame in 26 directions: [T * 26, 3] stands in for all vertices."""
    grid = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    directions = grid[np.abs(grid).sum(1) > 0].astype(np.float32)
    extreme = np.argmax(vertices @ directions.T, axis=1)  # [T, 26]
    return np.take_along_axis(vertices, extreme[..., None], 1).reshape(-1, 3)


def _inside(points: np.ndarray, cameras: Sequence[Camera]) -> bool:
    tensor = torch.from_numpy(points)
    for camera in cameras:
        xy, depth = camera.project(tensor)
        size = torch.tensor([camera.width, camera.height], dtype=xy.dtype)
        if depth.min() < 0.2 or (xy < MARGIN * size).any() or (xy > (1 - MARGIN) * size).any():
            return False
    return True


def jittered_light(rng: np.random.Generator) -> LightRig:
    """The default lights with every intensity changed by up to a quarter."""
    base = LightRig()
    names = ("key_intensity", "fill_intensity", "back_intensity", "ambient")
    return replace(base, **{name: float(getattr(base, name) * rng.uniform(0.75, 1.25)) for name in names})


def recolored(colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Linear colours [Nv, 3] with their hues turned about the grey axis and their lightness changed."""
    a = rng.uniform(0, 2 * np.pi)
    third, root = (1 - np.cos(a)) / 3, np.sin(a) / np.sqrt(3)
    turn = np.full((3, 3), third) + root * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) + np.cos(a) * np.eye(3)
    return (np.clip(colors @ turn.T, 0, 1) ** rng.uniform(0.55, 1.2)).astype(np.float32)


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
        rest_fraction: Share of clips whose frame 0 is the rest pose.
        rig_fraction: Share seen by the inference rig exactly (elevation 15, azimuths from 0) under the default lights;
            the others get elevation 0..30, an azimuth offset and changed light.
        drop_verbs: Canonical verbs to leave out.
        held_out_captions: Use evaluation's wordings.
        seed: See the module's docstring.
        length: What `len` says.

    Raises:
        InputError: No rigs and no procedural share, or the folder is not a rig pack.
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
        rig_fraction: float = 0.6,
        drop_verbs: tuple[str, ...] = VIOLENT,
        held_out_captions: bool = False,
        seed: int = 0,
        length: int = 1_000_000,
    ) -> None:
        if rigs is None and procedural_fraction < 1:
            raise InputError(f"no rig folder and procedural_fraction={procedural_fraction}; give rigs or set it to 1")
        self.catalog = None if rigs is None else Catalog(Path(rigs), split, exclude, drop_verbs)
        self.height, self.width = (side, side) if isinstance(side, int) else side
        self.views, self.frames, self.flow_cell, self.grid = views, frames, flow_cell, grid
        self.procedural_fraction, self.rest_fraction, self.rig_fraction = (
            procedural_fraction,
            rest_fraction,
            rig_fraction,
        )
        self.held_out_captions, self.seed, self.length = held_out_captions, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, index])
        while True:
            motion = self._motion(rng)
            standard = rng.random() < self.rig_fraction
            turn = 0.0 if rng.random() < 0.7 else 90.0 * rng.integers(1, 4)
            elevation, offset = (15.0, 0.0) if standard else (rng.uniform(0, 30), rng.uniform(-45, 45))
            cameras = [
                orbit_camera(offset + k * 360 / self.views, elevation, width=self.width, height=self.height)
                for k in range(self.views)
            ]
            radius = 0.7 if standard and rng.random() < 0.5 else rng.uniform(*RADII)
            placed = place(_turned(motion.vertices, turn), cameras, radius)
            if placed is not None:
                break
        light = LightRig() if standard else jittered_light(rng)
        rig = motion.rig
        colors = rig.colors if rng.random() < 0.5 else recolored(rig.colors, rng)
        srgb = shade_clip(placed[0], rig.faces, colors, light, rig.smoothing)
        shown = render_clip(placed[0], rig.faces, srgb, cameras, flow_cell=self.flow_cell, grid=self.grid)
        return {
            "rgba": torch.from_numpy(shown.rgba),
            "flow": torch.from_numpy(shown.flow),
            "flow_valid": torch.from_numpy(shown.flow_valid),
            "cameras": torch.stack([network_camera(c) for c in cameras]),
            "tracks": torch.from_numpy(shown.tracks),
            "visible": torch.from_numpy(shown.visible),
            "query_valid": torch.from_numpy(shown.query_valid),
            "caption": caption(rig.noun, motion.verb, rng, self.held_out_captions),
            "verb": motion.verb,
            "noun": rig.noun,
            "name": motion.name,
            "clip": motion.clip,
        }

    def _motion(self, rng: np.random.Generator) -> Motion:
        from_rest = bool(rng.random() < self.rest_fraction)
        if self.catalog is None or rng.random() < self.procedural_fraction:
            return procedural_motion(rng, self.frames, from_rest)
        pack, verb, clip = self.catalog.draw(rng)
        return rig_motion(pack, clip, verb, self.frames, float(rng.random()), from_rest)


def _turned(vertices: np.ndarray, degrees: float) -> np.ndarray:
    """Vertices turned about z."""
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]], np.float32)
    return vertices @ turn.T


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
