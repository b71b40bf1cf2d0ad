"""numba kernels: blending of the tiles' lists into pixels, and its reverse.

A 16x16 tile is sixteen blocks of 4x4 pixels; a block's state is one row of a small array, 16 lanes per quantity, and
each step takes one Gaussian against one block. How the steps are written decides their speed: a row is taken as a
view ``Q = S[r]`` and indexed ``Q[16 * q + j]`` for ``j in range(16)``, which LLVM turns into vector code; indices into
the flat array, or a loop over 8, stay scalar and cost 3 to 7 times as much (guarded by a test).
"""

import numba
import numpy as np

from t4d.splat._cpu_bin import TILE, cells, outline_span
from t4d.splat._cpu_project import (
    COLOR,
    HALF,
    HALF_X,
    HALF_Y,
    LOG2_THRESHOLD,
    MX,
    MY,
    ONE,
    ZERO,
    A,
    B,
    C,
    L,
    f32,
)
from t4d.splat._numba import FLAGS, helper, kernel

BLOCK = 4
SIDE = TILE // BLOCK
LANES = BLOCK * BLOCK
BLOCKS = SIDE * SIDE
EDGE = f32(BLOCK)

ALPHA_MAX = f32(0.999)
STOP = f32(1e-4)
ROUNDING = f32(1e-3)  # an exponent may lie this much above its peak by rounding; more means a broken covariance
# 2^x on [-1, 0], minimax of the relative error (2e-9), raised to the 8th: 2^p on [-8, 0].
E1, E2, E3 = f32(0.6931470206533226), f32(0.24022402679345065), f32(0.055489618236366334)
E4, E5, E6 = f32(0.009577326788263507), f32(0.001273297080251814), f32(0.00010858488367444291)
EIGHTH = f32(0.125)


@helper
def _exp2(p):
    x = max(p, f32(-8)) * EIGHTH
    y = ONE + x * (E1 + x * (E2 + x * (E3 + x * (E4 + x * (E5 + x * E6)))))
    y = y * y
    y = y * y
    return y * y


@helper
def _forward_step(Q, mx, my, a, b, c, peak, c0, c1, c2, c3, four):
    """One Gaussian over one block: Q holds x, y, transmittance (negative once stopped) and sums of 3 or 4 channels.

    Returns:
        lanes it coloured + 256 * lanes still open.
    """
    tally = 0
    for j in range(16):
        dx = Q[j] - mx
        dy = Q[16 + j] - my
        p = (a * dx + b * dy) * dx + (c * dy * dy + peak)
        T = Q[32 + j]
        alpha = min(_exp2(p), ALPHA_MAX)
        hit = (p >= LOG2_THRESHOLD) & (p <= peak + ROUNDING)
        after = max(T, ZERO) * (ONE - alpha)
        drawn = hit & (after > STOP)
        w = alpha * T if drawn else ZERO
        T = after if drawn else (-abs(T) if hit else T)
        Q[32 + j] = T
        Q[48 + j] += w * c0
        Q[64 + j] += w * c1
        Q[80 + j] += w * c2
        if four:
            Q[96 + j] += w * c3
        tally += (1 if drawn else 0) + (256 if T > ZERO else 0)
    return tally


