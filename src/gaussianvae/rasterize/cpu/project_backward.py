"""From sums over pixels to gradients of means, rotations, scales, opacities and harmonics.

The chain, per Gaussian: moments of w in (dx, t) -> center, covariance, opacity -> rows U, V of J W R S -> scales,
rotation, Jacobian -> mean; colors -> harmonics and their direction -> mean. Everything the forward pass knew is
computed again: cheaper than reading it.
"""

from __future__ import annotations

import numpy as np

from gaussianvae.rasterize.cpu.harmonics import direction, read_sh, sh_basis, sh_direction_gradient
from gaussianvae.rasterize.cpu.layout import (
    BLUE,
    G_ABSX,
    G_ABSY,
    G_BLUE,
    G_DEPTH,
    G_GREEN,
    G_RED,
    G_W,
    G_WT,
    G_WTT,
    G_WTX,
    G_WX,
    G_WXX,
    GREEN,
    RED,
    ZERO,
    inline,
    kernel,
    scratch,
)
from gaussianvae.rasterize.cpu.project import geometry
from gaussianvae.rasterize.cpu.simd import fma, select, splat, vmax
from gaussianvae.rasterize.cpu.simd_memory import gather, gather_rows16, load, store, transpose16

# rows of the scratch in which gradients wait to be written: three means, scales, four quats, opacity, four means2d
V_MEAN, V_SCALE, V_QUAT, V_OPACITY, V_CENTER = 0, 3, 6, 10, 11


@inline
def write_row(source, at, stride, v_sh, i, hi):
    """v_sh[stride * i + c] = source[at + c], c < stride, in whole vectors: they spill over the rows after i.

    Those are written later, as rows are written in increasing order; rows from hi on belong to another part."""
    if stride * i + ((stride + 15) & -16) <= stride * hi:
        for c in range(0, stride, 16):
            store(v_sh, stride * i + c, load(source, at + c))
    else:
        for c in range(stride):
            v_sh[stride * i + c] = source[at + c]


@inline
def read_moments(moments, slots, scratch, g):
    """g[16 * field + lane]: moments (parts, 16 * records) of sixteen records, summed over the parts."""
    for lane in range(16):
        total = load(moments[0], 16 * slots[lane])
        for part in range(1, moments.shape[0]):
            total = total + load(moments[part], 16 * slots[lane])
        store(scratch, 16 * lane, total)
    transpose16(scratch, 0, 16, g, 0, 16)


@inline
def footprint_gradient(g, geo, eps, compensated):
    """dL/d(center x, y) and dL/d(a, b, c) of the filtered covariance, from the moments g.

    ln alpha = ln o - (dx^2 / a + t^2 / kappa) / 2, t = dy - slope dx, slope = b / a, kappa = c - b^2 / a."""
    a, c = geo.a0 + eps, geo.c0 + eps
    inv_a = 1.0 / a
    slope = geo.b * inv_a
    inv_kappa = a / geo.det
    g_w, g_wx, g_wxx = load(g, 16 * G_W), load(g, 16 * G_WX), load(g, 16 * G_WXX)
    g_wt, g_wtx, g_wtt = load(g, 16 * G_WT), load(g, 16 * G_WTX), load(g, 16 * G_WTT)
    v_mx = inv_a * g_wx - slope * inv_kappa * g_wt
    v_my = inv_kappa * g_wt
    v_kappa = 0.5 * inv_kappa * inv_kappa * g_wtt
    v_slope = inv_kappa * g_wtx
    v_a = 0.5 * inv_a * inv_a * g_wxx + slope * (slope * v_kappa - v_slope * inv_a)
    v_b = v_slope * inv_a - 2.0 * slope * v_kappa
    v_c = v_kappa
    if compensated:  # ln o gets half of ln(det0 / det)
        r0 = select(geo.det0 > 1e-12 * geo.det, 0.5 / geo.det0, splat(0.0))
        r1 = 0.5 / geo.det
        v_a = v_a + g_w * (r0 * geo.c0 - r1 * c)
        v_c = v_c + g_w * (r0 * geo.a0 - r1 * a)
        v_b = v_b - 2.0 * g_w * geo.b * (r0 - r1)
    return v_mx, v_my, v_a, v_b, v_c, inv_kappa


