"""The forward pass over pixels: tile by tile, Gaussian by Gaussian, front to back.

A vector is 8 x 2 pixels, a tile 8 x 32; the state of a tile (T, red, green, blue and depth sums) sits in the L1 cache
meanwhile, and only the rows that a Gaussian reaches are walked. A finished pixel is marked by the sign of its T.
"""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.layout import (
    ALPHA_MAX,
    BLUE,
    DEPTH,
    GREEN,
    HALF,
    LOG2_255,
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
    T_MIN,
    TILE_H,
    TILE_W,
    kernel,
    lane_x,
    lane_y,
)
from gaussianvae.rasterize.cpu.simd import exp2, fma, negabs, select, splat, vabs, vmax, vmin
from gaussianvae.rasterize.cpu.simd_memory import fetch_add, load, prefetch, store
from gaussianvae.rasterize.cpu.tiles import alive_rows, reset_T, write_tile


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
    bg_red, bg_green, bg_blue = background[0], background[1], background[2]
    threshold = splat(-LOG2_255)
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
                for k in range(s0 + PLANE, s0 + 5 * PLANE, 16):
                    store(states, k, splat(0.0))
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
                base = fma(dx * rec[o + QA], dx, splat(rec[o + LOG2OP]))
                t = pixel_y + (np.float32(2 * j0) - rec[o + MY]) - dx * rec[o + SLOPE]
                qt = splat(rec[o + QT])
                red, green, blue = splat(rec[o + RED]), splat(rec[o + GREEN]), splat(rec[o + BLUE])
                depth = splat(rec[o + DEPTH])
                for k in range(s0 + 16 * j0, s0 + 16 * j1 + 16, 16):
                    e = fma(t * qt, t, base)  # log2(alpha)
                    alpha = select(e >= threshold, vmin(exp2(e), splat(ALPHA_MAX)), splat(0.0))
                    T = load(states, k)
                    t_next = fma(-alpha, T, T)
                    room = t_next >= T_MIN
                    f = select(room, alpha * T, splat(0.0))
                    store(states, k, select(room, t_next, negabs(T)))
                    store(states, k + PLANE, fma(f, red, load(states, k + PLANE)))
                    store(states, k + 2 * PLANE, fma(f, green, load(states, k + 2 * PLANE)))
                    store(states, k + 3 * PLANE, fma(f, blue, load(states, k + 3 * PLANE)))
                    store(states, k + 4 * PLANE, fma(f, depth, load(states, k + 4 * PLANE)))
                    t = t + 2.0
            stops[tile] = stop
            work[tile] += vectors + PAIR * (stop - start)
            if start < stop:
                lo, hi = alive_rows(states, s0, lo, hi)
                alive[tile] = lo <= hi
            if last:
                for k in range(s0, s0 + PLANE, 16):
                    T = vabs(load(states, k))
                    alpha = 1.0 - T
                    store(states, k, alpha)
                    store(states, k + PLANE, fma(T, splat(bg_red), load(states, k + PLANE)))
                    store(states, k + 2 * PLANE, fma(T, splat(bg_green), load(states, k + 2 * PLANE)))
                    store(states, k + 3 * PLANE, fma(T, splat(bg_blue), load(states, k + 3 * PLANE)))
                    store(states, k + 4 * PLANE, load(states, k + 4 * PLANE) / vmax(alpha, splat(1e-10)))
                for k in range(3):
                    write_tile(image, k, width, height, x0, y0, states, s0 + (k + 1) * PLANE)
                write_tile(image, 3, width, height, x0, y0, states, s0)
                write_tile(image, 4, width, height, x0, y0, states, s0 + 4 * PLANE)
