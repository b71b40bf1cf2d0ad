"""What z-buffers say about colour, flow and tracks, in torch: `resolve_*` and `track_points` of `t4d.data.raster`."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from t4d.data.device_raster import EMPTY, ZBuffer, surface_weights


@dataclass(frozen=True)
class Hits:
    """The covered samples of a z-buffer, M of them.

    Attributes:
        place: [M] int64 into the flattened [I, B, h, w].
        image: [M] leading image 0..I-1.
        clip: [M].
        x, y: [M] float32 sample centres.
        face: [M].
        weights: [M, 3] surface barycentrics.
    """

    place: Tensor
    image: Tensor
    clip: Tensor
    x: Tensor
    y: Tensor
    face: Tensor
    weights: Tensor


def hits(buffer: ZBuffer) -> Hits:
    """Where a z-buffer shows something, and which point of the surface."""
    _, clips, height, width = buffer.packed.shape
    flat = buffer.packed.flatten()
    place = (flat != EMPTY).nonzero()[:, 0]
    face, which = flat[place] & 0xFFFFFFFF, place // (height * width)
    image, clip = which // clips, which % clips
    x, y = place % width + 0.5, place // width % height + 0.5
    weights, _ = surface_weights(buffer.corners(image, face), x, y)
    return Hits(place, image, clip, x, y, face, weights)


def spread(hit: Hits, values: Tensor, shape: torch.Size) -> Tensor:
    """Values [M, C] of the covered samples as pictures [I, B, h, w, C], zero elsewhere."""
    out = torch.zeros((shape.numel(), values.shape[-1]), device=values.device)
    out[hit.place] = values
    return out.view(*shape, -1)


def cells(pictures: Tensor, side: int) -> Tensor:
    """Sums [I, B, C, h / side, w / side] over square cells of pictures [I, B, h, w, C]."""
    images, clips, height, width, channels = pictures.shape
    split = pictures.view(images, clips, height // side, side, width // side, side, channels)
    return split.sum((3, 5)).permute(0, 1, 4, 2, 3)


def color(hit: Hits, buffer: ZBuffer, srgb: Tensor, supersample: int, background: float) -> Tensor:
    """Colour over a grey background and coverage [I, B, 4, H, W].

    Args:
        hit: Of the buffer.
        buffer: The z-buffer.
        srgb: [S, N, 3] vertex colours; leading image i shows frame i mod S.
        supersample: Samples per pixel side.
        background: Grey, 0..1.
    """
    frame = hit.image % len(srgb)
    corner = buffer.faces[hit.face] + (frame * srgb.shape[1])[:, None]
    own = (hit.weights[..., None] * srgb.flatten(0, 1)[corner]).sum(1)
    values = torch.cat([own, torch.ones_like(own[:, :1])], -1)
    mean = cells(spread(hit, values, buffer.packed.shape), supersample) / supersample**2
    alpha = mean[:, :, 3:]
    return torch.cat([mean[:, :, :3] + (1 - alpha) * background, alpha], 2)


def flow(hit: Hits, buffer: ZBuffer, first: ZBuffer, frames: int, cell: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """Backward flow to frame 0 [I, B, 2, h / cell, w / cell] and its validity [I, B, 1, ...].

    Args:
        hit: Of the buffer.
        buffer: Leading images are V views of S frames.
        first: Frame 0 in V views.
        frames: S.
        cell: Samples per side of a flow cell.
        tolerance: World units of depth within which two surfaces count as one.
    """
    height, width = buffer.packed.shape[-2:]
    view = hit.image // frames
    corner = first.corners(view, hit.face)
    x, y, z = on_screen(corner, hit.weights)
    seen = _sample_shows(first, view, hit.clip, hit.face, x, y, z, tolerance)
    moved = torch.stack([(x - hit.x) * (2 / width), (y - hit.y) * (2 / height)], -1)
    values = torch.cat([moved, torch.ones_like(moved[:, :1]), seen[:, None].to(moved)], -1)
    total = cells(spread(hit, values, buffer.packed.shape), cell)
    covered, agreed = total[:, :, 2:3], total[:, :, 3:]
    valid = (2 * covered >= cell * cell) & (2 * agreed >= covered)
    return total[:, :, :2] / covered.clamp_min(1), valid.float()


def on_screen(corners: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, y and depth [...] of surface points with barycentrics [..., 3] on projected corners [..., 3, 3]."""
    depth = weights * corners[..., 2]
    z = depth.sum(-1)
    return (depth * corners[..., 0]).sum(-1) / z, (depth * corners[..., 1]).sum(-1) / z, z


