"""Renders many clips at once in torch, on any device: the batched twin of `t4d.data.render` and of `ClipDataset`.

Skinning, light, a z-buffer at twice the resolution, colour, exact flow and exact tracks are all tensor operations, so
that on a GPU a training batch costs milliseconds. Samples, formulas and tolerances are those of the compiled CPU
renderer; the two differ where float32 decides a sample on an edge otherwise. On a GPU sums over a vertex's triangles
are made in changing order: the last digits of the light may differ between two calls, nothing else does.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from t4d.data.dataset import ClipDataset
from t4d.data.device_pose import lit, posed, projected
from t4d.data.device_raster import ZBuffer, rasterise
from t4d.data.device_resolve import color, flow, hits, queries, tracks
from t4d.data.device_scene import PackedScenes, pack_scenes
from t4d.data.render import NEAR, TOLERANCE
from t4d.data.scene import Scene
from t4d.errors import InputError

SAMPLES = {"cpu": 1 << 22, "cuda": 1 << 27}  # samples of pictures at a time


@torch.no_grad()
def render_scenes(
    scenes: PackedScenes, *, supersample: int = 2, flow_cell: int = 2, background: float = 0.5, grid: int = 0
) -> dict[str, Tensor]:
    """All views and frames of all clips.

    Args:
        scenes: Clips, on the device that renders.
        supersample: Samples per pixel side.
        flow_cell: Pixels per side of a flow cell; divides height and width.
        background: Grey behind the objects, 0..1.
        grid: Tracked points per side; 0: none.

    Returns:
        rgba [B, V, T, 4, H, W], flow [B, V, T, 2, H/c, W/c], flow_valid [B, V, T, 1, H/c, W/c], cameras [B, V, 16],
        tracks [B, V, T, grid * grid, 2], visible [B, V, T, grid * grid] and query_valid [B, V, grid * grid], as
        `ClipDataset` has them, on the scenes' device.

    Raises:
        InputError: flow_cell does not divide the picture.
    """
    height, width = scenes.height, scenes.width
    if height % flow_cell or width % flow_cell:
        raise InputError(f"pictures of {width}x{height} pixels have no flow cells of {flow_cell}; give a divisor")
    samples = (height * supersample, width * supersample)
    faces, clip_of_face = scenes.faces.long(), scenes.clip_of_face.long()
    views, clips = scenes.views, scenes.clips

    def buffer_of(screen: Tensor, size: tuple[int, int]) -> ZBuffer:
        return rasterise(screen, faces, clip_of_face, clips, size, NEAR)

    screen = projected(scenes, posed(scenes, slice(0, 1)), supersample).flatten(0, 1)
    first, points = buffer_of(screen, samples), None
    if grid:
        # query points are the sample centres of a grid x grid picture; barycentrics do not mind the axes' scales
        scale = torch.tensor([grid / samples[1], grid / samples[0], 1.0], device=screen.device)
        points = queries(buffer_of(screen * scale, (grid, grid)), (height, width))
    together = max(1, SAMPLES.get(screen.device.type, SAMPLES["cpu"]) // (views * clips * samples[0] * samples[1]))
    parts: dict[str, list[Tensor]] = {"rgba": [], "flow": [], "flow_valid": [], "tracks": [], "visible": []}
    for start in range(0, scenes.frames, together):
        world = posed(scenes, slice(start, start + together))
        screen = projected(scenes, world, supersample)
        frames = screen.shape[1]
        buffer = buffer_of(screen.flatten(0, 1), samples)
        hit = hits(buffer)
        moved, valid = flow(hit, buffer, first, frames, flow_cell * supersample, TOLERANCE)
        found = {"flow": moved, "flow_valid": valid}
        found["rgba"] = color(hit, buffer, lit(scenes, world), supersample, background)
        if points is not None:
            found["tracks"], found["visible"] = tracks(points, buffer, frames, supersample, TOLERANCE)
        for name, value in found.items():  # [V * S, B, ...] to [B, V, S, ...]
            parts[name].append(value.unflatten(0, (views, frames)).permute(2, 0, 1, *range(3, value.ndim + 1)))
    out = {name: torch.cat(value, 2) for name, value in parts.items() if value}
    if points is None:
        lead, device = (clips, views, scenes.frames, 0), screen.device
        out["tracks"], out["visible"] = torch.zeros(*lead, 2, device=device), torch.zeros(lead, device=device).bool()
        out["query_valid"] = out["visible"][:, :, 0]
    else:
        out["query_valid"] = (points.face >= 0).transpose(0, 1)
        out["visible"][:, :, 0] = out["query_valid"]  # what the query ray hits is seen, also between the samples
    return {**out, "cameras": scenes.cameras}


class Scenes(Dataset[Scene]):
    """The clips of a `ClipDataset` before they are rendered; what worker processes make."""

    def __init__(self, clips: ClipDataset) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Scene:
        return self.clips.scene(index)


class DeviceClips(Dataset[dict[str, Any]]):
    """`ClipDataset` rendered on a device: the same clips, words, order and items, pictures made in batches.

    Args:
        clips: The data set; item i here is its item i, up to what the module's docstring says.
        device: Where pictures are made and stay.

    Attributes:
        scenes: The clips without pictures.
    """

    def __init__(self, clips: ClipDataset, device: torch.device | str) -> None:
        self.clips, self.device, self.scenes = clips, torch.device(device), Scenes(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        batch = self.render(pack_scenes([self.scenes[index]]))
        return {name: value[0] for name, value in batch.items()}

    def render(self, scenes: PackedScenes) -> dict[str, Any]:
        """A batch as `default_collate` makes it of items.

        Pictures and flow stay on the device; what small tensors say (cameras, tracks) is drawn from on the CPU.
        """
        found = render_scenes(scenes.to(self.device), flow_cell=self.clips.flow_cell, grid=self.clips.grid)
        for name in ("tracks", "visible", "query_valid", "cameras"):
            found[name] = found[name].cpu()
        return {**found, **default_collate(scenes.words)}

    def packed(self, indices: Iterator[list[int]], workers: int) -> Iterator[PackedScenes]:
        """Batches of clips without pictures, made ahead by worker processes."""
        ahead: dict[str, Any] = {"prefetch_factor": 4, "multiprocessing_context": "spawn"} if workers else {}
        loader = DataLoader(
            self.scenes,
            batch_sampler=indices,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=pack_scenes,
            **ahead,
        )
        return iter(loader)

    def batches(self, indices: Iterator[list[int]], workers: int) -> Iterator[dict[str, Any]]:
        """Rendered batches in a given order."""
        return map(self.render, self.packed(indices, workers))
