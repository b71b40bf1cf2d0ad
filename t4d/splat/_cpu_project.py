"""numba kernels: EWA projection of Gaussians, and its reverse.

Every kernel takes a range of work and releases the GIL, so Python threads run them side by side.

A projected Gaussian is one row of 16 float32 (a cache line). The exponent is kept in base 2, so that
``alpha = exp2(A dx^2 + B dx dy + C dy^2 + L)``, and the outline of ``alpha = 1/255`` is kept for exact culling:
"""

import math

import numpy as np

from t4d.splat._numba import helper, kernel

MX, MY, A, B, C, L = 0, 1, 2, 3, 4, 5  # centre (pixels), exponent, log2 of opacity
COLOR = 6  # up to four channels
HALF_Y, TILT_X, TILT_Y, HALF_X2, SHRINK, HALF_X = 10, 11, 12, 13, 14, 15  # outline: see outline_span
ROW = 16

f32 = np.float32
LOG2E = f32(1.4426950408889634)
THRESHOLD = f32(1.0 / 255.0)
LOG2_THRESHOLD = f32(-math.log2(255.0))
EXTENT_MAX = f32(3.33)
ZERO, HALF, ONE, TWO = f32(0), f32(0.5), f32(1), f32(2)
TINY = f32(1e-12)
FLOOR_COMPENSATION = f32(1e-7)
LIM = f32(0.3)
SLACK = f32(1e-3)  # outline is widened by this part, so that rounding never loses a pixel
BIG = f32(2.0**30)


@helper
def _factor(q, s):
    """Rotation rows (9 numbers) of quaternion q and the inverse of its length."""
    inv = ONE / max(math.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), TINY)
    w, x, y, z = q[0] * inv, q[1] * inv, q[2] * inv, q[3] * inv
    return (
        ONE - TWO * (y * y + z * z),
        TWO * (x * y - w * z),
        TWO * (x * z + w * y),
        TWO * (x * y + w * z),
        ONE - TWO * (x * x + z * z),
        TWO * (y * z - w * x),
        TWO * (x * z - w * y),
        TWO * (y * z + w * x),
        ONE - TWO * (x * x + y * y),
        inv,
    )


