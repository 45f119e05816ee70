"""Sizes, constants and record fields that the kernels share; how they are compiled."""

import math

import numpy as np
from numba import njit

from gaussianvae.rasterize.cpu.simd import lane_constant
from gaussianvae.rasterize.cpu.simd_types import LANES, PIXELS

TILE_W, TILE_H = 8, 32  # fixed
STEP = PIXELS // TILE_W  # a vector is 8 x STEP pixels
ROWS = TILE_H // STEP  # vectors per tile
# // TILE_H and // STEP, without the floor fix-up of a signed division
TILE_SHIFT, STEP_SHIFT = TILE_H.bit_length() - 1, STEP.bit_length() - 1
PLANE = TILE_W * TILE_H  # floats per state plane of a tile
AHEAD = PIXELS == 8  # whether raster_forward, too, has a loop for alpha alone; 16 lanes lose by it
PAIR = 3 if PIXELS == 16 else 5  # what a pair costs beside its vectors, in vectors (of the backward pass)

# fields of a record (16 float32 = one cache line). Center, exponent e(dx, t) = LOG2OP + QA dx^2 + QT t^2 = log2(alpha)
# with t = dy - SLOPE dx, color, depth; then what only binning and gradients read: half extents RX, RY of the ellipse
# alpha >= 1/255 (q <= TAU), dx of its lowest row, 1 / a, kappa. Colors are zero before shading
MX, MY, QA, SLOPE, QT, LOG2OP, RED, GREEN, BLUE, DEPTH, RX, XTOP, INV_A, KAPPA, TAU, RY = range(16)
# fields of the moments that raster_backward sums; w = dL/d(ln alpha) of a pixel
G_W, G_WX, G_WXX, G_WT, G_WTX, G_WTT, G_RED, G_GREEN, G_BLUE, G_DEPTH, G_ABSX, G_ABSY = range(12)

HALF_LOG2E = np.float32(0.5 / math.log(2.0))
TWO_LN2 = np.float32(2.0 * math.log(2.0))
LOG2_255 = np.float32(math.log2(255.0))
ALPHA_MAX = np.float32(0.999)
T_MIN = np.float32(1e-4)
NEAR, FAR = np.float32(0.01), np.float32(1e10)
ZERO, HALF = np.float32(0.0), np.float32(0.5)

lane = lane_constant(range(LANES))
lane_x = lane_constant([i % TILE_W for i in range(PIXELS)])
lane_y = lane_constant([i // TILE_W for i in range(PIXELS)])
lane_band = lane_constant([TILE_W * i for i in range(LANES)])

# not nnan, ninf (lanes that a select drops may hold them) nor reassoc (it would undo the rounding trick of exp2)
_OPTIONS = dict(nogil=True, error_model="numpy", fastmath={"contract", "arcp", "nsz"})


def kernel(function):
    """Compile at the first call, and keep the result in numba's cache if that has a folder to write to."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # nowhere to write: every process compiles anew
        return njit(**_OPTIONS)(function)


inline = njit(forceinline=True, **_OPTIONS)


@inline
def scratch(size):
    """float32 zeros that begin a cache line: a vector that straddles two costs double, and np.empty may give either."""
    raw = np.zeros(size + LANES, np.float32)
    start = (-np.intp(raw.ctypes.data) & 63) >> 2
    return raw[start : start + size]
