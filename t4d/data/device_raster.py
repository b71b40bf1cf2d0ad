"""A z-buffer in torch: every (triangle, sample) pair of the triangles' boxes, resolved by one atomic minimum.

Depth and triangle share an int64, depth's bits first: for positive floats the order of the bits is the order of the
numbers, so the minimum is the nearest triangle, and of equally near ones the first. Samples lie where
`t4d.data.raster` has them, so both agree but for the rounding of edges.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

EMPTY = torch.iinfo(torch.int64).max
PAIRS = {"cpu": 1 << 21, "cuda": 1 << 25}  # (triangle, sample) pairs at a time


@dataclass(frozen=True)
class ZBuffer:
    """What every sample of a set of images shows.

    Attributes:
        packed: [I, B, h, w] int64, `EMPTY` where nothing is.
        screen: [I, N, 3] the projected vertices it was made of.
        faces: [F, 3] int64.
    """

    packed: Tensor
    screen: Tensor
    faces: Tensor

    @property
    def face(self) -> Tensor:
        """[I, B, h, w] int64, -1 where empty."""
        return torch.where(self.packed == EMPTY, -1, self.packed & 0xFFFFFFFF)

    @property
    def depth(self) -> Tensor:
        """[I, B, h, w] float32 camera depth, infinite where empty."""
        return torch.where(self.packed == EMPTY, torch.inf, (self.packed >> 32).int().view(torch.float32))

    def corners(self, image: Tensor, face: Tensor) -> Tensor:
        """Projected corners [M, 3, 3] (corner; x, y, depth) of faces [M] in leading images [M]."""
        index = self.faces[face] + (image * self.screen.shape[1])[:, None]
        return self.screen.flatten(0, 1)[index]


def surface_weights(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where on triangles samples lie.

    Args:
        corners: [M, 3, 3] projected corners.
        x, y: [M] in samples.

    Returns:
        Perspective-correct barycentrics [M, 3] and depth [M] of the triangles' planes there.
    """
    (ax, ay, az), (bx, by, bz), (cx, cy, cz) = (corners[:, k].unbind(-1) for k in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    dx, dy = x - cx, y - cy
    wa = (dx * (by - cy) + dy * (cx - bx)) / area
    wb = (dx * (cy - ay) + dy * (ax - cx)) / area
    pa, pb = wa / az, wb / bz
    z = 1 / (pa + pb + (1 - wa - wb) / cz)
    wa, wb = pa * z, pb * z
    return torch.stack([wa, wb, 1 - wa - wb], -1), z


def rasterise(
    screen: Tensor, faces: Tensor, clip_of_face: Tensor, clips: int, size: tuple[int, int], near: float
) -> ZBuffer:
    """Nearest triangle of each sample of I x B images.

    Args:
        screen: [I, N, 3] from `projected`, I leading images (views, frames) of all clips side by side.
        faces: [F, 3] int64, drawn from both sides.
        clip_of_face: [F] int64.
        clips: B.
        size: (h, w) in samples.
        near: Triangles with a corner nearer than this are skipped.

    """
    height, width = size
    buffer = torch.full((len(screen) * clips * height * width,), EMPTY, dtype=torch.int64, device=screen.device)
    corners = [screen[:, faces[:, k]] for k in range(3)]  # [I, F, 3] each
    x, y, z = (torch.stack([c[..., axis] for c in corners], -1) for axis in range(3))
    x0, x1 = (x.amin(-1) - 0.5).ceil().clamp_min(0), (x.amax(-1) - 0.5).floor().clamp_max(width - 1)
    y0, y1 = (y.amin(-1) - 0.5).ceil().clamp_min(0), (y.amax(-1) - 0.5).floor().clamp_max(height - 1)
    area = (x[..., 1] - x[..., 0]) * (y[..., 2] - y[..., 0]) - (y[..., 1] - y[..., 0]) * (x[..., 2] - x[..., 0])
    count = (x1 - x0 + 1).clamp_min(0) * (y1 - y0 + 1).clamp_min(0)
    count = torch.where((z.amin(-1) >= near) & (area.abs() >= 1e-9), count, 0).long()
    kept = count.flatten().nonzero()[:, 0]
    count = count.flatten()[kept]
    if len(kept):
        image, face = kept // len(faces), kept % len(faces)
        base = (image * clips + clip_of_face[face]) * (height * width)
        a, b, c = (corner.flatten(0, 1)[kept] for corner in corners)
        inverse = 1 / area.flatten()[kept]
        first_x, first_y, columns = x0.flatten()[kept], y0.flatten()[kept], (x1 - x0 + 1).flatten()[kept]
        terms = [(b[:, 1] - c[:, 1]) * inverse, (c[:, 0] - b[:, 0]) * inverse]
        terms += [(c[:, 1] - a[:, 1]) * inverse, (a[:, 0] - c[:, 0]) * inverse]
        terms += [c[:, 0], c[:, 1], 1 / a[:, 2], 1 / b[:, 2], 1 / c[:, 2], first_x, first_y, columns]
        table, whole = torch.stack(terms, -1), torch.stack([base, face], -1)
        _fill(buffer, table, whole, count, width)
    packed = buffer.view(len(screen), clips, height, width)
    return ZBuffer(packed, screen, faces)


def _fill(buffer: Tensor, table: Tensor, whole: Tensor, count: Tensor, width: int) -> None:
    """Puts the samples of triangles' boxes into the buffer, so many at a time."""
    ends = count.cumsum(0)
    budget = PAIRS.get(buffer.device.type, PAIRS["cpu"])
    cuts = torch.arange(budget, int(ends[-1]) + budget, budget, device=ends.device)
    edges = torch.searchsorted(ends, cuts, right=True).clamp_max(len(ends)).tolist()
    totals = ends[torch.tensor(edges, device=ends.device).clamp_min(1) - 1].tolist()
    start = done = 0
    for edge, total in zip([*edges, len(ends)], [*totals, int(ends[-1])]):
        if edge <= start:  # within a triangle of more samples than the budget
            continue
        _fill_part(buffer, table[start:edge], whole[start:edge], count[start:edge], total - done, width)
        start, done = edge, total


def _fill_part(buffer: Tensor, table: Tensor, whole: Tensor, count: Tensor, total: int, width: int) -> None:
    triangle = torch.repeat_interleave(torch.arange(len(count), device=count.device), count, output_size=total)
    within = torch.arange(total, device=count.device) - (count.cumsum(0) - count)[triangle]
    wax, way, wbx, wby, cx, cy, iaz, ibz, icz, x, y, columns = table[triangle].unbind(-1)
    within = within.to(torch.float32)
    row = ((within + 0.5) / columns).floor()
    x, y = x + (within - row * columns), y + row
    dx, dy = x + 0.5 - cx, y + 0.5 - cy
    wa = dx * wax + dy * way
    wb = dx * wbx + dy * wby
    wc = 1 - wa - wb
    inside = ((wa >= 0) & (wb >= 0) & (wc >= 0)).nonzero()[:, 0]
    z = (1 / (wa * iaz + wb * ibz + wc * icz))[inside]
    base, face = whole[triangle[inside]].unbind(-1)
    target = base + (y * width + x)[inside].long()
    buffer.scatter_reduce_(0, target, (z.view(torch.int32).long() << 32) | face, "amin")
