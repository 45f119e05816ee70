"""The backward pass over pixels: sums over every Gaussian's pixels, from which its gradients follow.

It runs front to back like the forward pass: T needs no division, and every decision repeats bit for bit. What lies
behind a pair enters dL/d(alpha) as one number a pixel, rest = sum over the pairs behind (and the background) of
alpha T (dL/dcolor . color + dL/d(depth sum) depth), started from the final image and lowered pair by pair:

    dL/d(alpha) = T shade - rest / (1 - alpha),   shade = dL/dcolor . color + dL/d(depth sum) depth of this pair

With w = alpha dL/d(alpha), the derivative by the natural logarithm of alpha, the moments of w in (dx, t) give the
gradients of center, covariance and opacity in project_backward.
"""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.layout import (
    ALPHA_MAX,
    BLUE,
    DEPTH,
    GREEN,
    HALF,
    HALF_LOG2E,
    INV_A,
    LOG2_255,
    LOG2OP,
    MX,
    MY,
    PLANE,
    QA,
    QT,
    RED,
    ROWS,
    SLOPE,
    T_MIN,
    TILE_H,
    TILE_W,
    ZERO,
    inline,
    kernel,
    lane_x,
    lane_y,
    scratch,
)
from gaussianvae.rasterize.cpu.simd import exp2, fma, negabs, reciprocal, select, splat, sums12, vabs, vmax, vmin
from gaussianvae.rasterize.cpu.simd_memory import load, prefetch, store
from gaussianvae.rasterize.cpu.tiles import alive_rows, read_tile, reset_T


@inline
def begin_tile(image, v_rgb, v_alpha_plane, v_depth_plane, width, height, x0, y0, state):
    """Planes 1-5 of the state before the first pair: rest, dL/d(red, green, blue), dL/d(depth sum)."""
    for k in range(3):
        read_tile(v_rgb, k, width, height, x0, y0, ZERO, state, (k + 2) * PLANE)
    read_tile(v_depth_plane, 0, width, height, x0, y0, ZERO, state, 5 * PLANE)
    read_tile(v_alpha_plane, 0, width, height, x0, y0, ZERO, state, 0)
    for k in range(3):
        read_tile(image, k, width, height, x0, y0, ZERO, state, (k + 6) * PLANE)
    for j in range(ROWS):  # the color part of rest; alpha and depth below
        k = 16 * j
        rest = load(state, k + 2 * PLANE) * load(state, k + 6 * PLANE)
        rest = fma(load(state, k + 3 * PLANE), load(state, k + 7 * PLANE), rest)
        rest = fma(load(state, k + 4 * PLANE), load(state, k + 8 * PLANE), rest)
        store(state, k + PLANE, rest)
    read_tile(image, 3, width, height, x0, y0, ZERO, state, 6 * PLANE)
    read_tile(image, 4, width, height, x0, y0, ZERO, state, 7 * PLANE)
    for j in range(ROWS):
        k = 16 * j
        alpha, depth = load(state, k + 6 * PLANE), load(state, k + 7 * PLANE)
        v_alpha, v_depth = load(state, k), load(state, k + 5 * PLANE)
        v_sum = v_depth / vmax(alpha, splat(1e-10))  # depth = sum / alpha
        v_alpha = v_alpha - v_sum * depth
        rest = load(state, k + PLANE) + v_sum * (depth * alpha) - v_alpha * (1.0 - alpha)
        store(state, k + PLANE, rest)
        store(state, k + 5 * PLANE, v_sum)