def _neighbours(buffer: ZBuffer, image: Tensor, clip: Tensor, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Of each of the 2 x 2 samples about points: x, y, flat place, and whether it exists and shows something."""
    _, clips, height, width = buffer.packed.shape
    flat = buffer.packed.flatten()
    left, top = (x - 0.5).floor(), (y - 0.5).floor()
    for dy in (0, 1):
        for dx in (0, 1):
            sx, sy = left + dx, top + dy
            inside = (sx >= 0) & (sx < width) & (sy >= 0) & (sy < height)
            at = torch.where(inside, sy * width + sx, 0).long() + (image * clips + clip) * (height * width)
            packed = flat[at]
            yield sx, sy, packed, inside & (packed != EMPTY)


def _sample_shows(
    buffer: ZBuffer, image: Tensor, clip: Tensor, face: Tensor, x: Tensor, y: Tensor, z: Tensor, tolerance: float
) -> Tensor:
    """`visible_in` of `t4d.data.raster`: [M] bool."""
    seen = torch.zeros_like(face, dtype=torch.bool)
    for _, _, packed, shows in _neighbours(buffer, image, clip, x, y):
        depth = (packed >> 32).int().view(torch.float32)
        seen |= shows & (((packed & 0xFFFFFFFF) == face) | ((depth - z).abs() < tolerance))
    return seen


def point_visible(
    buffer: ZBuffer, image: Tensor, clip: Tensor, face: Tensor, x: Tensor, y: Tensor, z: Tensor, tolerance: float
) -> Tensor:
    """`point_visible` of `t4d.data.raster`: [M] bool, also right where a surface slopes by more than the tolerance."""
    seen = torch.zeros_like(face, dtype=torch.bool)
    for _, _, packed, shows in _neighbours(buffer, image, clip, x, y):
        other, depth = torch.where(shows, packed & 0xFFFFFFFF, 0), (packed >> 32).int().view(torch.float32)
        _, plane = surface_weights(buffer.corners(image, other), x, y)
        behind = (depth > z - tolerance) | ((z - tolerance) / plane < 1)
        seen |= shows & ((other == face) | behind)
    return seen


@dataclass(frozen=True)
class Queries:
    """Surface points under a grid over frame 0 of every view.

    Attributes:
        face: [V, B, P] int64, -1 off the object.
        weights: [V, B, P, 3].
        start: [P, 2] pixels, the grid.
    """

    face: Tensor
    weights: Tensor
    start: Tensor


def queries(query: ZBuffer, size: tuple[int, int]) -> Queries:
    """The points that a z-buffer of grid x grid samples shows.

    Args:
        query: [V, B, grid, grid], of frame 0's projection scaled to a picture of grid x grid samples.
        size: (H, W) in pixels.
    """
    views, clips, rows, columns = query.packed.shape
    found = hits(query)
    weights = spread(found, found.weights, query.packed.shape).view(views, clips, rows * columns, 3)
    y, x = torch.meshgrid(
        (torch.arange(rows, device=weights.device) + 0.5) * (size[0] / rows),
        (torch.arange(columns, device=weights.device) + 0.5) * (size[1] / columns),
        indexing="ij",
    )
    return Queries(query.face.flatten(2), weights, torch.stack([x, y], -1).flatten(0, 1))


def tracks(points: Queries, buffer: ZBuffer, frames: int, supersample: int, tolerance: float) -> tuple[Tensor, Tensor]:
    """Pixels [I, B, P, 2] of the points in the leading images, and whether each is seen [I, B, P]; see `ClipRender`."""
    images, clips, height, width = buffer.packed.shape
    count = len(points.start)
    view = torch.arange(images, device=buffer.packed.device) // frames
    face, weights = points.face[view].flatten(), points.weights[view].flatten(0, 2)
    on = face >= 0
    face = face.clamp_min(0)
    each = torch.arange(images * clips, device=face.device).repeat_interleave(count)
    image, clip = each // clips, each % clips
    x, y, z = on_screen(buffer.corners(image, face), weights)
    seen = on & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    # off the object the numbers mean nothing but must still be some
    x, y, z = (torch.where(on, value, 1.0) for value in (x, y, z))
    seen &= point_visible(buffer, image, clip, face, x, y, z, tolerance)
    xy = torch.where(on[:, None], torch.stack([x, y], -1) / supersample, points.start.repeat(images * clips, 1))
    return xy.view(images, clips, count, 2), seen.view(images, clips, count)
