"""Colors: spherical harmonics, their gradient, and the completed records of Gaussians that touch a pixel."""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.layout import BLUE, GREEN, RED, inline, kernel, scratch
from gaussianvae.rasterize.cpu.simd import fma, splat, trailing_zeros, vmax, vsqrt
from gaussianvae.rasterize.cpu.simd_memory import gather, gather_rows16, load, store, transpose16


@inline
def sh_basis(x, y, z, basis):
    """Real spherical harmonics up to degree 3 (the usual 3DGS signs) into 16 rows of scratch."""
    zz, fc1, fs1 = z * z, x * x - y * y, 2.0 * x * y
    b0, c0, c1 = -1.092548430592079 * z, -2.285228997322329 * zz + 0.4570457994644658, 1.445305721320277 * z
    store(basis, 0, splat(0.2820947917738781))
    store(basis, 16, -0.48860251190292 * y)
    store(basis, 32, 0.48860251190292 * z)
    store(basis, 48, -0.48860251190292 * x)
    store(basis, 64, 0.5462742152960395 * fs1)
    store(basis, 80, b0 * y)
    store(basis, 96, 0.9461746957575601 * zz - 0.3153915652525201)
    store(basis, 112, b0 * x)
    store(basis, 128, 0.5462742152960395 * fc1)
    store(basis, 144, -0.5900435899266435 * (x * fs1 + y * fc1))
    store(basis, 160, c1 * fs1)
    store(basis, 176, c0 * y)
    store(basis, 192, z * (1.865881662950577 * zz - 1.119528997770346))
    store(basis, 208, c0 * x)
    store(basis, 224, c1 * fc1)
    store(basis, 240, -0.5900435899266435 * (x * fc1 - y * fs1))


@inline
def direction(mean, cam):
    """Unit vector from the camera to the mean, world frame, and 1 / distance."""
    dx, dy, dz = mean[0] - cam[16], mean[1] - cam[17], mean[2] - cam[18]
    inv = 1.0 / vsqrt(vmax(dx * dx + dy * dy + dz * dz, splat(1e-24)))
    return dx * inv, dy * inv, dz * inv, inv


@inline
def pick_rows(ids, at, end, rows):
    """rows[lane] = ids[at + lane], the last one repeated past the end. Returns the number valid."""
    count = min(end - at, 16)
    for lane in range(16):
        rows[lane] = ids[at + min(lane, count - 1)]
    return count


@inline
def read_sh(sh, rows, stride, out):
    """out[16 * c + lane] = sh[stride * rows[lane] + c], c < stride, for increasing rows.

    Whole vectors are read, which near the end of sh would leave it: there one value at a time."""
    if stride * rows[15] + ((stride + 15) & -16) <= sh.size:
        for c in range(0, stride, 16):
            gather_rows16(sh, rows, stride, c, out, 16 * c)
    else:
        for c in range(stride):
            store(out, 16 * c, gather(sh, rows, stride, c))


@kernel
def sorted_ids(ids, n):
    """ids (distinct, below n) in increasing order, by way of a bitmap."""
    words = np.zeros((n + 63) // 64, np.uint64)
    for k in range(ids.size):
        words[ids[k] >> 6] |= np.uint64(1) << np.uint64(ids[k] & 63)
    out = np.empty(ids.size, np.int32)
    at = 0
    for k in range(words.size):
        word = words[k]
        while word != np.uint64(0):
            out[at] = 64 * k + np.int64(trailing_zeros(word))
            word &= word - np.uint64(1)
            at += 1
    return out


@kernel
def shade(ids, base, means, sh, cam, geom, rec, slot_of):
    """Complete records of the Gaussians ids; ids[k] gets row base + k of rec.

    Runs in index order, not in depth order: spherical harmonics are then read almost sequentially."""
    for k in range(ids.size):
        slot_of[ids[k]] = base + k
    n_coefs = sh.size // (3 * slot_of.size)
    ids = sorted_ids(ids, slot_of.size)
    rows = np.empty(16, np.int64)
    sht = scratch(48 * 16)  # SH coefficients, coefficient-major
    basis = scratch(256)
    out = scratch(256)
    colors = scratch(256)
    zero = splat(0.0)
    for at in range(0, ids.size, 16):
        count = pick_rows(ids, at, ids.size, rows)
        read_sh(sh, rows, 3 * n_coefs, sht)
        dx, dy, dz, _ = direction(
            (gather(means, rows, 3, 0), gather(means, rows, 3, 1), gather(means, rows, 3, 2)), cam
        )
        sh_basis(dx, dy, dz, basis)
        red = green = blue = splat(0.5)
        for k in range(n_coefs):
            w = load(basis, 16 * k)
            red = fma(w, load(sht, 48 * k), red)
            green = fma(w, load(sht, 48 * k + 16), green)
            blue = fma(w, load(sht, 48 * k + 32), blue)
        store(out, 16 * RED, vmax(red, zero))
        store(out, 16 * GREEN, vmax(green, zero))
        store(out, 16 * BLUE, vmax(blue, zero))
        transpose16(out, 0, 16, colors, 0, 16)
        for lane in range(count):
            store(rec, 16 * slot_of[rows[lane]], load(geom, 16 * rows[lane]) + load(colors, 16 * lane))


@inline
def sh_direction_gradient(x, y, z, vb):
    """Sum over coefficients of vb[k] * d basis[k] / d(x, y, z)."""
    k1, k4, k5, k9 = 0.48860251190292, 0.5462742152960395, -1.092548430592079, -0.5900435899266435
    k10, k12 = 1.445305721320277, 1.865881662950577
    xx, yy, zz, xy = x * x, y * y, z * z, x * y
    c0 = -2.285228997322329 * zz + 0.4570457994644658
    b4, b5, b6, b7 = load(vb, 64) * (2.0 * k4), load(vb, 80) * k5, load(vb, 96), load(vb, 112) * k5
    b8, b9 = load(vb, 128) * (2.0 * k4), load(vb, 144) * (3.0 * k9)
    b10, b11, b12 = load(vb, 160) * (2.0 * k10), load(vb, 176), load(vb, 192)
    b13, b14, b15 = load(vb, 208), load(vb, 224) * (2.0 * k10), load(vb, 240) * (3.0 * k9)
    diff = xx - yy
    vx = (
        load(vb, 48) * -k1
        + b4 * y
        + b7 * z
        + b8 * x
        + b9 * (2.0 * xy)
        + b10 * (z * y)
        + b13 * c0
        + b14 * (z * x)
        + b15 * diff
    )
    vy = (
        load(vb, 16) * -k1
        + b4 * x
        + b5 * z
        - b8 * y
        + b9 * diff
        + b10 * (z * x)
        + b11 * c0
        - b14 * (z * y)
        - b15 * (2.0 * xy)
    )
    vz = (
        load(vb, 32) * k1
        + b5 * y
        + b6 * (2.0 * 0.9461746957575601 * z)
        + b7 * x
        + b10 * xy
        + (b11 * y + b13 * x) * (-4.570457994644658 * z)
        + b12 * (3.0 * k12 * zz - 1.119528997770346)
        + b14 * (0.5 * diff)
    )
    return vx, vy, vz
