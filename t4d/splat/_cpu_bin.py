"""numba kernels: which Gaussians touch which 16x16 tile, front to back."""

import math

import numpy as np

from t4d.splat._cpu_project import HALF, HALF_X, HALF_X2, HALF_Y, MX, MY, ONE, SHRINK, TILT_X, TILT_Y, ZERO, f32
from t4d.splat._numba import helper, kernel

TILE = 16
EDGE = f32(TILE)


@helper
def outline_span(g, top, bottom):
    """Least and largest dx of the outline alpha = 1/255 between dy = top and dy = bottom (from the centre)."""
    at = min(max(g[TILT_Y], top), bottom)
    right = g[TILT_X] * at + math.sqrt(max(g[HALF_X2] - g[SHRINK] * at * at, ZERO))
    at = min(max(-g[TILT_Y], top), bottom)
    left = g[TILT_X] * at - math.sqrt(max(g[HALF_X2] - g[SHRINK] * at * at, ZERO))
    return left, right


@helper
def cells(low, high, size, count):
    """First and last cell of ``size`` pixels, of ``count``, that holds a pixel centre between low and high."""
    top = f32(count) * size
    first = np.int64(min(max(np.ceil(low - HALF), ZERO), top) / size)
    last = np.int64(np.floor(min(max(np.floor(high - HALF), -ONE), top - ONE) / size))
    return first, last


@helper
def sort_by_depth(depths, radii, order, keys, scratch):
    """Indices of the drawn Gaussians of one image, nearest first, equal depths in index order.

    Radix sort of the bits of positive float32; returns how many there are (written to the front of ``order``).
    """
    bits = depths.view(np.uint32)
    m = 0
    for n in range(depths.shape[0]):
        if radii[n, 0] > 0:
            order[m] = n
            m += 1
    source, target = order, scratch
    counts = keys
    for shift in (0, 11, 22):
        counts[:] = 0
        for k in range(m):
            counts[(bits[source[k]] >> np.uint32(shift)) & np.uint32(2047)] += 1
        total = 0
        for k in range(2048):
            held = counts[k]
            counts[k] = total
            total += held
        for k in range(m):
            n = source[k]
            digit = (bits[n] >> np.uint32(shift)) & np.uint32(2047)
            target[counts[digit]] = n
            counts[digit] += 1
        source, target = target, source
    # Three passes: the result lies in ``scratch``.
    for k in range(m):
        order[k] = scratch[k]
    return m


@kernel
def count_range(start, stop, width, height, G, depths, radii, orders, drawn, counts):
    """Sorts images start..stop by depth and counts the Gaussians of each of their tiles.

    Args:
        start: first image.
        stop: one past the last image.
        width: pixels.
        height: pixels.
        G: [I, N, 16] rows of ``project_range``.
        depths: [I, N].
        radii: [I, N, 2].
        orders: out, int32 [I, N].
        drawn: out, int64 [I], how many of ``orders`` are filled.
        counts: out, int64 [I, tiles].
    """
    nx, ny = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    scratch = np.zeros(depths.shape[1], np.int32)
    keys = np.zeros(2048, np.int32)
    for i in range(start, stop):
        m = sort_by_depth(depths[i], radii[i], orders[i], keys, scratch)
        drawn[i] = m
        tally = counts[i]
        tally[:] = 0
        for k in range(m):
            g = G[i, orders[i, k]]
            y0, y1 = cells(g[MY] - g[HALF_Y], g[MY] + g[HALF_Y], EDGE, ny)
            x0, x1 = cells(g[MX] - g[HALF_X], g[MX] + g[HALF_X], EDGE, nx)
            corner = y1 > y0 and x1 > x0  # else the box is as good as the outline
            for ty in range(y0, y1 + 1):
                if corner:
                    top = f32(ty * TILE) + HALF - g[MY]
                    left, right = outline_span(g, max(top, -g[HALF_Y]), min(top + EDGE - ONE, g[HALF_Y]))
                    x0, x1 = cells(g[MX] + left, g[MX] + right, EDGE, nx)
                for tx in range(x0, x1 + 1):
                    tally[ty * nx + tx] += 1


@kernel
def fill_range(start, stop, width, height, G, orders, drawn, offsets, ids):
    """Writes the lists of all tiles of images start..stop, front to back, each from its offset on."""
    nx, ny = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    heads = np.zeros(nx * ny, np.int64)
    for i in range(start, stop):
        for t in range(nx * ny):
            heads[t] = offsets[i * nx * ny + t]
        for k in range(drawn[i]):
            n = orders[i, k]
            g = G[i, n]
            y0, y1 = cells(g[MY] - g[HALF_Y], g[MY] + g[HALF_Y], EDGE, ny)
            x0, x1 = cells(g[MX] - g[HALF_X], g[MX] + g[HALF_X], EDGE, nx)
            corner = y1 > y0 and x1 > x0  # else the box is as good as the outline
            for ty in range(y0, y1 + 1):
                if corner:
                    top = f32(ty * TILE) + HALF - g[MY]
                    left, right = outline_span(g, max(top, -g[HALF_Y]), min(top + EDGE - ONE, g[HALF_Y]))
                    x0, x1 = cells(g[MX] + left, g[MX] + right, EDGE, nx)
                for tx in range(x0, x1 + 1):
                    ids[heads[ty * nx + tx]] = n
                    heads[ty * nx + tx] += 1
