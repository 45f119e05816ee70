"""Triangles with all that shading needs: corner normals, texture coordinates, tints, materials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int, UInt8

from gaussianvae.synthesize.kernels import corner_normals


@dataclass(frozen=True)
class Material:
    """How a surface reflects."""

    texture: UInt8[np.ndarray, "h w 3"]
    """Base color in display values, repeated beyond 0-1; row 0 is v = 1."""
    gloss: float = 0.0
    """Strength of highlights and reflections, 0-1."""
    shininess: float = 30.0
    """Sharpness of highlights: the exponent of the half vector's cosine."""


@dataclass(frozen=True)
class Surface:
    """F triangles; everything is stored at their corners, so that nothing is shared and parts simply join."""

    corners: Float[np.ndarray, "F 3 3"]
    """World positions."""
    normals: Float[np.ndarray, "F 3 3"]
    """Unit normals; their side doesn't matter, both sides of a triangle are shown."""
    uvs: Float[np.ndarray, "F 3 2"]
    """Texture coordinates."""
    tints: Float[np.ndarray, "F 3 3"]
    """Factors of the base color, linear light."""
    materials: Int[np.ndarray, " F"]
    """Row of the material of each triangle."""

    def __len__(self) -> int:
        return len(self.corners)


def join(surfaces: Sequence[Surface]) -> Surface:
    """Several surfaces as one; materials keep their numbers."""
    names = ("corners", "normals", "uvs", "tints", "materials")
    return Surface(*(np.concatenate([getattr(surface, name) for surface in surfaces]) for name in names))


def crease_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], crease: float = 40.0
) -> Float[np.ndarray, "F 3 3"]:
    """Corner normals: area-weighted means over the triangles at a vertex that turn by less than `crease` degrees."""
    order = np.argsort(faces.ravel(), kind="stable")
    starts = np.searchsorted(faces.ravel()[order], np.arange(len(vertices) + 1))
    triangles = np.asarray(vertices, np.float64)[faces]
    areas = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return np.asarray(
        corner_normals(faces.astype(np.int64), areas, order // 3, starts, float(np.cos(np.radians(crease)))), np.float32
    )


def box_uvs(
    points: Float[np.ndarray, "F 3 3"], density: float, offset: Float[np.ndarray, "2"]
) -> Float[np.ndarray, "F 3 2"]:
    """Texture coordinates by projection along the axis that each triangle faces most.

    Args:
        points: corners in the part's own frame.
        density: repetitions of the texture per unit of length.
        offset: added to all coordinates.
    """
    facing = np.abs(np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])).argmax(1)
    # side walls keep v upright: (y, z), (x, z), (x, y)
    across = np.array([1, 0, 0])[facing]
    upward = np.array([2, 2, 1])[facing]
    rows = np.arange(len(points))
    uvs = np.stack([points[rows, :, across], points[rows, :, upward]], -1)
    return np.asarray(uvs * density + offset, np.float32)


def transformed(surface: Surface, matrix: Float[np.ndarray, "4 4"]) -> Surface:
    """The surface under an affine map; normals follow its inverse transpose."""
    linear = np.asarray(matrix[:3, :3], np.float64)
    corners = surface.corners @ linear.T + matrix[:3, 3]
    normals = surface.normals @ np.linalg.inv(linear)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return replace(surface, corners=corners.astype(np.float32), normals=normals.astype(np.float32))


def without_slivers(surface: Surface) -> Surface:
    """Without triangles of no area, which no ray can hit."""
    corners = surface.corners.astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    keep = area > 1e-14
    return Surface(
        surface.corners[keep], surface.normals[keep], surface.uvs[keep], surface.tints[keep], surface.materials[keep]
    )


def into_unit_ball(surface: Surface) -> Surface:
    """Moved and scaled so that the bounding box is centered at the origin and the farthest corner has distance 1."""
    flat = surface.corners.reshape(-1, 3).astype(np.float64)
    center = (flat.max(0) + flat.min(0)) / 2
    scale = 1 / max(float(np.linalg.norm(flat - center, axis=1).max()), 1e-12)
    matrix = np.eye(4)
    matrix[:3, :3] *= scale
    matrix[:3, 3] = -scale * center
    return transformed(surface, matrix)