@kernel
def project_range(
    start,
    stop,
    cams,
    means,
    quats,
    scales,
    opacities,
    viewmats,
    Ks,
    width,
    height,
    near,
    far,
    clip,
    eps2d,
    aa,
    G,
    radii,
    depths,
    conics,
    opac,
):
    """Projects all Gaussians of images start..stop.

    Args:
        start: first image.
        stop: one past the last image.
        cams: cameras per batch item; image i is camera i % cams of item i // cams.
        means: [B, N, 3] and the following up to Ks as in ``rasterize``, float32.
        G: out, [I, N, 16] rows; those of Gaussians not drawn are left as they are.
        radii: out, int32 [I, N, 2], 0 where not drawn.
        depths: out, [I, N].
        conics: out, [I, N, 3].
        opac: out, [I, N], after compensation.
    """
    n_all = means.shape[1]
    fw, fh = f32(width), f32(height)
    for i in range(start, stop):
        b = i // cams
        V = viewmats[i]
        r00, r01, r02, t0 = V[0, 0], V[0, 1], V[0, 2], V[0, 3]
        r10, r11, r12, t1 = V[1, 0], V[1, 1], V[1, 2], V[1, 3]
        r20, r21, r22, t2 = V[2, 0], V[2, 1], V[2, 2], V[2, 3]
        fx, fy, cx, cy = Ks[i, 0, 0], Ks[i, 1, 1], Ks[i, 0, 2], Ks[i, 1, 2]
        tanx, tany = HALF * fw / fx, HALF * fh / fy
        hix, lox = (fw - cx) / fx + LIM * tanx, cx / fx + LIM * tanx
        hiy, loy = (fh - cy) / fy + LIM * tany, cy / fy + LIM * tany
        for n in range(n_all):
            radii[i, n, 0] = 0
            radii[i, n, 1] = 0
            m = means[b, n]
            x = r00 * m[0] + r01 * m[1] + r02 * m[2] + t0
            y = r10 * m[0] + r11 * m[1] + r12 * m[2] + t1
            z = r20 * m[0] + r21 * m[1] + r22 * m[2] + t2
            depths[i, n] = z
            o = opacities[b, n]
            opac[i, n] = o
            if not (z >= near and z <= far and o >= THRESHOLD):
                continue
            s = scales[b, n]
            q00, q01, q02, q10, q11, q12, q20, q21, q22, _ = _factor(quats[b, n], s)
            rz = ONE / z
            tx = min(max(x * rz, -lox), hix)
            ty = min(max(y * rz, -loy), hiy)
            # T = J R Q S: the 2x3 square root of the picture covariance.
            a0, a2 = fx * rz, -fx * tx * rz
            b1, b2 = fy * rz, -fy * ty * rz
            u0, u1, u2 = a0 * r00 + a2 * r20, a0 * r01 + a2 * r21, a0 * r02 + a2 * r22
            v0, v1, v2 = b1 * r10 + b2 * r20, b1 * r11 + b2 * r21, b1 * r12 + b2 * r22
            p0, p1, p2 = (
                (u0 * q00 + u1 * q10 + u2 * q20) * s[0],
                (u0 * q01 + u1 * q11 + u2 * q21) * s[1],
                (u0 * q02 + u1 * q12 + u2 * q22) * s[2],
            )
            w0, w1, w2 = (
                (v0 * q00 + v1 * q10 + v2 * q20) * s[0],
                (v0 * q01 + v1 * q11 + v2 * q21) * s[1],
                (v0 * q02 + v1 * q12 + v2 * q22) * s[2],
            )
            xx = p0 * p0 + p1 * p1 + p2 * p2
            yy = w0 * w0 + w1 * w1 + w2 * w2
            xy = p0 * w0 + p1 * w1 + p2 * w2
            # |p x w|^2 and not xx yy - xy^2, which loses all digits for a needle.
            n0, n1, n2 = p1 * w2 - p2 * w1, p2 * w0 - p0 * w2, p0 * w1 - p1 * w0
            sharp = n0 * n0 + n1 * n1 + n2 * n2
            det = sharp + eps2d * (xx + yy + eps2d)
            xx += eps2d
            yy += eps2d
            if not (det > ZERO and det < f32(np.inf)):
                continue
            inv = ONE / det
            ca, cb, cc = yy * inv, -xy * inv, xx * inv
            if aa:
                o = o * max(math.sqrt(max(sharp * inv, ZERO)), FLOOR_COMPENSATION)
                opac[i, n] = o
                if not (o >= THRESHOLD):
                    continue
            level = TWO * math.log(o / THRESHOLD)
            extent = min(math.sqrt(level), EXTENT_MAX)
            radx, rady = np.ceil(extent * math.sqrt(xx)), np.ceil(extent * math.sqrt(yy))
            if radx <= clip and rady <= clip:
                continue
            mx, my = fx * x * rz + cx, fy * y * rz + cy
            if not (mx + radx > ZERO and mx - radx < fw and my + rady > ZERO and my - rady < fh):
                continue
            radii[i, n, 0] = np.int32(min(radx, BIG))
            radii[i, n, 1] = np.int32(min(rady, BIG))
            conics[i, n, 0], conics[i, n, 1], conics[i, n, 2] = ca, cb, cc
            g = G[i, n]
            g[MX], g[MY] = mx, my
            g[A], g[B], g[C] = -HALF * LOG2E * ca, -LOG2E * cb, -HALF * LOG2E * cc
            g[L] = math.log2(o)
            level = level * (ONE + SLACK) + SLACK
            g[HALF_X], g[HALF_Y] = math.sqrt(level * xx), math.sqrt(level * yy)
            g[TILT_X] = xy / yy  # x of the outline's centre line per unit dy
            g[TILT_Y] = xy * math.sqrt(level / xx)  # dy of the outline's rightmost point
            g[HALF_X2] = level / ca  # squared half width at dy = 0
            g[SHRINK] = inv / (ca * ca)  # det / yy^2: how fast it narrows with dy


