"""Projection: Gaussians to records, sixteen at a time (lanes are Gaussians).

A record keeps the projected Gaussian in the factored form

    q(dx, dy) = dx^2 / a + t^2 / kappa,   t = dy - slope dx,   a = cov_xx, slope = cov_xy / a, kappa = det / a

Both terms are >= 0, so needles lose no digits to cancellation; dx is constant while walking down a tile, and one step
down costs an add, a multiplication and an fma. The opacity is folded in: alpha = 2^(log2 o - q log2(e) / 2).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gaussianvae.rasterize.cpu.layout import (
    DEPTH,
    FAR,
    HALF_LOG2E,
    INV_A,
    KAPPA,
    LOG2_255,
    LOG2OP,
    MX,
    MY,
    NEAR,
    QA,
    QT,
    RX,
    RY,
    SLOPE,
    TAU,
    TWO_LN2,
    XTOP,
    inline,
    kernel,
    scratch,
)
from gaussianvae.rasterize.cpu.simd import log2, select, splat, vmax, vmin, vsqrt
from gaussianvae.rasterize.cpu.simd_memory import load, load3, load4, store, transpose16


class Geometry(NamedTuple):
    """What the forward pass makes records of and the backward pass needs again; every leaf is one vector."""

    in_range: Any
    """Mask of depths between the near and the far plane; the others have z = 1."""
    x: Any
    y: Any
    rz: Any
    """1 / z, camera space."""
    xz: Any
    yz: Any
    """x / z and y / z."""
    qx: Any
    qy: Any
    """The same, clamped for the Jacobian."""
    tu: Any
    tv: Any
    """Rows of J W: Jacobian times the camera's rotation."""
    quat: Any
    inv_norm: Any
    """Unit quaternion, and 1 / the length of what was given."""
    rot: Any
    """Rotation matrix, row by row."""
    pu: Any
    pv: Any
    """Rows of J W R."""
    u: Any
    v: Any
    """Rows of J W R S, the root of the bare 2D covariance."""
    a0: Any
    b: Any
    c0: Any
    """Bare 2D covariance [[a0, b], [b, c0]]."""
    det0: Any
    det: Any
    """Determinants of the bare and of the filtered covariance."""


@inline
def geometry(mean, quat, s, cam, eps):
    """Camera-space point and 2D covariance with its root; cam as packed by `frame.camera_vector`."""
    px, py, pz = mean
    x = px * cam[0] + (py * cam[1] + (pz * cam[2] + cam[9]))
    y = px * cam[3] + (py * cam[4] + (pz * cam[5] + cam[10]))
    z = px * cam[6] + (py * cam[7] + (pz * cam[8] + cam[11]))
    in_range = (z > NEAR) & (z < FAR)
    z = select(in_range, z, splat(1.0))
    rz = 1.0 / z
    xz, yz = x * rz, y * rz
    qx = vmin(vmax(xz, splat(cam[19])), splat(cam[20]))  # clamped for the Jacobian only
    qy = vmin(vmax(yz, splat(cam[21])), splat(cam[22]))
    j00, j11 = cam[12] * rz, cam[13] * rz
    j02, j12 = -(j00 * qx), -(j11 * qy)
    tu = (j00 * cam[0] + j02 * cam[6], j00 * cam[1] + j02 * cam[7], j00 * cam[2] + j02 * cam[8])
    tv = (j11 * cam[3] + j12 * cam[6], j11 * cam[4] + j12 * cam[7], j11 * cam[5] + j12 * cam[8])
    qw, qi, qj, qk = quat
    inv_norm = 1.0 / vsqrt(vmax(qw * qw + qi * qi + (qj * qj + qk * qk), splat(1e-24)))
    qw, qi, qj, qk = qw * inv_norm, qi * inv_norm, qj * inv_norm, qk * inv_norm
    rot = (
        1.0 - 2.0 * (qj * qj + qk * qk),
        2.0 * (qi * qj - qw * qk),
        2.0 * (qi * qk + qw * qj),
        2.0 * (qi * qj + qw * qk),
        1.0 - 2.0 * (qi * qi + qk * qk),
        2.0 * (qj * qk - qw * qi),
        2.0 * (qi * qk - qw * qj),
        2.0 * (qj * qk + qw * qi),
        1.0 - 2.0 * (qi * qi + qj * qj),
    )
    pu = (
        tu[0] * rot[0] + tu[1] * rot[3] + tu[2] * rot[6],
        tu[0] * rot[1] + tu[1] * rot[4] + tu[2] * rot[7],
        tu[0] * rot[2] + tu[1] * rot[5] + tu[2] * rot[8],
    )
    pv = (
        tv[0] * rot[0] + tv[1] * rot[3] + tv[2] * rot[6],
        tv[0] * rot[1] + tv[1] * rot[4] + tv[2] * rot[7],
        tv[0] * rot[2] + tv[1] * rot[5] + tv[2] * rot[8],
    )
    u = (pu[0] * s[0], pu[1] * s[1], pu[2] * s[2])
    v = (pv[0] * s[0], pv[1] * s[1], pv[2] * s[2])
    a0 = u[0] * u[0] + u[1] * u[1] + u[2] * u[2]
    b = u[0] * v[0] + u[1] * v[1] + u[2] * v[2]
    c0 = v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
    # Lagrange: det(U U^T) = |u x v|^2, free of cancellation for needles
    w0, w1, w2 = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
    det0 = w0 * w0 + w1 * w1 + w2 * w2
    det = det0 + eps * (a0 + c0) + eps * eps
    return Geometry(
        in_range, x, y, rz, xz, yz, qx, qy, tu, tv, (qw, qi, qj, qk), inv_norm, rot, pu, pv, u, v, a0, b, c0, det0, det
    )


