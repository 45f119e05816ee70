"""The squared sensitivity of a render to every Gaussian: one more walk over the pixels of a frame.

Per pixel and channel dI/d(ln alpha) = alpha s, s = T color - rest / (1 - alpha), rest what lies behind. With
w = alpha^2 (s_red^2 + s_green^2 + s_blue^2), the 15 moments sum w dx^i t^j (i + j <= 4) hold every second-order product
of derivatives by center, covariance and opacity, since ln alpha is a quadratic in (dx, t).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gaussianvae.rasterize.cpu.frame import Frame, run, threads_within
from gaussianvae.rasterize.cpu.layout import (
    ALPHA_MAX,
    BLUE,
    GREEN,
    HALF,
    INV_A,
    KAPPA,
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
    kernel,
    lane_x,
    lane_y,
    scratch,
)
from gaussianvae.rasterize.cpu.simd import fma, negabs, reciprocal, select, splat_pixels, sums12
from gaussianvae.rasterize.cpu.simd_memory import load, load_pixels, prefetch, store
from gaussianvae.rasterize.cpu.simd_types import PIXELS
from gaussianvae.rasterize.cpu.tiles import alive_rows, read_tile, reset_T, store_alphas

PLACES = {powers: k if k < 12 else k + 4 for k, powers in enumerate((i, j) for j in range(5) for i in range(5 - j))}
"""Where the kernel puts the moment of dx^i t^j: two vectors of twelve sums and a gap of four each."""
SCORE = 19
STRIDE = 32


@kernel
def raster_sensitivity(begin, end, rec, pairs, starts, stops, tiles_x, width, height, image, moments):
    """moments[32 * record + k] += sums over the tiles begin..end: k = 0-11 and 16-18 the moments, 19 the score.

    A pair takes three loops over its vectors (see store_alphas): alpha, then squared slopes, then sums."""
    state = scratch(6 * PLANE)  # T, rest of red, green, blue; of a pair alpha, squared slopes
    last_pair = pairs.size - 1
    for tile in range(begin, end):
        ty = tile // tiles_x
        y0, x0 = ty * TILE_H, (tile - ty * tiles_x) * TILE_W
        for k in range(3):
            read_tile(image, k, width, height, x0, y0, ZERO, state, (k + 1) * PLANE)
        reset_T(state, 0, x0, y0, width, height)
        pixel_x = lane_x() + (x0 + HALF)
        pixel_y = lane_y() + (y0 + HALF)
        lo, hi = 0, ROWS - 1
        for slab in range(starts.shape[0]):
            for p in range(starts[slab, tile], stops[slab, tile]):
                if (p & 15) == 0:
                    lo, hi = alive_rows(state, 0, lo, hi)
                pair = pairs[p]
                prefetch(rec, (pairs[min(p + 8, last_pair)] & 0xFFFFFFFF) * 16)
                record = pair & 0xFFFFFFFF
                o = record * 16
                j0 = max((pair >> 32) & 0xFF, lo)
                j1 = min(pair >> 40, hi)
                if j0 > j1:
                    continue
                dx = pixel_x - rec[o + MX]
                base = fma(dx * rec[o + QA], dx, rec[o + LOG2OP])
                t = pixel_y + (np.float32(STEP * j0) - rec[o + MY]) - dx * rec[o + SLOPE]
                qt = rec[o + QT]
                red, green, blue = rec[o + RED], rec[o + GREEN], rec[o + BLUE]
                k0, k1 = PIXELS * j0, PIXELS * (j1 + 1)
                store_alphas(state, k0 + 4 * PLANE, k1 + 4 * PLANE, t, qt, base)
                for k in range(k0, k1, PIXELS):
                    alpha = load_pixels(state, k + 4 * PLANE)
                    T = load_pixels(state, k)
                    t_next = fma(-alpha, T, T)
                    room = t_next >= T_MIN
                    f = select(room, alpha * T, 0.0)
                    store(state, k, select(room, t_next, negabs(T)))
                    rest_red = load_pixels(state, k + PLANE) - f * red
                    rest_green = load_pixels(state, k + 2 * PLANE) - f * green
                    rest_blue = load_pixels(state, k + 3 * PLANE) - f * blue
                    store(state, k + PLANE, rest_red)
                    store(state, k + 2 * PLANE, rest_green)
                    store(state, k + 3 * PLANE, rest_blue)
                    through = reciprocal(1.0 - alpha)
                    s_red = T * red - rest_red * through
                    s_green = T * green - rest_green * through
                    s_blue = T * blue - rest_blue * through
                    square = fma(s_red, s_red, fma(s_green, s_green, s_blue * s_blue))
                    square = select((alpha > 0.0) & room & (alpha < ALPHA_MAX), square, 0.0)
                    store(state, k + 5 * PLANE, square)
                s0 = s1 = s2 = s3 = s4 = score = splat_pixels(0.0)
                for k in range(k0, k1, PIXELS):
                    alpha, square = load_pixels(state, k + 4 * PLANE), load_pixels(state, k + 5 * PLANE)
                    w = square * alpha * alpha
                    score = score + square
                    s0 = s0 + w
                    w = w * t
                    s1 = s1 + w
                    w = w * t
                    s2 = s2 + w
                    w = w * t
                    s3 = s3 + w
                    s4 = fma(w, t, s4)
                    t = t + STEP
                dx2 = dx * dx
                first = sums12(
                    (
                        s0, s0 * dx, s0 * dx2, s0 * dx2 * dx, s0 * dx2 * dx2,
                        s1, s1 * dx, s1 * dx2, s1 * dx2 * dx,
                        s2, s2 * dx, s2 * dx2,
                    )
                )  # fmt: skip
                zero = splat_pixels(0.0)
                second = sums12((s3, s3 * dx, s4, score, zero, zero, zero, zero, zero, zero, zero, zero))
                at = record * STRIDE
                store(moments, at, load(moments, at) + first)
                store(moments, at + 16, load(moments, at + 16) + second)


def frame_moments(
    frame: Frame, order: Sequence[tuple[int, int]], at_once: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]]:
    """Moments of a rendered frame, over its active Gaussians (those that touch a pixel), M of them at a time.

    Args:
        frame: after `forward()`.
        order: powers (i, j) of the whitened offsets u = dx / sqrt(a), v = t / sqrt(kappa), all with i + j <= 4.
        at_once: the most Gaussians at a time.

    Yields:
        (M,) which Gaussians; (15, M) sums of w u^i v^j; (M,) speedy scores.
    """
    assert frame.workspace is not None
    active, records = frame.active, frame.workspace["records"]
    length = STRIDE * active
    parts = threads_within(frame.threads, 4 * length)
    sums = frame.workspace.get("sensitivity", parts * length)[: parts * length].reshape(parts, length)

    bounds = frame.shares(frame.work, parts)

    def raster(part: int) -> None:
        sums[part] = 0.0
        lists = records, frame.pairs, frame.starts, frame.stops, frame.tiles[0], *frame.size
        raster_sensitivity(bounds[part], bounds[part + 1], *lists, frame.image, sums[part])

    run(parts, raster)
    for part in range(1, parts):
        sums[0] += sums[part]
    slots = frame.workspace["slots"][: frame.parameters[3].size]
    touched = np.flatnonzero(slots >= 0)
    for start in range(0, len(touched), at_once):
        rows = touched[start : start + at_once]
        table = sums[0].reshape(active, STRIDE)[slots[rows]].T
        fields = records[: 16 * active].reshape(active, 16)[slots[rows]]
        by_a, by_kappa = np.sqrt(fields[:, INV_A]), 1 / np.sqrt(fields[:, KAPPA])
        moments = np.empty((len(order), len(rows)), np.float32)
        for out, (i, j) in zip(moments, order, strict=True):
            np.multiply(table[PLACES[i, j]], by_a**i * by_kappa**j, out=out)
        yield rows, moments, table[SCORE].copy()
