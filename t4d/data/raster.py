"""Compiled z-buffer kernels behind `t4d.data.render`.

One sample is one point of a regular grid, `supersample` times finer than the pixels; sample centres lie at .5 of their
own grid, so a pixel's samples are symmetric about its centre.
"""

import numba
import numpy as np

# Not all of fast-math: empty samples hold infinite depth, which "no infinities" would make undefined.
FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def project_vertices(vertices, viewmat, K, scale, out):  # pragma: no cover (compiled)
    """World vertices [Nv, 3] to (x, y in samples, camera depth) [Nv, 3]; OpenCV camera, `scale` samples a pixel."""
    for n in range(vertices.shape[0]):
        x, y, z = vertices[n, 0], vertices[n, 1], vertices[n, 2]
        cx = viewmat[0, 0] * x + viewmat[0, 1] * y + viewmat[0, 2] * z + viewmat[0, 3]
        cy = viewmat[1, 0] * x + viewmat[1, 1] * y + viewmat[1, 2] * z + viewmat[1, 3]
        cz = viewmat[2, 0] * x + viewmat[2, 1] * y + viewmat[2, 2] * z + viewmat[2, 3]
        inverse = np.float32(scale) / max(cz, np.float32(1e-6))
        out[n, 0] = (K[0, 0] * cx + K[0, 1] * cy) * inverse + K[0, 2] * scale
        out[n, 1] = K[1, 1] * cy * inverse + K[1, 2] * scale
        out[n, 2] = cz


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def rasterise(screen, faces, near, depth, ids, bary):  # pragma: no cover (compiled)
    """Nearest triangle of each sample.

    Args:
        screen: [Nv, 3] from `project_vertices`.
        faces: [F, 3] int32, drawn from both sides.
        near: triangles with a vertex nearer than this are skipped (cameras stand outside the object).
        depth, ids, bary: [h, w] float32, [h, w] int32, [h, w, 2] outputs: camera depth (inf = empty), face (-1 =
            empty), first two perspective-correct (surface) barycentrics.
    """
    height, width = depth.shape
    depth[:] = np.float32(np.inf)
    ids[:] = -1
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        az, bz, cz = screen[a, 2], screen[b, 2], screen[c, 2]
        if az < near or bz < near or cz < near:
            continue
        ax, ay, bx, by = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        x0 = max(int(np.ceil(min(ax, bx, cx) - np.float32(0.5))), 0)
        x1 = min(int(np.floor(max(ax, bx, cx) - np.float32(0.5))), width - 1)
        y0 = max(int(np.ceil(min(ay, by, cy) - np.float32(0.5))), 0)
        y1 = min(int(np.floor(max(ay, by, cy) - np.float32(0.5))), height - 1)
        if x0 > x1 or y0 > y1:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < np.float32(1e-9):
            continue
        inverse = np.float32(1) / area
        # Screen barycentrics are linear in x and y: wa = wa0 + x wax + y way.
        wax, way = (by - cy) * inverse, (cx - bx) * inverse
        wbx, wby = (cy - ay) * inverse, (ax - cx) * inverse
        iaz, ibz, icz = np.float32(1) / az, np.float32(1) / bz, np.float32(1) / cz
        for y in range(y0, y1 + 1):
            dy = y + np.float32(0.5) - cy
            for x in range(x0, x1 + 1):
                dx = x + np.float32(0.5) - cx
                wa = dx * wax + dy * way
                wb = dx * wbx + dy * wby
                wc = np.float32(1) - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                pa, pb = wa * iaz, wb * ibz
                z = np.float32(1) / (pa + pb + wc * icz)
                if z < depth[y, x]:
                    depth[y, x] = z
                    ids[y, x] = f
                    bary[y, x, 0] = pa * z
                    bary[y, x, 1] = pb * z


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def resolve_color(faces, colors, ids, bary, supersample, background, rgba):  # pragma: no cover (compiled)
    """Averages the samples of each pixel over the background: rgba [4, H, W] composited colour and coverage."""
    height, width = rgba.shape[1], rgba.shape[2]
    share = np.float32(1) / np.float32(supersample * supersample)
    for y in range(height):
        for x in range(width):
            r = g = b = hits = np.float32(0)
            for sy in range(y * supersample, (y + 1) * supersample):
                for sx in range(x * supersample, (x + 1) * supersample):
                    f = ids[sy, sx]
                    if f < 0:
                        continue
                    hits += np.float32(1)
                    wa, wb = bary[sy, sx, 0], bary[sy, sx, 1]
                    wc = np.float32(1) - wa - wb
                    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                    r += wa * colors[i, 0] + wb * colors[j, 0] + wc * colors[k, 0]
                    g += wa * colors[i, 1] + wb * colors[j, 1] + wc * colors[k, 1]
                    b += wa * colors[i, 2] + wb * colors[j, 2] + wc * colors[k, 2]
            alpha = hits * share
            rest = (np.float32(1) - alpha) * background
            rgba[0, y, x] = r * share + rest
            rgba[1, y, x] = g * share + rest
            rgba[2, y, x] = b * share + rest
            rgba[3, y, x] = alpha


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def visible_in(depth, ids, face, x, y, z, tolerance):  # pragma: no cover (compiled)
    """Whether the surface point (x, y in samples, depth z) of triangle `face` is the nearest one of an image.

    A point is visible when a sample of its 2x2 neighbourhood shows the same triangle or lies at its depth: edge-on
    surfaces change depth by more than any small tolerance within one sample.
    """
    height, width = depth.shape
    left, top = int(np.floor(x - np.float32(0.5))), int(np.floor(y - np.float32(0.5)))
    for sy in range(top, top + 2):
        for sx in range(left, left + 2):
            if 0 <= sx < width and 0 <= sy < height and ids[sy, sx] >= 0:
                if ids[sy, sx] == face or abs(depth[sy, sx] - z) < tolerance:
                    return True
    return False


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def resolve_flow(  # pragma: no cover (compiled)
    faces, ids, bary, screen, screen0, depth0, ids0, cell, tolerance, flow, valid
):
    """Backward flow to frame 0, averaged over the covered samples of cells of `cell` x `cell` samples.

    Args:
        screen, screen0: [Nv, 3] projected vertices of this frame and of frame 0 (same camera).
        depth0, ids0: frame 0's z-buffer.
        flow: [2, h, w] output, (position in frame 0) - (position now) in normalised units (image width = height = 2).
        valid: [1, h, w] output, 1 where at least half of the cell is covered and at least half of the covered samples
            show a point that frame 0 sees too.
    """
    height, width = flow.shape[1], flow.shape[2]
    to_x, to_y = np.float32(2) / np.float32(ids.shape[1]), np.float32(2) / np.float32(ids.shape[0])
    for y in range(height):
        for x in range(width):
            fx = fy = np.float32(0)
            covered = seen = 0
            for sy in range(y * cell, (y + 1) * cell):
                for sx in range(x * cell, (x + 1) * cell):
                    f = ids[sy, sx]
                    if f < 0:
                        continue
                    covered += 1
                    wa, wb = bary[sy, sx, 0], bary[sy, sx, 1]
                    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                    za, zb = wa * screen0[i, 2], wb * screen0[j, 2]
                    zc = (np.float32(1) - wa - wb) * screen0[k, 2]
                    z = za + zb + zc
                    px = (za * screen0[i, 0] + zb * screen0[j, 0] + zc * screen0[k, 0]) / z
                    py = (za * screen0[i, 1] + zb * screen0[j, 1] + zc * screen0[k, 1]) / z
                    fx += px - (sx + np.float32(0.5))
                    fy += py - (sy + np.float32(0.5))
                    if visible_in(depth0, ids0, f, px, py, z, tolerance):
                        seen += 1
            if covered > 0:
                flow[0, y, x] = fx / covered * to_x
                flow[1, y, x] = fy / covered * to_y
            else:
                flow[0, y, x] = flow[1, y, x] = 0
            valid[0, y, x] = 1 if (2 * covered >= cell * cell and 2 * seen >= covered) else 0


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def point_visible(faces, screen, depth, ids, face, x, y, z, tolerance):  # pragma: no cover (compiled)
    """As `visible_in`, for the few points that are tracked, with a better rule for sloping surfaces.

    A point is visible when one of the 2x2 samples around it shows the same triangle, or another one that does not lie
    in front of the point: the sample's depth, or that of its triangle's plane carried on to (x, y), is not smaller by
    more than `tolerance`. Curved surfaces of small triangles change depth by more than that within one sample. For
    every sample of the flow this would cost a third of the rendering.

    Args:
        faces, screen, depth, ids: the image's triangles, projected vertices and z-buffer.
    """
    height, width = depth.shape
    left, top = int(np.floor(x - np.float32(0.5))), int(np.floor(y - np.float32(0.5)))
    for sy in range(top, top + 2):
        for sx in range(left, left + 2):
            if not (0 <= sx < width and 0 <= sy < height) or ids[sy, sx] < 0:
                continue
            f = ids[sy, sx]
            if f == face or depth[sy, sx] > z - tolerance:
                return True
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            cx, cy = screen[k, 0], screen[k, 1]
            ax, ay, bx, by = screen[i, 0] - cx, screen[i, 1] - cy, screen[j, 0] - cx, screen[j, 1] - cy
            area = ax * by - ay * bx
            wa = ((x - cx) * by - (y - cy) * bx) / area
            wb = (ax * (y - cy) - ay * (x - cx)) / area
            inverse = wa / screen[i, 2] + wb / screen[j, 2] + (np.float32(1) - wa - wb) / screen[k, 2]
            if inverse * (z - tolerance) < np.float32(1):
                return True
    return False


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def track_points(faces, screen, depth, ids, points, bary, supersample, tolerance, xy, seen):  # pragma: no cover
    """Where surface points lie in one image, and whether it shows them.

    Args:
        faces: [F, 3].
        screen, depth, ids: the image's projected vertices and z-buffer.
        points: [N] int32 triangle of each point, -1 for a point that is left out.
        bary: [N, 2] first two barycentrics.
        supersample, tolerance: see `render_batch`.
        xy: [N, 2] output, pixels; points left out are not written.
        seen: [N] bool output, inside the image and not hidden.
    """
    height, width = depth.shape
    for n in range(points.shape[0]):
        f = points[n]
        if f < 0:
            seen[n] = False
            continue
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        za, zb = bary[n, 0] * screen[i, 2], bary[n, 1] * screen[j, 2]
        zc = (np.float32(1) - bary[n, 0] - bary[n, 1]) * screen[k, 2]
        z = za + zb + zc
        x = (za * screen[i, 0] + zb * screen[j, 0] + zc * screen[k, 0]) / z
        y = (za * screen[i, 1] + zb * screen[j, 1] + zc * screen[k, 1]) / z
        xy[n, 0], xy[n, 1] = x / supersample, y / supersample
        inside = 0 <= x <= width and 0 <= y <= height
        seen[n] = inside and point_visible(faces, screen, depth, ids, f, x, y, z, tolerance)


