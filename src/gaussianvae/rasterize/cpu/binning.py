"""Binning: from records to lists of (record, rows) per tile, front to back.

Spans are exact: for every band of 8 pixel columns the rows in which the ellipse alpha >= 1/255 has pixels. A tile that
is opaque already takes no more pairs, and a Gaussian that touches only such tiles is never shaded.
"""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.layout import (
    HALF,
    INV_A,
    KAPPA,
    MX,
    MY,
    RX,
    RY,
    SLOPE,
    STEP_SHIFT,
    TAU,
    TILE_H,
    TILE_SHIFT,
    TILE_W,
    XTOP,
    ZERO,
    kernel,
    lane_band,
)
from gaussianvae.rasterize.cpu.simd import splat, vmax, vmin, vsqrt
from gaussianvae.rasterize.cpu.simd_memory import prefetch, store_int


@kernel
def alive_sums(alive, tiles_x, tiles_y, sums):
    """Summed-area table of unfinished tiles, (tiles_y + 1) x (tiles_x + 1)."""
    for ty in range(tiles_y):
        row = 0
        for tx in range(tiles_x):
            row += alive[ty * tiles_x + tx]
            sums[(ty + 1) * (tiles_x + 1) + tx + 1] = sums[ty * (tiles_x + 1) + tx + 1] + row
    return sums[tiles_y * (tiles_x + 1) + tiles_x]


# a span packs slot << 40 | band << 28 | last row << 14 | first row  (images up to 16384 x 32768)
@kernel
def find_spans(order, width, height, tiles_x, geom, test_alive, alive, sums, counts):
    """Spans of the Gaussians in `order` (a stretch of the depth order), and their ids.

    A Gaussian that touches an unfinished tile gets the next slot number. counts[tile] += pairs."""
    ids = np.empty(order.size, np.int32)
    spans = np.empty(6 * order.size + 1024, np.int64)
    rows = np.empty(32, np.int32)
    n_ids = n_spans = np.int64(0)
    w, h = np.float32(width), np.float32(height)
    for j in range(order.size):
        i = order[j]
        o = 16 * i
        prefetch(geom, 16 * order[min(j + 8, order.size - 1)])
        mx, my, rx, ry = geom[o + MX], geom[o + MY], geom[o + RX], geom[o + RY]
        first = int(max(mx - rx + HALF, ZERO)) >> 3
        last = (int(min(mx + rx + HALF, w)) - 1) >> 3  # pixel p has its center at p + 1/2
        if test_alive:
            t0 = int(max(my - ry, ZERO)) >> TILE_SHIFT
            t1 = (int(min(my + ry, h - HALF)) >> TILE_SHIFT) + 1
            left, right = first, last + 1
            width1 = tiles_x + 1
            if (
                right <= left
                or sums[t1 * width1 + right]
                - sums[t0 * width1 + right]
                - sums[t1 * width1 + left]
                + sums[t0 * width1 + left]
                == 0
            ):
                continue
        slope, inv_a, kappa, tau = geom[o + SLOPE], geom[o + INV_A], geom[o + KAPPA], geom[o + TAU]
        xtop = geom[o + XTOP]
        before = n_spans
        if n_spans + last - first + 17 > spans.size:
            grown = np.empty(2 * spans.size + last - first, np.int64)
            grown[:n_spans] = spans[:n_spans]
            spans = grown
        for band0 in range(first, last + 1, 16):  # lanes = bands
            x = lane_band() + (np.float32(band0 * TILE_W) + HALF - mx)
            xa, xb = vmax(x, splat(-rx)), vmin(x + (TILE_W - 1.0), splat(rx))
            xt = vmin(vmax(splat(xtop), xa), xb)
            top = slope * xt + vsqrt(vmax((tau - xt * xt * inv_a) * kappa, splat(0.0)))
            xt = vmin(vmax(splat(-xtop), xa), xb)
            low = slope * xt - vsqrt(vmax((tau - xt * xt * inv_a) * kappa, splat(0.0)))
            store_int(rows, 0, vmin(vmax(low + my, splat(0.0)), splat(h)) + 0.49)
            store_int(rows, 16, vmin(vmax(top + my, splat(0.0)), splat(h)) + 0.51)
            for b in range(min(16, last + 1 - band0)):
                r0, r1 = np.int64(rows[b]), np.int64(rows[16 + b]) - 1
                if r0 > r1:
                    continue
                band = band0 + b
                any_alive = np.int64(0)
                tile = (r0 >> TILE_SHIFT) * tiles_x + band
                for _ in range((r1 >> TILE_SHIFT) - (r0 >> TILE_SHIFT) + 1):
                    on = np.int64(alive[tile])
                    counts[tile] += on
                    any_alive |= on
                    tile += tiles_x
                spans[n_spans] = (n_ids << 40) | (band << 28) | (r1 << 14) | r0
                n_spans += any_alive  # branch-free: overwritten next time if no tile is alive
        if n_spans > before:
            ids[n_ids] = i
            n_ids += 1
    return ids[:n_ids], spans[:n_spans]


@kernel
def tile_offsets(counts, base, starts):
    """Turn counts[part, tile] into write cursors, tile-major, so that list order is depth order."""
    parts, tiles = counts.shape
    total = base
    for tile in range(tiles):
        starts[tile] = total
        for part in range(parts):
            count = counts[part, tile]
            counts[part, tile] = total
            total += count
    starts[tiles] = total
    return total


@kernel
def fill_pairs(spans, base, tiles_x, alive, cursors, pairs):
    """pairs[...] = record | first vector row << 32 | last vector row << 40, appended per tile."""
    for s in range(spans.size):
        span = spans[s]
        r0, r1, band = span & 0x3FFF, (span >> 14) & 0x3FFF, (span >> 28) & 0xFFF
        slot = (span >> 40) + base
        for ty in range(r0 >> TILE_SHIFT, (r1 >> TILE_SHIFT) + 1):
            tile = ty * tiles_x + band
            if alive[tile]:
                j0 = max(r0 - ty * TILE_H, 0) >> STEP_SHIFT
                j1 = min(r1 - ty * TILE_H, TILE_H - 1) >> STEP_SHIFT
                at = cursors[tile]
                cursors[tile] = at + 1
                pairs[at] = slot | (j0 << 32) | (j1 << 40)
