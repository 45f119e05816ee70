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
    LOG2OP,
    MX,
    MY,
    PLANE,
    QA,
    QT,
    RED,
    ROWS,
    SLOPE,
    STEP,
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
from gaussianvae.rasterize.cpu.simd import fma, negabs, reciprocal, select, splat_pixels, sums12, vabs, vmax
from gaussianvae.rasterize.cpu.simd_memory import load, load_pixels, prefetch, store
from gaussianvae.rasterize.cpu.simd_types import PIXELS
from gaussianvae.rasterize.cpu.tiles import alive_rows, read_tile, reset_T, store_alphas


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
        k = PIXELS * j
        rest = load_pixels(state, k + 2 * PLANE) * load_pixels(state, k + 6 * PLANE)
        rest = fma(load_pixels(state, k + 3 * PLANE), load_pixels(state, k + 7 * PLANE), rest)
        rest = fma(load_pixels(state, k + 4 * PLANE), load_pixels(state, k + 8 * PLANE), rest)
        store(state, k + PLANE, rest)
    read_tile(image, 3, width, height, x0, y0, ZERO, state, 6 * PLANE)
    read_tile(image, 4, width, height, x0, y0, ZERO, state, 7 * PLANE)
    for j in range(ROWS):
        k = PIXELS * j
        alpha, depth = load_pixels(state, k + 6 * PLANE), load_pixels(state, k + 7 * PLANE)
        v_alpha, v_depth = load_pixels(state, k), load_pixels(state, k + 5 * PLANE)
        v_sum = v_depth / vmax(alpha, 1e-10)  # depth = sum / alpha
        v_alpha = v_alpha - v_sum * depth
        rest = load_pixels(state, k + PLANE) + v_sum * (depth * alpha) - v_alpha * (1.0 - alpha)
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
    """moments[16 * record + field] += sums over the tiles begin..end (fields G_... of layout.py).

    A pair takes three loops over its vectors (see store_alphas): alpha, then w and alpha T, then sums."""
    state = scratch(9 * PLANE)  # T, the five planes of begin_tile, then of a pair alpha (later w) and alpha T
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
                base = fma(dx * rec[o + QA], dx, rec[o + LOG2OP])
                t = pixel_y + (np.float32(STEP * j0) - rec[o + MY]) - dx * rec[o + SLOPE]
                qt = rec[o + QT]
                red, green, blue = rec[o + RED], rec[o + GREEN], rec[o + BLUE]
                depth = rec[o + DEPTH]
                k0, k1 = PIXELS * j0, PIXELS * (j1 + 1)
                store_alphas(state, k0 + 6 * PLANE, k1 + 6 * PLANE, t, qt, base)
                for k in range(k0, k1, PIXELS):
                    alpha = load_pixels(state, k + 6 * PLANE)
                    T = load_pixels(state, k)
                    t_next = fma(-alpha, T, T)
                    room = t_next >= T_MIN
                    f = select(room, alpha * T, 0.0)
                    store(state, k, select(room, t_next, negabs(T)))
                    v_red, v_green = load_pixels(state, k + 2 * PLANE), load_pixels(state, k + 3 * PLANE)
                    v_blue, v_sum = load_pixels(state, k + 4 * PLANE), load_pixels(state, k + 5 * PLANE)
                    shade = fma(red, v_red, fma(green, v_green, fma(blue, v_blue, depth * v_sum)))
                    rest = load_pixels(state, k + PLANE) - f * shade
                    store(state, k + PLANE, rest)
                    w = alpha * (T * shade - rest * reciprocal(1.0 - alpha))
                    store(state, k + 6 * PLANE, select(room & (alpha < ALPHA_MAX), w, 0.0))
                    store(state, k + 7 * PLANE, f)
                gx = dx * rec[o + INV_A]  # dE/dmx = gx - gt t
                gt = rec[o + SLOPE] * rec[o + QT] * (-1.0 / HALF_LOG2E)
                s_w = s_wt = s_wtt = s_red = s_green = s_blue = s_depth = s_absx = s_absy = splat_pixels(0.0)
                for k in range(k0, k1, PIXELS):
                    w, f = load_pixels(state, k + 6 * PLANE), load_pixels(state, k + 7 * PLANE)
                    s_red = fma(f, load_pixels(state, k + 2 * PLANE), s_red)
                    s_green = fma(f, load_pixels(state, k + 3 * PLANE), s_green)
                    s_blue = fma(f, load_pixels(state, k + 4 * PLANE), s_blue)
                    s_depth = fma(f, load_pixels(state, k + 5 * PLANE), s_depth)
                    wt = w * t
                    s_w = s_w + w
                    s_wt = s_wt + wt
                    s_wtt = fma(wt, t, s_wtt)
                    s_absx = s_absx + vabs(w * (gx - gt * t))
                    s_absy = s_absy + vabs(wt)
                    t = t + STEP
                s_wx = s_w * dx
                total = sums12(
                    (s_w, s_wx, s_wx * dx, s_wt, s_wt * dx, s_wtt, s_red, s_green, s_blue, s_depth, s_absx, s_absy)
                )
                store(moments, o, load(moments, o) + total)