@inline
def rotation_gradient(geo, vpu, vpv, out):
    """dL/dquat, from dL/d(rows of J W R), into the scratch."""
    tu, tv = geo.tu, geo.tv
    r00, r01, r02 = (
        tu[0] * vpu[0] + tv[0] * vpv[0],
        tu[0] * vpu[1] + tv[0] * vpv[1],
        tu[0] * vpu[2] + tv[0] * vpv[2],
    )
    r10, r11, r12 = (
        tu[1] * vpu[0] + tv[1] * vpv[0],
        tu[1] * vpu[1] + tv[1] * vpv[1],
        tu[1] * vpu[2] + tv[1] * vpv[2],
    )
    r20, r21, r22 = (
        tu[2] * vpu[0] + tv[2] * vpv[0],
        tu[2] * vpu[1] + tv[2] * vpv[1],
        tu[2] * vpu[2] + tv[2] * vpv[2],
    )
    qw, qi, qj, qk = geo.quat
    vqw = 2.0 * (qi * (r21 - r12) + qj * (r02 - r20) + qk * (r10 - r01))
    vqi = 2.0 * (qw * (r21 - r12) + qj * (r01 + r10) + qk * (r02 + r20)) - 4.0 * qi * (r11 + r22)
    vqj = 2.0 * (qw * (r02 - r20) + qi * (r01 + r10) + qk * (r12 + r21)) - 4.0 * qj * (r00 + r22)
    vqk = 2.0 * (qw * (r10 - r01) + qi * (r02 + r20) + qj * (r12 + r21)) - 4.0 * qk * (r00 + r11)
    along = qw * vqw + qi * vqi + (qj * vqj + qk * vqk)
    store(out, 16 * V_QUAT, (vqw - qw * along) * geo.inv_norm)
    store(out, 16 * V_QUAT + 16, (vqi - qi * along) * geo.inv_norm)
    store(out, 16 * V_QUAT + 32, (vqj - qj * along) * geo.inv_norm)
    store(out, 16 * V_QUAT + 48, (vqk - qk * along) * geo.inv_norm)


@inline
def position_gradient(geo, cam, v_mx, v_my, v_depth, vtu, vtv):
    """dL/dmean by way of center, depth and Jacobian: j00 = fx / z, j02 = -fx qx / z, qx = clamp(x / z)."""
    rz, zero = geo.rz, splat(0.0)
    fx, fy = cam[12], cam[13]
    vj00 = vtu[0] * cam[0] + vtu[1] * cam[1] + vtu[2] * cam[2]
    vj02 = vtu[0] * cam[6] + vtu[1] * cam[7] + vtu[2] * cam[8]
    vj11 = vtv[0] * cam[3] + vtv[1] * cam[4] + vtv[2] * cam[5]
    vj12 = vtv[0] * cam[6] + vtv[1] * cam[7] + vtv[2] * cam[8]
    free_x = (geo.xz >= cam[19]) & (geo.xz <= cam[20])
    free_y = (geo.yz >= cam[21]) & (geo.yz <= cam[22])
    v_xz = fx * v_mx - select(free_x, fx * rz * vj02, zero)
    v_yz = fy * v_my - select(free_y, fy * rz * vj12, zero)
    v_rz = fx * (vj00 - geo.qx * vj02) + fy * (vj11 - geo.qy * vj12) + geo.x * v_xz + geo.y * v_yz
    vx, vy = v_xz * rz, v_yz * rz
    vz = v_depth - v_rz * rz * rz
    return (
        vx * cam[0] + vy * cam[3] + vz * cam[6],
        vx * cam[1] + vy * cam[4] + vz * cam[7],
        vx * cam[2] + vy * cam[5] + vz * cam[8],
    )


@inline
def geometry_gradient(geo, s, opacity, g, cam, eps, compensated, out):
    """All but the colors, into the scratch; returns dL/dmean so far."""
    v_mx, v_my, v_a, v_b, v_c, inv_kappa = footprint_gradient(g, geo, eps, compensated)
    u, v, pu, pv, rot = geo.u, geo.v, geo.pu, geo.pv, geo.rot
    vu = (2.0 * v_a * u[0] + v_b * v[0], 2.0 * v_a * u[1] + v_b * v[1], 2.0 * v_a * u[2] + v_b * v[2])
    vv = (2.0 * v_c * v[0] + v_b * u[0], 2.0 * v_c * v[1] + v_b * u[1], 2.0 * v_c * v[2] + v_b * u[2])
    store(out, 16 * V_SCALE, vu[0] * pu[0] + vv[0] * pv[0])
    store(out, 16 * V_SCALE + 16, vu[1] * pu[1] + vv[1] * pv[1])
    store(out, 16 * V_SCALE + 32, vu[2] * pu[2] + vv[2] * pv[2])
    vpu = (vu[0] * s[0], vu[1] * s[1], vu[2] * s[2])
    vpv = (vv[0] * s[0], vv[1] * s[1], vv[2] * s[2])
    rotation_gradient(geo, vpu, vpv, out)
    vtu = (
        vpu[0] * rot[0] + vpu[1] * rot[1] + vpu[2] * rot[2],
        vpu[0] * rot[3] + vpu[1] * rot[4] + vpu[2] * rot[5],
        vpu[0] * rot[6] + vpu[1] * rot[7] + vpu[2] * rot[8],
    )
    vtv = (
        vpv[0] * rot[0] + vpv[1] * rot[1] + vpv[2] * rot[2],
        vpv[0] * rot[3] + vpv[1] * rot[4] + vpv[2] * rot[5],
        vpv[0] * rot[6] + vpv[1] * rot[7] + vpv[2] * rot[8],
    )
    store(out, 16 * V_OPACITY, load(g, 16 * G_W) / vmax(opacity, splat(1e-30)))
    store(out, 16 * V_CENTER, v_mx)
    store(out, 16 * V_CENTER + 16, v_my)
    store(out, 16 * V_CENTER + 32, load(g, 16 * G_ABSX))
    store(out, 16 * V_CENTER + 48, inv_kappa * load(g, 16 * G_ABSY))
    return position_gradient(geo, cam, v_mx, v_my, load(g, 16 * G_DEPTH), vtu, vtv)