@numba.njit(cache=True, fastmath=FAST, nogil=True)
def render_batch(  # pragma: no cover (compiled)
    vertices, faces, colors, viewmats, Ks, supersample, background, near, tolerance, cell, out, samples, grid, tracked
):
    """Renders [V, T] images; see `t4d.data.render.render_clip` for the arguments' meaning.

    `out` is (rgba, flow, valid) and `tracked` (tracks [V, T, N, 2], visible [V, T, N], query_valid [V, N]), with
    N = grid * grid, possibly 0: all outputs. `samples` is ([V, T, h, w] depth, ids, [V, T, h, w, 2] bary) to be kept,
    or arrays whose leading sizes are [1, 1].
    """
    rgba, flow, valid = out
    tracks, visible, query_valid = tracked
    views, frames = viewmats.shape[0], vertices.shape[0]
    height, width = rgba.shape[3] * supersample, rgba.shape[4] * supersample
    all_depth, all_ids, all_bary = samples
    keep = all_depth.shape[0] == views and all_depth.shape[1] == frames
    depth = np.empty((height, width), np.float32)
    ids = np.empty((height, width), np.int32)
    bary = np.empty((height, width, 2), np.float32)
    depth0 = np.empty((height, width), np.float32)
    ids0 = np.empty((height, width), np.int32)
    screen = np.empty((vertices.shape[1], 3), np.float32)
    screen0 = np.empty((vertices.shape[1], 3), np.float32)
    grid_x, grid_y = np.float32(grid) / np.float32(width), np.float32(grid) / np.float32(height)
    query_depth = np.empty((grid, grid), np.float32)
    query_ids = np.empty((grid, grid), np.int32)
    query_bary = np.empty((grid, grid, 2), np.float32)
    points, points_bary = query_ids.reshape(grid * grid), query_bary.reshape(grid * grid, 2)
    for v in range(views):
        for t in range(frames):
            project_vertices(vertices[t], viewmats[v], Ks[v], supersample, screen)
            rasterise(screen, faces, near, depth, ids, bary)
            if t == 0:
                depth0[:] = depth
                ids0[:] = ids
                screen0[:] = screen
                # The query points are the sample centres of a grid x grid picture, so the same kernel finds exactly
                # which triangle lies under each; barycentrics do not mind the axes' different scales.
                screen[:, 0] *= grid_x
                screen[:, 1] *= grid_y
                rasterise(screen, faces, near, query_depth, query_ids, query_bary)
                screen[:] = screen0
                for n in range(grid * grid):
                    query_valid[v, n] = points[n] >= 0
                    for later in range(frames):
                        tracks[v, later, n, 0] = (n % grid + np.float32(0.5)) / (grid_x * supersample)
                        tracks[v, later, n, 1] = (n // grid + np.float32(0.5)) / (grid_y * supersample)
            track_points(
                faces, screen, depth, ids, points, points_bary, supersample, tolerance, tracks[v, t], visible[v, t]
            )
            if t == 0:  # what the query ray hits is seen, even where it falls between the picture's samples
                visible[v, 0] = query_valid[v]
            resolve_color(faces, colors[t], ids, bary, supersample, background, rgba[v, t])
            resolve_flow(
                faces, ids, bary, screen, screen0, depth0, ids0, cell * supersample, tolerance, flow[v, t], valid[v, t]
            )
            if keep:
                all_depth[v, t] = depth
                all_ids[v, t] = ids
                all_bary[v, t] = bary
