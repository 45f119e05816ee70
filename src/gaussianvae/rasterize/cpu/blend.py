"""The forward pass over pixels: tile by tile, Gaussian by Gaussian, front to back.

A vector is 8 x 2 pixels (8 x 1 without AVX-512, see simd_types.py), a tile 8 x 32; the state of a tile (T, red, green,
blue and depth sums) sits in the L1 cache meanwhile, and only the rows that a Gaussian reaches are walked. A finished
pixel is marked by the sign of its T.
"""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.layout import (
    AHEAD,
    BLUE,
    DEPTH,
    GREEN,
    HALF,
    LOG2OP,
    MX,
    MY,
    PAIR,
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
    kernel,
    lane_x,
    lane_y,
    scratch,
)
from gaussianvae.rasterize.cpu.simd import fma, negabs, select, splat_pixels, vabs, vmax
from gaussianvae.rasterize.cpu.simd_memory import fetch_add, load_pixels, prefetch, store
from gaussianvae.rasterize.cpu.simd_types import PIXELS
from gaussianvae.rasterize.cpu.tiles import alive_rows, alpha_at, reset_T, store_alphas, write_tile


@kernel
def raster_forward(
    part,
    first,
    last,
    rec,
    pairs,
    starts,
    stops,
    alive,
    bounds,
    cursors,
    work,
    tiles_x,
    width,
    height,
    background,
    states,
    image,
):
    """Blend one slab. stops[tile] = end of the pairs used; alive[tile] = 0 once every pixel is opaque.

    Tiles are taken one by one, first those of the part's own range in bounds, then what other parts have left;
    cursors[8 part] is the next of a range. work[tile] grows by what the tile cost, in vectors.
    states holds T (negative once finished), rgb and depth sums per tile, kept between slabs.
    After the last slab image = planes red, green, blue, alpha, expected depth."""
    alphas = scratch(PLANE)
    bg_red, bg_green, bg_blue = background[0], background[1], background[2]
    last_pair = max(pairs.size - 1, 0)
    parts = bounds.size - 1
    for turn in range(parts):
        owner = (part + turn) % parts
        while True:
            tile = fetch_add(cursors, 8 * owner)
            if tile >= bounds[owner + 1]:
                break
            ty = tile // tiles_x
            y0, x0 = ty * TILE_H, (tile - ty * tiles_x) * TILE_W
            s0 = tile * (5 * PLANE)
            if first:
                alive[tile] = 1
                reset_T(states, s0, x0, y0, width, height)
                for k in range(s0 + PLANE, s0 + 5 * PLANE, PIXELS):
                    store(states, k, splat_pixels(0.0))
            start, stop = starts[tile], starts[tile + 1]
            pixel_x = lane_x() + (x0 + HALF)
            pixel_y = lane_y() + (y0 + HALF)
            lo, hi = 0, ROWS - 1
            vectors = np.int64(0)
            for p in range(start, stop):
                if (p & 15) == 0:
                    lo, hi = alive_rows(states, s0, lo, hi)
                    if lo > hi:
                        stop = p
                        break
                pair = pairs[p]
                prefetch(rec, (pairs[min(p + 8, last_pair)] & 0xFFFFFFFF) * 16)
                o = (pair & 0xFFFFFFFF) * 16
                j0 = max((pair >> 32) & 0xFF, lo)
                j1 = min(pair >> 40, hi)
                vectors += max(j1 - j0 + 1, 0)
                dx = pixel_x - rec[o + MX]
                base = fma(dx * rec[o + QA], dx, rec[o + LOG2OP])
                t = pixel_y + (np.float32(STEP * j0) - rec[o + MY]) - dx * rec[o + SLOPE]
                qt = rec[o + QT]
                red, green, blue = rec[o + RED], rec[o + GREEN], rec[o + BLUE]
                depth = rec[o + DEPTH]
                k0, k1 = PIXELS * j0, PIXELS * (j1 + 1)
                if AHEAD:
                    store_alphas(alphas, k0, k1, t, qt, base)
                for k in range(s0 + k0, s0 + k1, PIXELS):
                    alpha = load_pixels(alphas, k - s0) if AHEAD else alpha_at(t, qt, base)
                    T = load_pixels(states, k)
                    t_next = fma(-alpha, T, T)
                    room = t_next >= T_MIN
                    f = select(room, alpha * T, 0.0)
                    store(states, k, select(room, t_next, negabs(T)))
                    store(states, k + PLANE, fma(f, red, load_pixels(states, k + PLANE)))
                    store(states, k + 2 * PLANE, fma(f, green, load_pixels(states, k + 2 * PLANE)))
                    store(states, k + 3 * PLANE, fma(f, blue, load_pixels(states, k + 3 * PLANE)))
                    store(states, k + 4 * PLANE, fma(f, depth, load_pixels(states, k + 4 * PLANE)))
                    t = t + STEP
            stops[tile] = stop
            work[tile] += vectors + PAIR * (stop - start)
            if start < stop:
                lo, hi = alive_rows(states, s0, lo, hi)
                alive[tile] = lo <= hi
            if last:
                for k in range(s0, s0 + PLANE, PIXELS):
                    T = vabs(load_pixels(states, k))
                    alpha = 1.0 - T
                    store(states, k, alpha)
                    store(states, k + PLANE, fma(T, bg_red, load_pixels(states, k + PLANE)))
                    store(states, k + 2 * PLANE, fma(T, bg_green, load_pixels(states, k + 2 * PLANE)))
                    store(states, k + 3 * PLANE, fma(T, bg_blue, load_pixels(states, k + 3 * PLANE)))
                    store(states, k + 4 * PLANE, load_pixels(states, k + 4 * PLANE) / vmax(alpha, 1e-10))
                for k in range(3):
                    write_tile(image, k, width, height, x0, y0, states, s0 + (k + 1) * PLANE)
                write_tile(image, 3, width, height, x0, y0, states, s0)
                write_tile(image, 4, width, height, x0, y0, states, s0 + 4 * PLANE)