@kernel
def project_backward(
    lo,
    hi,
    means,
    quats,
    scales,
    opacities,
    sh,
    cam,
    eps,
    compensated,
    rec,
    slot_of,
    moments,
    v_means,
    v_quats,
    v_scales,
    v_opacities,
    v_sh,
    v_means2d,
):
    """Gradients of Gaussians lo..hi in index order, sixteen active ones at a time; zeros for the others.

    moments: (parts, 16 * records), summed here. v_means2d columns: x, y, |x|, |y|."""
    rows = np.empty(16, np.int64)
    slots = np.empty(16, np.int64)
    sht = scratch(48 * 16)  # coefficients, one row of lanes each
    basis = scratch(256)
    fields = scratch(256)  # the record, transposed
    g = scratch(256)  # the moments, transposed
    out = scratch(256)
    v_basis = scratch(256)
    with_sh = v_sh.size > 0
    v_sht = scratch(48 * 16)
    v_shr = scratch(48 * 16)
    nothing = scratch(48)
    zero = splat(0.0)
    n_coefs = sh.size // (3 * opacities.size)
    stride = 3 * n_coefs
    at = lo
    while at < hi:
        count = 0
        while at < hi and count < 16:
            if slot_of[at] >= 0:
                rows[count] = at
                count += 1
            else:
                for c in range(3):
                    v_means[3 * at + c] = v_scales[3 * at + c] = ZERO
                for c in range(4):
                    v_quats[4 * at + c] = v_means2d[4 * at + c] = ZERO
                v_opacities[at] = ZERO
                if with_sh:
                    write_row(nothing, 0, stride, v_sh, at, hi)
            at += 1
        if count == 0:
            break
        for lane in range(count, 16):
            rows[lane] = rows[count - 1]
        for lane in range(16):
            slots[lane] = slot_of[rows[lane]]
        read_moments(moments, slots, out, g)
        gather_rows16(rec, slots, 16, 0, fields, 0)
        mean = gather(means, rows, 3, 0), gather(means, rows, 3, 1), gather(means, rows, 3, 2)
        quat = (
            gather(quats, rows, 4, 0),
            gather(quats, rows, 4, 1),
            gather(quats, rows, 4, 2),
            gather(quats, rows, 4, 3),
        )
        s = gather(scales, rows, 3, 0), gather(scales, rows, 3, 1), gather(scales, rows, 3, 2)
        geo = geometry(mean, quat, s, cam, eps)
        v_px, v_py, v_pz = geometry_gradient(geo, s, gather(opacities, rows, 1, 0), g, cam, eps, compensated, out)

        v_red = select(load(fields, 16 * RED) > 0.0, load(g, 16 * G_RED), zero)
        v_green = select(load(fields, 16 * GREEN) > 0.0, load(g, 16 * G_GREEN), zero)
        v_blue = select(load(fields, 16 * BLUE) > 0.0, load(g, 16 * G_BLUE), zero)
        dx, dy, dz, inv_dist = direction(mean, cam)
        sh_basis(dx, dy, dz, basis)
        read_sh(sh, rows, stride, sht)
        for k in range(n_coefs):
            value = load(basis, 16 * k)
            v_value = fma(
                v_red,
                load(sht, 48 * k),
                fma(v_green, load(sht, 48 * k + 16), v_blue * load(sht, 48 * k + 32)),
            )
            store(v_basis, 16 * k, v_value)
            store(v_sht, 48 * k, value * v_red)
            store(v_sht, 48 * k + 16, value * v_green)
            store(v_sht, 48 * k + 32, value * v_blue)
        v_dx, v_dy, v_dz = sh_direction_gradient(dx, dy, dz, v_basis)
        along = dx * v_dx + dy * v_dy + dz * v_dz
        store(out, 16 * V_MEAN, v_px + (v_dx - dx * along) * inv_dist)
        store(out, 16 * V_MEAN + 16, v_py + (v_dy - dy * along) * inv_dist)
        store(out, 16 * V_MEAN + 32, v_pz + (v_dz - dz * along) * inv_dist)

        for c in range(0, stride, 16):
            transpose16(v_sht, 16 * c, 16, v_shr, c, 48)
        for lane in range(count):
            i = rows[lane]
            if with_sh:
                write_row(v_shr, 48 * lane, stride, v_sh, i, hi)
            for c in range(3):
                v_means[3 * i + c] = out[16 * (V_MEAN + c) + lane]
                v_scales[3 * i + c] = out[16 * (V_SCALE + c) + lane]
            for c in range(4):
                v_quats[4 * i + c] = out[16 * (V_QUAT + c) + lane]
                v_means2d[4 * i + c] = out[16 * (V_CENTER + c) + lane]
            v_opacities[i] = out[16 * V_OPACITY + lane]