@kernel
def blend_range(start, stop, nx, width, height, four, G, offsets, ids, marks, picture, alphas):
    """Draws tiles start..stop, numbered over all images.

    Args:
        start: first tile.
        stop: one past the last tile.
        nx: tiles per row.
        width: pixels.
        height: pixels.
        four: four channels if true, else three.
        G: [I, N, 16] rows of ``project_range`` with colours filled in.
        offsets: [I * tiles + 1] into ``ids``.
        ids: Gaussians of each tile, front to back.
        marks: out, uint16 as ``ids``: bit r is set where the Gaussian coloured block r of its tile.
        picture: out, [I, H, W, 3 or 4].
        alphas: out, [I, H, W].
    """
    tiles = nx * ((height + TILE - 1) // TILE)
    channels = 4 if four else 3
    S = np.empty((BLOCKS, (3 + channels) * LANES), np.float32)
    for t in range(start, stop):
        i = t // tiles
        ty = (t - i * tiles) // nx
        tx = (t - i * tiles) - ty * nx
        for r in range(BLOCKS):
            Q = S[r]
            for j in range(16):
                Q[j] = f32((r % SIDE) * BLOCK + j % BLOCK) + HALF
                Q[16 + j] = f32((r // SIDE) * BLOCK + j // BLOCK) + HALF
                Q[32 + j] = ONE
            Q[48:] = ZERO
        left_edge, top_edge = f32(tx * TILE), f32(ty * TILE)
        open_blocks = 0
        for r in range(BLOCKS):
            inside = tx * TILE + (r % SIDE) * BLOCK < width and ty * TILE + (r // SIDE) * BLOCK < height
            open_blocks |= (1 if inside else 0) << r
        for k in range(offsets[t], offsets[t + 1]):
            if open_blocks == 0:
                marks[k : offsets[t + 1]] = 0
                break
            g = G[i, ids[k]]
            mx, my = g[MX] - left_edge, g[MY] - top_edge
            a, b, c, peak = g[A], g[B], g[C], g[L]
            c0, c1, c2, c3 = g[COLOR], g[COLOR + 1], g[COLOR + 2], g[COLOR + 3]
            half = g[HALF_Y]
            mark = 0
            y0, y1 = cells(my - half, my + half, EDGE, SIDE)
            x0, x1 = cells(mx - g[HALF_X], mx + g[HALF_X], EDGE, SIDE)
            exact = x1 - x0 > 1  # the box of a small Gaussian is as good as its outline, and cheaper
            for by in range(y0, y1 + 1):
                if exact:
                    top = f32(by * BLOCK) + HALF - my
                    left, right = outline_span(g, max(top, -half), min(top + EDGE - ONE, half))
                    x0, x1 = cells(mx + left, mx + right, EDGE, SIDE)
                for bx in range(x0, x1 + 1):
                    r = by * SIDE + bx
                    if (open_blocks >> r) & 1:
                        tally = _forward_step(S[r], mx, my, a, b, c, peak, c0, c1, c2, c3, four)
                        if tally & 255:
                            mark |= 1 << r
                        if tally < 256:
                            open_blocks &= ~(1 << r)
            marks[k] = mark
        for r in range(BLOCKS):
            Q = S[r]
            for j in range(16):
                px = tx * TILE + (r % SIDE) * BLOCK + j % BLOCK
                py = ty * TILE + (r // SIDE) * BLOCK + j // BLOCK
                if px < width and py < height:
                    alphas[i, py, px] = ONE - abs(Q[32 + j])
                    for d in range(channels):
                        picture[i, py, px, d] = Q[48 + 16 * d + j]


@helper
def _backward_step(Q, P, mx, my, a, b, c, peak, c0, c1, c2, c3, four):
    """Reverse of one step, again front to back: Q holds x, y, transmittance, the remainder R and the incoming colours.

    R is what the Gaussians behind (and the background seen through) still add to the loss at this pixel, so that
    dLoss/dalpha = T (c . v) - R / (1 - alpha). P gathers, per lane, the six moments of dLoss/dsigma and the colours.
    """
    for j in range(16):
        dx = Q[j] - mx
        dy = Q[16 + j] - my
        p = (a * dx + b * dy) * dx + (c * dy * dy + peak)
        T = Q[32 + j]
        raw = _exp2(p)
        alpha = min(raw, ALPHA_MAX)
        hit = (p >= LOG2_THRESHOLD) & (p <= peak + ROUNDING)
        live = max(T, ZERO)
        after = live * (ONE - alpha)
        drawn = hit & (after > STOP)
        w = alpha * T if drawn else ZERO
        Q[32 + j] = after if drawn else (-abs(T) if hit else T)
        v0, v1, v2 = Q[64 + j], Q[80 + j], Q[96 + j]
        towards = c0 * v0 + c1 * v1 + c2 * v2
        if four:
            towards += c3 * Q[112 + j]
        R = Q[48 + j] - w * towards
        Q[48 + j] = R
        v = R / (ONE - alpha) - live * towards
        v = v * alpha if drawn & (raw <= ALPHA_MAX) else ZERO
        vx, vy = v * dx, v * dy
        P[j] += v
        P[16 + j] += vx
        P[32 + j] += vy
        P[48 + j] += vx * dx
        P[64 + j] += vx * dy
        P[80 + j] += vy * dy
        P[96 + j] += w * v0
        P[112 + j] += w * v1
        P[128 + j] += w * v2
        if four:
            P[144 + j] += w * Q[112 + j]


@numba.njit(nogil=True, error_model="numpy", fastmath=FLAGS | {"reassoc"})  # order fixed at compile time
def _lane_sum(P):
    total = ZERO
    for j in range(16):
        total += P[j]
    return total


@kernel
def blend_vjp_range(
    start, stop, nx, width, height, four, G, offsets, ids, marks, picture, alphas, v_picture, v_alphas, slots
):
    """Reverse of ``blend_range`` for tiles start..stop; no two tiles write the same place.

    Args:
        start: first tile; and so on to ``alphas`` as in ``blend_range``.
        v_picture: dLoss/dpicture, [I, H, W, 3 or 4].
        v_alphas: dLoss/dalphas, [I, H, W].
        slots: out, [len(ids), 6 + channels], what each (tile, Gaussian) pair adds: six moments, then colours.
    """
    tiles = nx * ((height + TILE - 1) // TILE)
    channels = 4 if four else 3
    sums = 6 + channels
    S = np.empty((BLOCKS, (4 + channels) * LANES), np.float32)
    P = np.empty((sums, LANES), np.float32)
    flat = P.reshape(sums * LANES)
    for t in range(start, stop):
        if offsets[t] == offsets[t + 1]:
            continue
        i = t // tiles
        ty = (t - i * tiles) // nx
        tx = (t - i * tiles) - ty * nx
        for r in range(BLOCKS):
            Q = S[r]
            for j in range(16):
                lx, ly = (r % SIDE) * BLOCK + j % BLOCK, (r // SIDE) * BLOCK + j // BLOCK
                px, py = tx * TILE + lx, ty * TILE + ly
                Q[j], Q[16 + j], Q[32 + j] = f32(lx) + HALF, f32(ly) + HALF, ONE
                rest = ZERO
                if px < width and py < height:
                    rest = (alphas[i, py, px] - ONE) * v_alphas[i, py, px]
                    for d in range(channels):
                        v = v_picture[i, py, px, d]
                        Q[64 + 16 * d + j] = v
                        rest += v * picture[i, py, px, d]
                else:
                    for d in range(channels):
                        Q[64 + 16 * d + j] = ZERO
                Q[48 + j] = rest
        left_edge, top_edge = f32(tx * TILE), f32(ty * TILE)
        for k in range(offsets[t], offsets[t + 1]):
            slot = slots[k]
            mark = marks[k]
            if mark == 0:
                for d in range(sums):
                    slot[d] = ZERO
                continue
            g = G[i, ids[k]]
            mx, my = g[MX] - left_edge, g[MY] - top_edge
            a, b, c, peak = g[A], g[B], g[C], g[L]
            c0, c1, c2, c3 = g[COLOR], g[COLOR + 1], g[COLOR + 2], g[COLOR + 3]
            flat[:] = ZERO
            for r in range(BLOCKS):
                if (mark >> r) & 1:
                    _backward_step(S[r], flat, mx, my, a, b, c, peak, c0, c1, c2, c3, four)
            for d in range(sums):
                slot[d] = _lane_sum(P[d])


@kernel
def gather_range(start, stop, tiles, channels, first, offsets, ids, marks, slots, moments, v_colors):
    """Adds the slots of images start..stop to their Gaussians, in list order.

    Args:
        start: first image.
        stop: one past the last image.
        tiles: tiles per image.
        channels: channels in this pass that belong to ``v_colors``.
        first: where they go.
        slots: of ``blend_vjp_range``, starting at the list of image ``start``'s group (same indices as ``ids``).
        moments: in and out, [I, N, 6].
        v_colors: in and out, [I, N, channels of the whole call].
    """
    for i in range(start, stop):
        for k in range(offsets[i * tiles], offsets[(i + 1) * tiles]):
            if marks[k] == 0:
                continue
            n = ids[k]
            slot = slots[k]
            for d in range(6):
                moments[i, n, d] += slot[d]
            for d in range(channels):
                v_colors[i, n, first + d] += slot[6 + d]
