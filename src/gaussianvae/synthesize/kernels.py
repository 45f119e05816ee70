"""Compiled loops over rays and corners: plain arrays in, plain arrays out."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

NOTHING = np.float32(np.inf)


@njit(cache=True)
def corner_normals(faces, areas, around, starts, limit):
    """Corner normals from area vectors (F, 3); `around[starts[v]:starts[v + 1]]` are the triangles at vertex v."""
    normals = np.zeros((len(faces), 3, 3))
    for face in range(len(faces)):
        own = areas[face]
        length = math.sqrt(own[0] ** 2 + own[1] ** 2 + own[2] ** 2) + 1e-30
        for corner in range(3):
            vertex = faces[face, corner]
            x, y, z = 0.0, 0.0, 0.0
            for slot in range(starts[vertex], starts[vertex + 1]):
                other = areas[around[slot]]
                size = math.sqrt(other[0] ** 2 + other[1] ** 2 + other[2] ** 2) + 1e-30
                cosine = (own[0] * other[0] + own[1] * other[1] + own[2] * other[2]) / (length * size)
                if around[slot] == face or cosine > limit:
                    x += other[0]
                    y += other[1]
                    z += other[2]
            size = math.sqrt(x * x + y * y + z * z) + 1e-30
            normals[face, corner, 0] = x / size
            normals[face, corner, 1] = y / size
            normals[face, corner, 2] = z / size
    return normals


@njit(cache=True)
def pixel_rays(rotation, inverse_k, width, first_row, rows, side):
    """Directions (rows * width * side^2, 3) in the world; their length along the optical axis is 1, so that a hit's
    ray parameter is its z-depth. The samples of a pixel are neighbors."""
    directions = np.empty((rows * width * side * side, 3), np.float32)
    index = 0
    for row in range(first_row, first_row + rows):
        for column in range(width):
            for sub_row in range(side):
                for sub_column in range(side):
                    # canonical multi-jitter: no two samples share a column or a row, so upright edges get side^2 steps
                    x = column + (sub_column + (sub_row + 0.5) / side) / side
                    y = row + (sub_row + (sub_column + 0.5) / side) / side
                    cx = inverse_k[0, 0] * x + inverse_k[0, 1] * y + inverse_k[0, 2]
                    cy = inverse_k[1, 1] * y + inverse_k[1, 2]
                    for axis in range(3):
                        directions[index, axis] = rotation[0, axis] * cx + rotation[1, axis] * cy + rotation[2, axis]
                    index += 1
    return directions


@njit(cache=True)
def _texel(atlas, decode, start, height, width, u, v, out):
    """Bilinear lookup of one mip level, repeated beyond 0-1, in linear light."""
    x = (u - math.floor(u)) * width - 0.5
    y = (1 - (v - math.floor(v))) * height - 0.5
    left, top = math.floor(x), math.floor(y)
    fx, fy = np.float32(x - left), np.float32(y - top)
    x0, y0 = int(left) % width, int(top) % height
    x1, y1 = (x0 + 1) % width, (y0 + 1) % height
    a, b = start + y0 * width + x0, start + y0 * width + x1
    c, d = start + y1 * width + x0, start + y1 * width + x1
    for channel in range(3):
        upper = decode[atlas[a, channel]] * (1 - fx) + decode[atlas[b, channel]] * fx
        lower = decode[atlas[c, channel]] * (1 - fx) + decode[atlas[d, channel]] * fx
        out[channel] = upper * (1 - fy) + lower * fy


@njit(cache=True)
def _visible(shadow_map, basis, x, y, z, softness):
    """Share of a light that reaches a point: the filtered comparison with the light's height map."""
    size = shadow_map.shape[0]
    reach = 1.05
    mx = ((basis[0, 0] * x + basis[0, 1] * y + basis[0, 2] * z) / reach * 0.5 + 0.5) * size - 0.5
    my = ((basis[1, 0] * x + basis[1, 1] * y + basis[1, 2] * z) / reach * 0.5 + 0.5) * size - 0.5
    height = basis[2, 0] * x + basis[2, 1] * y + basis[2, 2] * z
    left, top = int(math.floor(mx)), int(math.floor(my))
    fx, fy = mx - left, my - top
    if softness == 0 and left >= 0 and top >= 0 and left < size - 1 and top < size - 1:
        upper = (shadow_map[top, left] <= height) * (1 - fx) + (shadow_map[top, left + 1] <= height) * fx
        lower = (shadow_map[top + 1, left] <= height) * (1 - fx) + (shadow_map[top + 1, left + 1] <= height) * fx
        return np.float32(upper * (1 - fy) + lower * fy)
    total = np.float32(0.0)
    weight = np.float32(0.0)
    # a box of 2 softness + 1 texels, its borders weighted by the fraction: continuous as the point moves
    for row in range(top - softness, top + softness + 2):
        wy = 1 - fy if row == top - softness else (fy if row == top + softness + 1 else 1.0)
        for column in range(left - softness, left + softness + 2):
            wx = 1 - fx if column == left - softness else (fx if column == left + softness + 1 else 1.0)
            weight += wx * wy
            if row < 0 or column < 0 or row >= size or column >= size or shadow_map[row, column] <= height:
                total += wx * wy
    return total / weight


