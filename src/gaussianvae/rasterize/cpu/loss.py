"""Fused L1 + SSIM with its gradient: two passes over rows that stay in the cache."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gaussianvae.rasterize import losses
from gaussianvae.rasterize.cpu.frame import Floats, default_threads, run
from gaussianvae.rasterize.cpu.layout import kernel, lane, scratch
from gaussianvae.rasterize.cpu.simd import fma, select, splat, vabs, vsum
from gaussianvae.rasterize.cpu.simd_memory import load, load3, store

RADIUS = losses.RADIUS
C1, C2 = np.float32(losses.C1), np.float32(losses.C2)
WINDOW = np.array(losses.window(), np.float32)
PAD = 16  # zeros left and right of a row buffer


@kernel
def pad_rows(part, parts, source, rows, height, width, stride, out):
    """Copy image rows into padded planes: `stride` floats a row, RADIUS zero rows above and below."""
    for r in range(rows * part // parts, rows * (part + 1) // parts):
        at = (r + RADIUS * (2 * (r // height) + 1)) * stride
        whole = width & -16
        for i in range(0, whole, 16):
            store(out, at + i, load(source, r * width + i))
        for i in range(whole, width):
            out[at + i] = source[r * width + i]


@kernel
def pad_pixels(part, parts, source, height, width, stride, out):
    """The same from interleaved pixels (H, W, 3)."""
    for r in range(height * part // parts, height * (part + 1) // parts):
        row = (r + RADIUS) * stride
        plane = (height + 2 * RADIUS) * stride
        whole = width & -16
        for i in range(0, whole, 16):
            red, green, blue = load3(source, 3 * (r * width + i))
            store(out, row + i, red)
            store(out, row + plane + i, green)
            store(out, row + 2 * plane + i, blue)
        for i in range(whole, width):
            for c in range(3):
                out[row + c * plane + i] = source[3 * (r * width + i) + c]


@kernel
def ssim_maps(part, parts, x, t, rows, height, width, stride, maps, sums):
    """maps = dS/d(mean x), dS/dE[x^2], dS/dE[xt] per pixel; sums = [sum |x - t|, sum S].

    S needs only four blurs: x, t, x^2 + t^2, xt. Vertical pass from the images into four row buffers
    that stay in the L1 cache, horizontal pass from there."""
    plane = x.size
    line = stride + 2 * PAD
    buffer = scratch(4 * line)
    total_l1 = total_s = 0.0
    for r in range(rows * part // parts, rows * (part + 1) // parts):
        top = (r + 2 * RADIUS * (r // height)) * stride  # first row of the window
        for i in range(0, stride, 16):
            b0 = b1 = b2 = b3 = splat(0.0)
            for k in range(2 * RADIUS + 1):
                w = splat(WINDOW[k])
                xv, tv = load(x, top + k * stride + i), load(t, top + k * stride + i)
                wx, wt = w * xv, w * tv
                b0, b1 = b0 + wx, b1 + wt
                b2 = fma(wx, xv, fma(wt, tv, b2))
                b3 = fma(wx, tv, b3)
            store(buffer, PAD + i, b0)
            store(buffer, line + PAD + i, b1)
            store(buffer, 2 * line + PAD + i, b2)
            store(buffer, 3 * line + PAD + i, b3)
        row_l1 = row_s = splat(0.0)
        for i in range(0, stride, 16):
            mx = mt = e2 = ext = splat(0.0)
            for k in range(2 * RADIUS + 1):
                w = splat(WINDOW[k])
                at = PAD - RADIUS + i + k
                mx = fma(w, load(buffer, at), mx)
                mt = fma(w, load(buffer, line + at), mt)
                e2 = fma(w, load(buffer, 2 * line + at), e2)
                ext = fma(w, load(buffer, 3 * line + at), ext)
            inside = lane() + i < np.float32(width)
            mm, cross = mx * mx + mt * mt, mx * mt
            a1, a2 = 2.0 * cross + C1, 2.0 * (ext - cross) + C2
            b1, b2 = mm + C1, e2 - mm + C2
            inv = 1.0 / (b1 * b2)
            s = a1 * a2 * inv
            d_cov, d_var = 2.0 * a1 * inv, -(s * b1 * inv)
            d_mean = 2.0 * (mt * a2 * inv - s * mx * b2 * inv) - mt * d_cov - 2.0 * mx * d_var
            zero = splat(0.0)
            at = top + RADIUS * stride + i
            store(maps, at, select(inside, d_mean, zero))
            store(maps, plane + at, select(inside, d_var, zero))
            store(maps, 2 * plane + at, select(inside, d_cov, zero))
            row_s = row_s + select(inside, s, zero)
            row_l1 = row_l1 + vabs(load(x, at) - load(t, at))
        total_l1 += vsum(row_l1)
        total_s += vsum(row_s)
    sums[2 * part], sums[2 * part + 1] = total_l1, total_s


@kernel
def ssim_gradient(part, parts, x, t, rows, height, width, stride, maps, l1_scale, ssim_scale, v):
    """v = l1_scale sign(x - t) + ssim_scale dS/dx, written with row length `width`."""
    plane = x.size
    line = stride + 2 * PAD
    buffer = scratch(3 * line)
    row = scratch(16)
    for r in range(rows * part // parts, rows * (part + 1) // parts):
        top = (r + 2 * RADIUS * (r // height)) * stride
        for i in range(0, stride, 16):
            b0 = b1 = b2 = splat(0.0)
            for k in range(2 * RADIUS + 1):
                w = splat(WINDOW[k])
                at = top + k * stride + i
                b0 = fma(w, load(maps, at), b0)
                b1 = fma(w, load(maps, plane + at), b1)
                b2 = fma(w, load(maps, 2 * plane + at), b2)
            store(buffer, PAD + i, b0)
            store(buffer, line + PAD + i, b1)
            store(buffer, 2 * line + PAD + i, b2)
        for i in range(0, stride, 16):
            b0 = b1 = b2 = splat(0.0)
            for k in range(2 * RADIUS + 1):
                w = splat(WINDOW[k])
                at = PAD - RADIUS + i + k
                b0 = fma(w, load(buffer, at), b0)
                b1 = fma(w, load(buffer, line + at), b1)
                b2 = fma(w, load(buffer, 2 * line + at), b2)
            at = top + RADIUS * stride + i
            xv, tv = load(x, at), load(t, at)
            ds = b0 + 2.0 * xv * b1 + tv * b2
            sign = select(xv > tv, splat(1.0), select(xv < tv, splat(-1.0), splat(0.0)))
            ds = ssim_scale * ds + l1_scale * sign
            if i + 16 <= width:
                store(v, r * width + i, ds)
            else:
                store(row, 0, ds)
                for k in range(width - i):
                    v[r * width + i + k] = row[k]


class Buffers:
    """Padded planes of one image size, kept between calls: their borders are zero and stay so."""

    def __init__(self, height: int, width: int) -> None:
        # odd number of cache lines per row: rows of a power-of-two length share two sets of the L1 cache
        self.stride = 16 * (-(-width // 16) | 1)
        size = 3 * (height + 2 * RADIUS) * self.stride
        self.image, self.target, self.maps = (np.zeros(k * size, np.float32) for k in (1, 1, 3))


_free: dict[tuple[int, int], Buffers] = {}
_MOST_FREE = 4


def l1_ssim_gradient(
    image: Tensor, target: Tensor, ssim_weight: float, differentiate: bool, threads: int | None = None
) -> tuple[float, Tensor | None]:
    """The loss of `losses.l1_ssim` and, if wanted, its gradient (H, W, 3), whose memory is planar.

    Args:
        image, target: (H, W, 3), float32, in any memory layout; planes or pixels without gaps aren't copied first.
    """
    height, width = image.shape[:2]
    parts = threads or default_threads(width * height // 20, (width, height))
    buffers = _free.pop((height, width), None) or Buffers(height, width)
    stride, rows = buffers.stride, 3 * height
    for source, out in ((image, buffers.image), (target, buffers.target)):
        _pad(source.detach(), out, stride, parts)
    sums = np.zeros(2 * parts)
    common = buffers.image, buffers.target, rows, height, width, stride, buffers.maps
    run(parts, lambda p: ssim_maps(p, parts, *common, sums))
    count = rows * width
    l1, ssim = sums.reshape(-1, 2).sum(0) / count
    value = float((1 - ssim_weight) * l1 + ssim_weight * (1 - ssim))
    gradient = None
    if differentiate:
        planes = np.empty((3, height, width), np.float32)
        scales = np.float32((1 - ssim_weight) / count), np.float32(-ssim_weight / count)
        run(parts, lambda p: ssim_gradient(p, parts, *common, *scales, planes.reshape(-1)))
        gradient = torch.from_numpy(planes.transpose(1, 2, 0))
    if len(_free) >= _MOST_FREE:
        _free.pop(next(iter(_free)))
    _free[height, width] = buffers
    return value, gradient


def _pad(source: Tensor, out: Floats, stride: int, parts: int) -> None:
    height, width = source.shape[:2]
    planar = source.permute(2, 0, 1)
    if planar.is_contiguous():
        flat = planar.numpy().reshape(-1)
        run(parts, lambda p: pad_rows(p, parts, flat, 3 * height, height, width, stride, out))
    else:
        flat = source.contiguous().numpy().reshape(-1)
        run(parts, lambda p: pad_pixels(p, parts, flat, height, width, stride, out))
