"""The values of SPZ files: how each attribute's bytes are read and chosen.

The library's own packing (github.com/nianticlabs/spz, src/cc/load-spz.cc and splat-utils.h, MIT), rounded to nearest
as it does, with two differences, both of which every reader understands:

- Harmonics keep all 8 bits of their byte (error at most 1/256). The library rounds the first band to 5 bits and the
  others to 4 (errors up to 1/32 and 1/16 a coefficient) so that gzip packs them better; such files are smaller by a
  third, and the color of a shiny surface is off by several of 255 steps. We make splats sharper; this would blur them.
- Positions have more or fewer than 12 fractional bits where a scene needs it: see `fractional_bits`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from gaussianvae.formats.spz_streams import Header, Streams
from gaussianvae.scene.splats import STATE, Splats

BLOCK = 1 << 15
"""Rows at a time, so that float64 temporaries stay small."""
BITS = 12
LARGEST = (1 << 23) - 1
"""Of a position, in steps."""
FINEST = 8
"""Steps in the standard deviation of a small Gaussian: half a step is then 6 % of it at most, 3.6 % in the mean
(1 / (8 sqrt 12)), about what SPZ's steps of 1/16 in the log of a scale do to its size."""
SMALL = 0.01
"""The share of Gaussians that may be smaller than the one that decides on the bits: junk doesn't."""
COLOR_SCALE = 0.15
SQRT_HALF = math.sqrt(0.5)
SMALLEST_SCALE, LARGEST_SCALE = math.exp(-10), math.exp(255 / 16 - 10)
LARGEST_COLOR = 0.5 / COLOR_SCALE
"""Of a base color coefficient, either sign."""
_BYTES = np.arange(256, dtype=np.float64)
_ALPHAS = (_BYTES / 255).astype(np.float32)
_COLORS = ((_BYTES / 255 - 0.5) / COLOR_SCALE).astype(np.float32)
_SCALES = np.exp(_BYTES / 16 - 10).astype(np.float32)
_HARMONICS = ((_BYTES - 128) / 128).astype(np.float32)
# what is left and right of one index of xyzw, and where xyzw are in wxyz
_OTHERS = np.array([[j for j in range(4) if j != k] for k in range(4)])
_IN_WXYZ = np.array([1, 2, 3, 0])


def wanted_bits(scales: Float[Tensor, "N 3"]) -> int:
    """Fractional bits with which steps don't show: the least from 12 on that give a small Gaussian 8 steps.

    A Gaussian's size is its middle scale (what counts on a surface, where the least is next to nothing), a small one
    the one that 99 % exceed, and none counts as smaller than SPZ's least scale, exp(-10); so 18 bits are the most.
    """
    if not len(scales):
        return BITS
    middle = scales.detach().cpu().float().median(1).values.numpy()
    small = max(float(np.quantile(middle, SMALL)), SMALLEST_SCALE)
    return max(BITS, math.ceil(math.log2(FINEST / small)))


def fractional_bits(means: Float[Tensor, "N 3"], scales: Float[Tensor, "N 3"]) -> int:
    """The bits after the point of each position: `wanted_bits`, or as many as the farthest Gaussian leaves.

    12 (steps of 0.00024 units) is what everyone writes, and no reader minds another number. The whole must fit into
    24 bits with sign, which the library doesn't check: beyond 2048 units its positions wrap around. Negative when not
    even whole units fit.
    """
    farthest = float(means.detach().abs().max()) if len(means) else 0.0
    room = math.floor(math.log2((LARGEST + 0.5) / farthest)) if farthest > 0 else wanted_bits(scales)
    return min(wanted_bits(scales), room)


