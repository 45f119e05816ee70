"""Tiles of 8 x 32 pixels: which part draws them, their windows of the image, their unfinished rows."""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.layout import ROWS, TILE_H, TILE_W, inline, kernel, lane_x, lane_y
from gaussianvae.rasterize.cpu.simd import any_lane, select, splat
from gaussianvae.rasterize.cpu.simd_memory import load, load_halves, store, store_halves


@inline
def alive_rows(state, base, lo, hi):
    """Shrink the range of vector rows to those with unfinished pixels (T > 0)."""
    while lo <= hi and not any_lane(load(state, base + 16 * lo) > 0.0):
        lo += 1
    while hi >= lo and not any_lane(load(state, base + 16 * hi) > 0.0):
        hi -= 1
    return lo, hi


@inline
def read_tile(image, plane, width, height, x0, y0, fill, state, base):
    """Copy one 8 x TILE_H window of an image plane into tile state (outside pixels = fill)."""
    size = width * height
    if x0 + TILE_W <= width and y0 + TILE_H <= height:
        for j in range(ROWS):
            at = plane * size + (y0 + 2 * j) * width + x0
            store(state, base + 16 * j, load_halves(image, at, at + width))
    else:
        for j in range(TILE_H):
            for k in range(TILE_W):
                inside = y0 + j < height and x0 + k < width
                at = plane * size + (y0 + j) * width + x0 + k
                state[base + 8 * j + k] = image[at] if inside else fill


@inline
def write_tile(image, plane, width, height, x0, y0, state, base):
    """The way back; pixels outside the image are dropped."""
    size = width * height
    if x0 + TILE_W <= width and y0 + TILE_H <= height:
        for j in range(ROWS):
            at = plane * size + (y0 + 2 * j) * width + x0
            store_halves(image, at, at + width, load(state, base + 16 * j))
    else:
        for j in range(min(TILE_H, height - y0)):
            for k in range(min(TILE_W, width - x0)):
                image[plane * size + (y0 + j) * width + x0 + k] = state[base + 8 * j + k]


@inline
def reset_T(state, base, x0, y0, width, height):
    """T = 1 inside the image, negative (finished) outside."""
    inside_x = lane_x() + x0 < np.float32(width)
    for j in range(ROWS):
        inside = inside_x & (lane_y() + (y0 + 2 * j) < np.float32(height))
        store(state, base + 16 * j, select(inside, splat(1.0), splat(-1.0)))


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