@kernel
def raster_backward(
    begin,
    end,
    rec,
    pairs,
    starts,
    stops,
    tiles_x,
    width,
    height,
    image,
    v_rgb,
    v_alpha,
    v_depth,
    moments,
):
    """moments[16 * record + field] += sums over the tiles begin..end (fields G_... of layout.py)."""
    state = scratch(9 * PLANE)  # T and the five planes of begin_tile, then scratch
    threshold = splat(-LOG2_255)
    last_pair = pairs.size - 1
    for tile in range(begin, end):
        if starts[0, tile] == stops[0, tile]:
            empty = True
            for slab in range(1, starts.shape[0]):
                empty &= starts[slab, tile] == stops[slab, tile]
            if empty:
                continue
        ty = tile // tiles_x
        y0, x0 = ty * TILE_H, (tile - ty * tiles_x) * TILE_W
        begin_tile(image, v_rgb, v_alpha, v_depth, width, height, x0, y0, state)
        reset_T(state, 0, x0, y0, width, height)
        pixel_x = lane_x() + (x0 + HALF)
        pixel_y = lane_y() + (y0 + HALF)
        lo, hi = 0, ROWS - 1
        for slab in range(starts.shape[0]):
            for p in range(starts[slab, tile], stops[slab, tile]):
                if (p & 15) == 0:
                    lo, hi = alive_rows(state, 0, lo, hi)
                pair = pairs[p]
                ahead = (pairs[min(p + 8, last_pair)] & 0xFFFFFFFF) * 16
                prefetch(rec, ahead)
                prefetch(moments, ahead)
                o = (pair & 0xFFFFFFFF) * 16
                j0 = max((pair >> 32) & 0xFF, lo)
                j1 = min(pair >> 40, hi)
                if j0 > j1:
                    continue
                dx = pixel_x - rec[o + MX]
                base = fma(dx * rec[o + QA], dx, splat(rec[o + LOG2OP]))
                t = pixel_y + (np.float32(2 * j0) - rec[o + MY]) - dx * rec[o + SLOPE]
                qt = splat(rec[o + QT])
                red, green, blue = splat(rec[o + RED]), splat(rec[o + GREEN]), splat(rec[o + BLUE])
                depth = splat(rec[o + DEPTH])
                gx = dx * rec[o + INV_A]  # dE/dmx = gx - gt t
                gt = rec[o + SLOPE] * rec[o + QT] * (-1.0 / HALF_LOG2E)
                s_w = s_wt = s_wtt = s_red = s_green = s_blue = s_depth = s_absx = s_absy = splat(0.0)
                for k in range(16 * j0, 16 * j1 + 16, 16):
                    e = fma(t * qt, t, base)
                    raw = exp2(e)
                    alpha = select(e >= threshold, vmin(raw, splat(ALPHA_MAX)), splat(0.0))
                    T = load(state, k)
                    t_next = fma(-alpha, T, T)
                    room = t_next >= T_MIN
                    f = select(room, alpha * T, splat(0.0))
                    store(state, k, select(room, t_next, negabs(T)))
                    v_red, v_green = load(state, k + 2 * PLANE), load(state, k + 3 * PLANE)
                    v_blue, v_sum = load(state, k + 4 * PLANE), load(state, k + 5 * PLANE)
                    s_red = fma(f, v_red, s_red)
                    s_green = fma(f, v_green, s_green)
                    s_blue = fma(f, v_blue, s_blue)
                    s_depth = fma(f, v_sum, s_depth)
                    shade = fma(red, v_red, fma(green, v_green, fma(blue, v_blue, depth * v_sum)))
                    rest = load(state, k + PLANE) - f * shade
                    store(state, k + PLANE, rest)
                    w = alpha * (T * shade - rest * reciprocal(1.0 - alpha))
                    w = select(room & (raw < ALPHA_MAX), w, splat(0.0))
                    wt = w * t
                    s_w = s_w + w
                    s_wt = s_wt + wt
                    s_wtt = fma(wt, t, s_wtt)
                    s_absx = s_absx + vabs(w * (gx - gt * t))
                    s_absy = s_absy + vabs(wt)
                    t = t + 2.0
                s_wx = s_w * dx
                total = sums12(
                    (s_w, s_wx, s_wx * dx, s_wt, s_wt * dx, s_wtt, s_red, s_green, s_blue, s_depth, s_absx, s_absy)
                )
                store(moments, o, load(moments, o) + total)
