"""Tiles of 8 x 32 pixels: which part draws them, their windows of the image, their unfinished rows."""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.layout import (
    ALPHA_MAX,
    LOG2_255,
    ROWS,
    STEP,
    TILE_H,
    TILE_W,
    inline,
    kernel,
    lane_x,
    lane_y,
)
from gaussianvae.rasterize.cpu.simd import any_lane, exp2, fma, select, splat_pixels, vmin
from gaussianvae.rasterize.cpu.simd_memory import load8, load_pixels, store
from gaussianvae.rasterize.cpu.simd_types import PIXELS


@inline
def alive_rows(state, base, lo, hi):
    """Shrink the range of vector rows to those with unfinished pixels (T > 0)."""
    while lo <= hi and not any_lane(load_pixels(state, base + PIXELS * lo) > 0.0):
        lo += 1
    while hi >= lo and not any_lane(load_pixels(state, base + PIXELS * hi) > 0.0):
        hi -= 1
    return lo, hi


@inline
def alpha_at(t, qt, base):
    """Opacity where the exponent is base + qt t^2, zero where it is below 1/255."""
    e = fma(t * qt, t, base)
    return select(e >= -LOG2_255, vmin(exp2(e), ALPHA_MAX), 0.0)


@inline
def store_alphas(alphas, first, last, t, qt, base):
    """alphas[first:last] = alpha of the vectors of a pair.

    Why a loop of its own: from t to what is added to sums the instructions of a vector wait for each other, and a
    processor looks only so far ahead for others. In loops of fewer and shorter waits it finds enough."""
    for k in range(first, last, PIXELS):
        store(alphas, k, alpha_at(t, qt, base))
        t = t + STEP


@inline
def read_tile(image, plane, width, height, x0, y0, fill, state, base):
    """Copy one 8 x TILE_H window of an image plane into tile state (outside pixels = fill)."""
    size = width * height
    if x0 + TILE_W <= width and y0 + TILE_H <= height:
        for j in range(TILE_H):
            store(state, base + TILE_W * j, load8(image, plane * size + (y0 + j) * width + x0))
    else:
        for j in range(TILE_H):
            for k in range(TILE_W):
                inside = y0 + j < height and x0 + k < width
                at = plane * size + (y0 + j) * width + x0 + k
                state[base + TILE_W * j + k] = image[at] if inside else fill


@inline
def write_tile(image, plane, width, height, x0, y0, state, base):
    """The way back; pixels outside the image are dropped."""
    size = width * height
    if x0 + TILE_W <= width and y0 + TILE_H <= height:
        for j in range(TILE_H):
            store(image, plane * size + (y0 + j) * width + x0, load8(state, base + TILE_W * j))
    else:
        for j in range(min(TILE_H, height - y0)):
            for k in range(min(TILE_W, width - x0)):
                image[plane * size + (y0 + j) * width + x0 + k] = state[base + TILE_W * j + k]


@inline
def reset_T(state, base, x0, y0, width, height):
    """T = 1 inside the image, negative (finished) outside."""
    inside_x = lane_x() + x0 < np.float32(width)
    for j in range(ROWS):
        inside = inside_x & (lane_y() + (y0 + STEP * j) < np.float32(height))
        store(state, base + PIXELS * j, select(inside, splat_pixels(1.0), -1.0))


@kernel
def split_tiles(weights, bounds):
    """Part p gets the tiles bounds[p]..bounds[p + 1], row by row, and about the same sum of weights.

    Neighbors share most of their Gaussians, so whole regions keep each processor's cache at a part of the records."""
    parts = bounds.size - 1
    total = np.int64(0)
    for k in range(weights.size):
        total += weights[k]
    before = np.int64(0)
    tile = np.int64(0)
    bounds[0] = 0
    for part in range(1, parts):
        while tile < weights.size and (2 * before + weights[tile]) * parts < 2 * total * part:
            before += weights[tile]
            tile += 1
        bounds[part] = tile
    bounds[parts] = weights.size
