"""Tools to make meshes: turn, join, sweep, carve."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import trimesh
from jaxtyping import Float, Int

Mesh: TypeAlias = trimesh.Trimesh


def rotation(random: np.random.Generator) -> Float[np.ndarray, "4 4"]:
    """A uniformly random rotation."""
    w, x, y, z = (q := random.standard_normal(4)) / np.linalg.norm(q)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return matrix


def moved(mesh: Mesh, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
    """A mesh shifted in place."""
    mesh.apply_translation([x, y, z])
    return mesh


def turned(mesh: Mesh, angle: float, axis: int) -> Mesh:
    """A mesh turned in place about a coordinate axis."""
    mesh.apply_transform(trimesh.transformations.rotation_matrix(angle, np.eye(3)[axis]))
    return mesh


def together(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    vertices = np.concatenate([m.vertices for m in meshes])
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    faces = np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=True)])
    return Mesh(vertices, faces, process=False)


def lattice_faces(rows: int, columns: int, wrap_rows: bool, wrap_columns: bool) -> Int[np.ndarray, "F 3"]:
    """Two triangles for each cell of a lattice of points, numbered row by row."""
    i, j = np.meshgrid(np.arange(rows - (not wrap_rows)), np.arange(columns - (not wrap_columns)), indexing="ij")
    a, b = i * columns + j, (i + 1) % rows * columns + j
    c, d = (i + 1) % rows * columns + (j + 1) % columns, i * columns + (j + 1) % columns
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


def tube(curve: Float[np.ndarray, "P 3"], radius: float, sides: int = 10, closed: bool = True) -> Mesh:
    """A curve swept by a circle; the circle is carried along the curve without twist."""
    tangent = np.roll(curve, -1, 0) - np.roll(curve, 1, 0) if closed else np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.empty_like(curve)
    helper = np.eye(3)[np.abs(tangent[0]).argmin()]
    for index, direction in enumerate(tangent):
        helper = helper - direction * (helper @ direction)
        helper /= np.linalg.norm(helper)
        across[index] = helper
    other = np.cross(tangent, across)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)[None, :, None]
    ring = curve[:, None] + radius * (np.cos(angle) * across[:, None] + np.sin(angle) * other[:, None])
    return Mesh(ring.reshape(-1, 3), lattice_faces(len(curve), sides, closed, True), process=False)


def carve(body: Mesh, tools: list[Mesh]) -> Mesh:
    """A body without its tools; what is left when all of it vanishes is the body."""
    result = trimesh.boolean.difference([body, *tools], engine="manifold")
    return result if len(result.faces) else body


def tagged(mesh: Mesh, kind: str) -> Mesh:
    """The mesh, its kind noted in its metadata."""
    mesh.metadata["kind"] = kind
    return mesh