@njit(cache=True, error_model="numpy")
def shade(
    prims, us, vs, depths, directions, eye, spread, side, exposure,
    corners, normals, uvs, tints, materials, densities,
    atlas, decode, levels, level_counts, glosses, shininesses,
    sky, ground, light_directions, light_colors, light_maps, light_softness, light_bias, bases, maps_small, maps_large,
    encode, out,
):  # fmt: skip
    """Fill `out` (pixels, 4), 8-bit straight-alpha display values, from the hits of side^2 samples a pixel.

    `spread` is the distance between samples at depth 1; it picks the mip level. Light maps: -1 none, i >= 0 row i of
    `maps_small`, i <= -2 row -i - 2 of `maps_large`.
    """
    samples = side * side
    color = np.zeros(3, np.float32)
    base = np.zeros(3, np.float32)
    for pixel in range(len(out)):
        hits = 0
        color[:] = 0
        for index in range(pixel * samples, (pixel + 1) * samples):
            prim = prims[index]
            if prim < 0:
                continue
            hits += 1
            b, c = us[index], vs[index]
            a = 1 - b - c
            dx, dy, dz = directions[index, 0], directions[index, 1], directions[index, 2]
            length = math.sqrt(dx * dx + dy * dy + dz * dz)
            depth = depths[index]
            px, py, pz = eye[0] + depth * dx, eye[1] + depth * dy, eye[2] + depth * dz
            dx, dy, dz = dx / length, dy / length, dz / length
            n = normals[prim]
            nx = a * n[0, 0] + b * n[1, 0] + c * n[2, 0]
            ny = a * n[0, 1] + b * n[1, 1] + c * n[2, 1]
            nz = a * n[0, 2] + b * n[1, 2] + c * n[2, 2]
            size = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-20
            # the side by the triangle itself: an interpolated normal may lean away at a silhouette
            p = corners[prim]
            ex, ey, ez = p[1, 0] - p[0, 0], p[1, 1] - p[0, 1], p[1, 2] - p[0, 2]
            qx, qy, qz = p[2, 0] - p[0, 0], p[2, 1] - p[0, 1], p[2, 2] - p[0, 2]
            gx, gy, gz = ey * qz - ez * qy, ez * qx - ex * qz, ex * qy - ey * qx
            if gx * nx + gy * ny + gz * nz < 0:
                gx, gy, gz = -gx, -gy, -gz
            if gx * dx + gy * dy + gz * dz > 0:
                size = -size
            nx, ny, nz = nx / size, ny / size, nz / size
            facing = -(nx * dx + ny * dy + nz * dz)

            material = materials[prim]
            t = uvs[prim]
            u = a * t[0, 0] + b * t[1, 0] + c * t[2, 0]
            v = a * t[0, 1] + b * t[1, 1] + c * t[2, 1]
            footprint = densities[prim] * spread * depth / math.sqrt(max(facing, 0.05))
            level = 0
            if footprint > 1.41421356:
                level = min(int(math.log2(footprint) + 0.5), level_counts[material] - 1)
            row = levels[material, level]
            _texel(atlas, decode, row[0], row[1], row[2], u, v, base)
            w = tints[prim]
            for channel in range(3):
                base[channel] *= a * w[0, channel] + b * w[1, channel] + c * w[2, channel]

            gloss, shininess = glosses[material], shininesses[material]
            up = np.float32(0.5 + 0.5 * nz)
            for channel in range(3):
                color[channel] += base[channel] * (ground[channel] + (sky[channel] - ground[channel]) * up)
            if gloss > 0:
                mirror = nz * 2 * facing + dz
                tilt = min(max(0.5 + 2 * mirror, 0.0), 1.0)
                fresnel = gloss * (0.08 + 0.92 * (1 - min(max(facing, 0.0), 1.0)) ** 5)
                for channel in range(3):
                    color[channel] += fresnel * (ground[channel] + (sky[channel] - ground[channel]) * tilt)
            for light in range(len(light_directions)):
                lx, ly, lz = light_directions[light, 0], light_directions[light, 1], light_directions[light, 2]
                cosine = nx * lx + ny * ly + nz * lz
                if cosine <= 0:
                    continue
                strength = 1.0
                which = light_maps[light]
                if which != -1:
                    shift = light_bias[light]
                    sx, sy, sz = px + shift * (nx + lx), py + shift * (ny + ly), pz + shift * (nz + lz)
                    if which >= 0:
                        strength = _visible(maps_small[which], bases[light], sx, sy, sz, light_softness[light])
                    else:
                        strength = _visible(maps_large[-which - 2], bases[light], sx, sy, sz, light_softness[light])
                    if strength <= 0:
                        continue
                shine = 0.0
                if gloss > 0:
                    hx, hy, hz = lx - dx, ly - dy, lz - dz
                    half = (nx * hx + ny * hy + nz * hz) / (math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-20)
                    if half > 0:
                        shine = gloss * half**shininess * (shininess + 8) / 38
                for channel in range(3):
                    color[channel] += (
                        light_colors[light, channel]
                        * strength
                        * (base[channel] * cosine + shine * min(1.0, 4 * cosine))
                    )
        if hits == 0:
            out[pixel, 0] = out[pixel, 1] = out[pixel, 2] = out[pixel, 3] = 0
            continue
        for channel in range(3):
            value = min(max(exposure * color[channel] / hits, 0.0), 1.0)
            out[pixel, channel] = encode[int(value * (len(encode) - 1) + 0.5)]
        out[pixel, 3] = int(255 * hits / samples + 0.5)