@kernel
def project_vjp_range(
    start, stop, chunk, cams, means, quats, scales, opacities, viewmats, Ks, width, height,
    eps2d, aa, radii, conics, opac, M, v_depths,
    v_means, v_quats, v_scales, v_opacities, v_views,
):  # fmt: skip
    """Reverse of ``project_range`` for chunks start..stop of (batch item, ``chunk`` Gaussians).

    Args:
        start: first chunk; chunk k is Gaussians of item k // chunks_per_item.
        stop: one past the last chunk.
        chunk: Gaussians per chunk (fixed, so that sums do not depend on the number of threads).
        M: [I, N, 6], sums over pixels of v, v dx, v dy, v dx^2, v dx dy, v dy^2 with v = dLoss/dsigma, d = pixel - mean
        v_depths: [I, N].
        v_means: out, [B, N, 3], as v_quats, v_scales, v_opacities.
        v_views: out, [chunks, C, 12], rows of rotation and translation, summed by the caller.
    """
    n_all = means.shape[1]
    per_item = (n_all + chunk - 1) // chunk
    fw, fh = f32(width), f32(height)
    for k in range(start, stop):
        b = k // per_item
        n0 = (k - b * per_item) * chunk
        n1 = min(n_all, n0 + chunk)
        for n in range(n0, n1):
            for j in range(3):
                v_means[b, n, j] = ZERO
                v_scales[b, n, j] = ZERO
            for j in range(4):
                v_quats[b, n, j] = ZERO
            v_opacities[b, n] = ZERO
        for c in range(cams):
            i = b * cams + c
            W = v_views[k, c]
            for j in range(12):
                W[j] = ZERO
            V = viewmats[i]
            r00, r01, r02, t0 = V[0, 0], V[0, 1], V[0, 2], V[0, 3]
            r10, r11, r12, t1 = V[1, 0], V[1, 1], V[1, 2], V[1, 3]
            r20, r21, r22, t2 = V[2, 0], V[2, 1], V[2, 2], V[2, 3]
            fx, fy, cx, cy = Ks[i, 0, 0], Ks[i, 1, 1], Ks[i, 0, 2], Ks[i, 1, 2]
            tanx, tany = HALF * fw / fx, HALF * fh / fy
            hix, lox = (fw - cx) / fx + LIM * tanx, cx / fx + LIM * tanx
            hiy, loy = (fh - cy) / fy + LIM * tany, cy / fy + LIM * tany
            for n in range(n0, n1):
                if radii[i, n, 0] <= 0:
                    continue
                m = means[b, n]
                s = scales[b, n]
                x = r00 * m[0] + r01 * m[1] + r02 * m[2] + t0
                y = r10 * m[0] + r11 * m[1] + r12 * m[2] + t1
                z = r20 * m[0] + r21 * m[1] + r22 * m[2] + t2
                q00, q01, q02, q10, q11, q12, q20, q21, q22, qinv = _factor(quats[b, n], s)
                rz = ONE / z
                fx_rz, fy_rz = fx * rz, fy * rz
                tx = min(max(x * rz, -lox), hix)  # x / z, held
                ty = min(max(y * rz, -loy), hiy)
                a2, b2 = -fx_rz * tx, -fy_rz * ty
                # E = R Q S (camera), T = J E with J = [[fx/z, 0, a2], [0, fy/z, b2]]
                e00, e01, e02 = (
                    (r00 * q00 + r01 * q10 + r02 * q20) * s[0],
                    (r00 * q01 + r01 * q11 + r02 * q21) * s[1],
                    (r00 * q02 + r01 * q12 + r02 * q22) * s[2],
                )
                e10, e11, e12 = (
                    (r10 * q00 + r11 * q10 + r12 * q20) * s[0],
                    (r10 * q01 + r11 * q11 + r12 * q21) * s[1],
                    (r10 * q02 + r11 * q12 + r12 * q22) * s[2],
                )
                e20, e21, e22 = (
                    (r20 * q00 + r21 * q10 + r22 * q20) * s[0],
                    (r20 * q01 + r21 * q11 + r22 * q21) * s[1],
                    (r20 * q02 + r21 * q12 + r22 * q22) * s[2],
                )
                p0, p1, p2 = fx_rz * e00 + a2 * e20, fx_rz * e01 + a2 * e21, fx_rz * e02 + a2 * e22
                w0, w1, w2 = fy_rz * e10 + b2 * e20, fy_rz * e11 + b2 * e21, fy_rz * e12 + b2 * e22

                ca, cb, cc = conics[i, n, 0], conics[i, n, 1], conics[i, n, 2]
                o = opac[i, n]
                S = M[i, n]
                v_o = -S[0] / o
                v_mx = -(ca * S[1] + cb * S[2])
                v_my = -(cb * S[1] + cc * S[2])
                # dLoss/dconic as a symmetric matrix, then through the inverse: -conic V conic.
                va, vb, vc = HALF * S[3], HALF * S[4], HALF * S[5]
                k00, k01 = va * ca + vb * cb, va * cb + vb * cc
                k10, k11 = vb * ca + vc * cb, vb * cb + vc * cc
                g00 = -(ca * k00 + cb * k10)
                g01 = -(ca * k01 + cb * k11)
                g11 = -(cb * k01 + cc * k11)
                if aa:
                    comp = o / opacities[b, n]
                    v_comp = v_o * opacities[b, n]
                    v_o = v_o * comp
                    if comp > FLOOR_COMPENSATION:
                        v_sq = v_comp * HALF / comp
                        keep = ONE - comp * comp
                        lost = eps2d * (ca * cc - cb * cb)
                        g00 += v_sq * (keep * ca - lost)
                        g01 += v_sq * keep * cb
                        g11 += v_sq * (keep * cc - lost)
                v_opacities[b, n] += v_o

                # cov = T T^t, so dLoss/dT = 2 G T.
                d0, d1, d2 = TWO * (g00 * p0 + g01 * w0), TWO * (g00 * p1 + g01 * w1), TWO * (g00 * p2 + g01 * w2)
                h0, h1, h2 = TWO * (g01 * p0 + g11 * w0), TWO * (g01 * p1 + g11 * w1), TWO * (g01 * p2 + g11 * w2)
                # dLoss/dJ = dT E^t
                j00 = d0 * e00 + d1 * e01 + d2 * e02
                j02 = d0 * e20 + d1 * e21 + d2 * e22
                j11 = h0 * e10 + h1 * e11 + h2 * e12
                j12 = h0 * e20 + h1 * e21 + h2 * e22
                vx, vy = fx_rz * v_mx, fy_rz * v_my
                vz = v_depths[i, n] - (fx_rz * x * v_mx + fy_rz * y * v_my) * rz
                vz -= rz * (fx_rz * j00 + fy_rz * j11)
                # a2 = -fx (x/z)/z: inside the limits x moves it, outside only z does.
                vz -= rz * (a2 * j02 + b2 * j12)
                if x * rz <= hix and x * rz >= -lox:
                    vx -= fx_rz * rz * j02
                    vz -= rz * a2 * j02
                if y * rz <= hiy and y * rz >= -loy:
                    vy -= fy_rz * rz * j12
                    vz -= rz * b2 * j12
                # dLoss/dE = J^t dT
                f00, f01, f02 = fx_rz * d0, fx_rz * d1, fx_rz * d2
                f10, f11, f12 = fy_rz * h0, fy_rz * h1, fy_rz * h2
                f20, f21, f22 = a2 * d0 + b2 * h0, a2 * d1 + b2 * h1, a2 * d2 + b2 * h2

                v_means[b, n, 0] += r00 * vx + r10 * vy + r20 * vz
                v_means[b, n, 1] += r01 * vx + r11 * vy + r21 * vz
                v_means[b, n, 2] += r02 * vx + r12 * vy + r22 * vz
                # E = R (Q S): rotation of the camera
                s0, s1, s2 = s[0], s[1], s[2]
                W[0] += vx * m[0] + f00 * q00 * s0 + f01 * q01 * s1 + f02 * q02 * s2
                W[1] += vx * m[1] + f00 * q10 * s0 + f01 * q11 * s1 + f02 * q12 * s2
                W[2] += vx * m[2] + f00 * q20 * s0 + f01 * q21 * s1 + f02 * q22 * s2
                W[3] += vx
                W[4] += vy * m[0] + f10 * q00 * s0 + f11 * q01 * s1 + f12 * q02 * s2
                W[5] += vy * m[1] + f10 * q10 * s0 + f11 * q11 * s1 + f12 * q12 * s2
                W[6] += vy * m[2] + f10 * q20 * s0 + f11 * q21 * s1 + f12 * q22 * s2
                W[7] += vy
                W[8] += vz * m[0] + f20 * q00 * s0 + f21 * q01 * s1 + f22 * q02 * s2
                W[9] += vz * m[1] + f20 * q10 * s0 + f21 * q11 * s1 + f22 * q12 * s2
                W[10] += vz * m[2] + f20 * q20 * s0 + f21 * q21 * s1 + f22 * q22 * s2
                W[11] += vz
                # back through R to Q S, then to S and Q
                l00, l01, l02 = (
                    r00 * f00 + r10 * f10 + r20 * f20,
                    r00 * f01 + r10 * f11 + r20 * f21,
                    r00 * f02 + r10 * f12 + r20 * f22,
                )
                l10, l11, l12 = (
                    r01 * f00 + r11 * f10 + r21 * f20,
                    r01 * f01 + r11 * f11 + r21 * f21,
                    r01 * f02 + r11 * f12 + r21 * f22,
                )
                l20, l21, l22 = (
                    r02 * f00 + r12 * f10 + r22 * f20,
                    r02 * f01 + r12 * f11 + r22 * f21,
                    r02 * f02 + r12 * f12 + r22 * f22,
                )
                v_scales[b, n, 0] += q00 * l00 + q10 * l10 + q20 * l20
                v_scales[b, n, 1] += q01 * l01 + q11 * l11 + q21 * l21
                v_scales[b, n, 2] += q02 * l02 + q12 * l12 + q22 * l22
                l00, l10, l20 = l00 * s0, l10 * s0, l20 * s0
                l01, l11, l21 = l01 * s1, l11 * s1, l21 * s1
                l02, l12, l22 = l02 * s2, l12 * s2, l22 * s2
                q = quats[b, n]
                qw, qx, qy, qz = q[0] * qinv, q[1] * qinv, q[2] * qinv, q[3] * qinv
                gw = TWO * (qx * (l21 - l12) + qy * (l02 - l20) + qz * (l10 - l01))
                gx = TWO * (qw * (l21 - l12) - TWO * qx * (l11 + l22) + qy * (l01 + l10) + qz * (l02 + l20))
                gy = TWO * (qw * (l02 - l20) + qx * (l01 + l10) - TWO * qy * (l00 + l22) + qz * (l12 + l21))
                gz = TWO * (qw * (l10 - l01) + qx * (l02 + l20) + qy * (l12 + l21) - TWO * qz * (l00 + l11))
                along = gw * qw + gx * qx + gy * qy + gz * qz
                v_quats[b, n, 0] += (gw - along * qw) * qinv
                v_quats[b, n, 1] += (gx - along * qx) * qinv
                v_quats[b, n, 2] += (gy - along * qy) * qinv
                v_quats[b, n, 3] += (gz - along * qz) * qinv