@kernel
def project(part, parts, means, quats, scales, opacities, cam, width, height, eps, compensated, geom):
    """Records without colors of all n >= 16 Gaussians into geom (16 n,); RY is 0 for what can't be seen."""
    n = opacities.size
    chunks = (n + 15) // 16
    out = scratch(256)
    zero = splat(0.0)
    for chunk in range(chunks * part // parts, chunks * (part + 1) // parts):
        i = min(16 * chunk, n - 16)  # the last chunk overlaps, same values again
        geo = geometry(load3(means, 3 * i), load4(quats, 4 * i), load3(scales, 3 * i), cam, eps)
        a, c = geo.a0 + eps, geo.c0 + eps
        inv_a = 1.0 / a
        kappa = geo.det * inv_a
        opacity = load(opacities, i)
        if compensated:
            opacity = opacity * vsqrt(geo.det0 / geo.det)
        log2op = log2(vmax(opacity, splat(1e-30)))
        tau = TWO_LN2 * (log2op + LOG2_255)  # q <= tau  <=>  alpha >= 1/255
        visible = geo.in_range & (tau > 0.0)
        tau = vmax(tau, zero)
        rx, ry = vsqrt(tau * a), vsqrt(tau * c)
        mx, my = cam[12] * geo.xz + cam[14], cam[13] * geo.yz + cam[15]
        visible = visible & (mx + rx > 0.5) & (mx - rx < width - 0.5) & (my + ry > 0.5) & (my - ry < height - 0.5)
        store(out, 16 * MX, mx)
        store(out, 16 * MY, my)
        store(out, 16 * QA, -HALF_LOG2E * inv_a)
        store(out, 16 * SLOPE, geo.b * inv_a)
        store(out, 16 * QT, -HALF_LOG2E / kappa)
        store(out, 16 * LOG2OP, log2op)
        store(out, 16 * DEPTH, 1.0 / geo.rz)
        store(out, 16 * RX, rx)
        store(out, 16 * XTOP, geo.b * vsqrt(tau / c))
        store(out, 16 * INV_A, inv_a)
        store(out, 16 * KAPPA, kappa)
        store(out, 16 * TAU, tau)
        store(out, 16 * RY, select(visible, ry, zero))
        transpose16(out, 0, 16, geom, 16 * i, 16)