def unpack(header: Header, streams: Streams, bands: int) -> Splats:
    """The splat that the bytes of a file say, with so many bands of harmonics at most, in the file's own axes."""
    n, k = header.count, (header.degree + 1) ** 2 - 1
    kept = (bands + 1) ** 2 - 1
    raw = {name: stream.reshape(n, len(stream) // n if n else 0) for name, stream in streams.items()}
    means, quats, scales = (np.empty((n, width), np.float32) for width in (3, 4, 3))
    opacities, sh0, shN = np.empty(n, np.float32), np.empty((n, 1, 3), np.float32), np.empty((n, kept, 3), np.float32)
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        if header.version == 1:
            means[rows] = raw["positions"][rows].view("<f2")
        else:
            means[rows] = _signed_24(raw["positions"][rows]) * np.float32(2.0**-header.fractional_bits)
        rotations = raw["rotations"][rows]
        quats[rows] = _first_three(rotations) if header.version < 3 else _smallest_three(rotations)
        np.take(_SCALES, raw["scales"][rows], out=scales[rows], mode="clip")
        np.take(_ALPHAS, raw["alphas"][rows, 0], out=opacities[rows], mode="clip")
        np.take(_COLORS, raw["colors"][rows], out=sh0[rows, 0], mode="clip")
        if kept:
            np.take(_HARMONICS, raw["sh"][rows].reshape(-1, k, 3)[:, :kept], out=shN[rows], mode="clip")
    return Splats(
        means=torch.from_numpy(means),
        quats=torch.from_numpy(quats),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(opacities),
        sh0=torch.from_numpy(sh0),
        shN=torch.from_numpy(shN),
    )


def _signed_24(raw: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Little-endian, three bytes each: put above a zero byte and shifted back with their sign."""
    wide = np.zeros((len(raw), 3, 4), np.uint8)
    wide[:, :, 1:] = raw.reshape(len(raw), 3, 3)
    return wide.view("<i4")[:, :, 0] >> 8


def _first_three(raw: NDArray[np.uint8]) -> NDArray[np.float64]:
    """x, y, z in bytes; w is what is missing to length 1."""
    xyz = raw / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - np.square(xyz).sum(1, keepdims=True)))
    return _unit(np.concatenate([w, xyz], 1))


def _smallest_three(raw: NDArray[np.uint8]) -> NDArray[np.float64]:
    """From the high bits: which of x, y, z, w is largest (2), then the others with sign (1) and magnitude (9)."""
    packed = np.ascontiguousarray(raw).view("<u4")[:, 0]
    fields = np.stack([packed >> 20, packed >> 10, packed], 1)
    others = (fields & 511) * (SQRT_HALF / 511)
    others[(fields & 512) > 0] *= -1
    largest = (packed >> 30).astype(np.intp)
    quats = np.empty((len(raw), 4))
    rows = np.arange(len(raw))
    quats[rows[:, None], _IN_WXYZ[_OTHERS[largest]]] = others
    # only bits that no writer makes leave nothing for the largest
    quats[rows, _IN_WXYZ[largest]] = np.sqrt(np.maximum(0, 1 - np.square(others).sum(1)))
    return _unit(quats)


def _unit(quats: NDArray[np.float64]) -> NDArray[np.float64]:
    return quats / np.linalg.norm(quats, axis=1, keepdims=True)


def pack(splats: Splats, bits: int) -> Streams:
    """The bytes of each attribute of version 3 and 4, each value rounded to nearest and kept within its range."""
    n, k = len(splats), splats.shN.shape[1]
    widths = {"positions": 9, "alphas": 1, "colors": 3, "scales": 3, "rotations": 4, "sh": 3 * k}
    raw = {name: np.empty((n, width), np.uint8) for name, width in widths.items()}
    values = [getattr(splats, name).detach().cpu().float().numpy() for name in STATE]
    for start in range(0, n, BLOCK):
        rows = slice(start, start + BLOCK)
        places, turns, widths_of, alphas, colors, harmonics = (v[rows] for v in values)
        steps = np.floor(places * 2.0**bits + 0.5).astype("<i4")
        raw["positions"][rows] = steps.view(np.uint8).reshape(-1, 3, 4)[:, :, :3].reshape(-1, 9)
        raw["alphas"][rows, 0] = _bytes(alphas * 255.0)
        raw["colors"][rows] = _bytes(colors[:, 0] * (COLOR_SCALE * 255) + 127.5)
        with np.errstate(divide="ignore"):
            raw["scales"][rows] = _bytes((np.log(widths_of.astype(np.float64)) + 10) * 16)
        raw["rotations"][rows] = _pack_smallest_three(turns.astype(np.float64))
        raw["sh"][rows] = _bytes(harmonics.reshape(len(harmonics), 3 * k) * 128.0 + 128)
    return {name: array.reshape(-1) for name, array in raw.items()}


def _bytes(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)


def _pack_smallest_three(quats: NDArray[np.float64]) -> NDArray[np.uint8]:
    norms = np.linalg.norm(quats, axis=1, keepdims=True)
    # a zero quaternion turns nothing, as in PLY files
    quats = np.where(norms > 0, quats / np.maximum(norms, 1e-300), [1.0, 0.0, 0.0, 0.0])
    xyzw = quats[:, [1, 2, 3, 0]]
    largest = np.abs(xyzw).argmax(1)
    rows = np.arange(len(quats))
    others = xyzw[rows[:, None], _OTHERS[largest]]
    negative = (others < 0) ^ (xyzw[rows, largest] < 0)[:, None]
    fields = np.floor(np.abs(others) * (511 / SQRT_HALF) + 0.5).astype("<u4") | negative.astype("<u4") << 9
    packed = largest.astype("<u4") << 30 | fields[:, 0] << 20 | fields[:, 1] << 10 | fields[:, 2]
    return packed.astype("<u4").view(np.uint8).reshape(-1, 4)
