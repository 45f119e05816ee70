"""Z-order: Gaussians that are near in space become near in a file, where they pack better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BITS = 21
"""Of each axis: three fit into 63 bits, so that one far Gaussian doesn't put all others into one cell."""
# where the bits of a number go that are to lie three apart, from halves to single bits
# (F. Giesen, "Decoding Morton codes", 2009; here for 64 bits)
_SPREAD = (
    (32, 0x1F00000000FFFF), (16, 0x1F0000FF0000FF), (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3), (2, 0x1249249249249249),
)  # fmt: skip


def morton_order(means: NDArray[np.float32]) -> NDArray[np.int64]:
    """The rows of points (N, 3) along a Z-order curve through their bounding box; equal cells keep their order."""
    low = means.min(0, initial=np.inf).astype(np.float64)
    extent = means.max(0, initial=-np.inf) - low
    unit = (means - low) / np.where(extent > 0, extent, 1)
    cells = (unit * (2**BITS - 1)).astype(np.uint64)
    codes = np.zeros(len(means), np.uint64)
    for axis in range(3):
        codes |= _spread(cells[:, axis]) << np.uint64(axis)
    return np.argsort(codes, kind="stable")


def _spread(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Two zero bits between every two bits."""
    for shift, mask in _SPREAD:
        numbers = (numbers | numbers << np.uint64(shift)) & np.uint64(mask)
    return numbers
