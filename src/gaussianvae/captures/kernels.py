"""The compiled loop of undistorting: for every pixel of the straight photo, sixteen of the bent one."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

# no fastmath: the same bits as plain tensor operations give, on every machine
_OPTIONS = dict(nogil=True, error_model="numpy")


def _kernel(function):
    """Compile at the first call, and keep the result in numba's cache if that has a folder to write to."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # nowhere to write: every process compiles anew
        return njit(**_OPTIONS)(function)


@njit(inline="always", **_OPTIONS)
def _taps(place, size, pixels, weights):
    """Four pixels along an axis around a place and their Catmull-Rom weights; the border pixel repeats outside."""
    first = math.floor(place - 0.5)
    t = place - 0.5 - first
    weights[0] = ((-0.5 * t + 1) * t - 0.5) * t
    weights[1] = (1.5 * t - 2.5) * t * t + 1
    weights[2] = ((-1.5 * t + 2) * t + 0.5) * t
    weights[3] = (0.5 * t - 0.5) * t * t
    for step in range(4):
        pixels[step] = min(max(np.int64(first) + step - 1, 0), size - 1)


@_kernel
def look_up(part, parts, image, pinhole, bent, k, fisheye, out):
    """Fill part number `part` of `parts` of the rows of `out` (H, W, C) from `image` (H, W, C), both float32.

    `pinhole` and `bent` are fx, fy, cx, cy in pixels of the straight and of the bent photo; `k` is k1, k2, p1, p2, k3,
    k4 (of a fisheye k1, k2, k3, k4); all float64. It is `undistort.bend` and a bicubic look-up.
    """
    height, width, channels = image.shape
    fx, fy, cx, cy = pinhole[0], pinhole[1], pinhole[2], pinhole[3]
    down, across = np.empty(4), np.empty(4)
    rows, columns = np.empty(4, np.int64), np.empty(4, np.int64)
    for row in range(height * part // parts, height * (part + 1) // parts):
        y = (row + 0.5 - cy) / fy
        for column in range(width):
            x = (column + 0.5 - cx) / fx
            r2 = x * x + y * y
            if fisheye:
                r = math.sqrt(r2)
                angle = math.atan(r)
                a2 = angle * angle
                ratio = 1 + a2 * (k[0] + a2 * (k[1] + a2 * (k[2] + a2 * k[3])))
                ratio *= angle / r if r > 0 else 1.0
                bent_x, bent_y = x * ratio, y * ratio
            else:
                p1, p2 = k[2], k[3]
                radial = 1 + r2 * (k[0] + r2 * (k[1] + r2 * (k[4] + r2 * k[5])))
                bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
                bent_y = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
            _taps(bent[0] * bent_x + bent[2], width, columns, across)
            _taps(bent[1] * bent_y + bent[3], height, rows, down)
            for channel in range(channels):
                total = np.float32(0)
                for i in range(4):
                    for j in range(4):
                        total += np.float32(down[i] * across[j]) * image[rows[i], columns[j], channel]
                out[row, column, channel] = min(max(total, np.float32(0)), np.float32(1))
