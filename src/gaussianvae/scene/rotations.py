"""Rotations as unit quaternions (w, x, y, z) and 3x3 matrices; every function is batched and differentiable."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def normalize_quats(quats: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 4"]:
    """Quaternions of unit length; a zero quaternion stays (nearly) zero instead of becoming NaN."""
    return quats / quats.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def quats_to_rotmats(quats: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 3 3"]:
    """Rotation matrices of quaternions (wxyz, any length; they are normalized first)."""
    w, x, y, z = normalize_quats(quats).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*quats.shape[:-1], 3, 3)


def rotmats_to_quats(rotmats: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 4"]:
    """Unit quaternions (wxyz, w >= 0) of rotation matrices.

    Of Shepperd's four formulas the one with the largest divisor is taken, so that no case loses digits.
    """
    m = rotmats.reshape(-1, 3, 3)
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    # four times each component squared, and the products that give the others
    squares = torch.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], -1)
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    s = squares
    table = torch.stack(
        [
            torch.stack([s[:, 0], wx, wy, wz], -1),
            torch.stack([wx, s[:, 1], xy, xz], -1),
            torch.stack([wy, xy, s[:, 2], yz], -1),
            torch.stack([wz, xz, yz, s[:, 3]], -1),
        ],
        1,
    )
    best = squares.argmax(-1)
    quats = normalize_quats(table[torch.arange(len(m), device=m.device), best])
    return torch.where(quats[:, :1] < 0, -quats, quats).reshape(*rotmats.shape[:-2], 4)


def is_rotation(matrix: Float[Tensor, "3 3"], tolerance: float = 1e-2) -> bool:
    """Whether a matrix turns without stretching or mirroring, as files with few digits have it."""
    away = (matrix @ matrix.T - torch.eye(3, dtype=matrix.dtype, device=matrix.device)).abs().max()
    return bool(away <= tolerance) and bool(torch.linalg.det(matrix) > 0)


def multiply_quats(a: Float[Tensor, "*B 4"], b: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 4"]:
    """Hamilton product: the rotation `b` followed by `a`."""
    aw, ax, ay, az = a.unbind(-1)
    bw, bx, by, bz = b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def quats_to_rotvecs(quats: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 3"]:
    """Log map: axis times angle (radians, at most pi) of unit quaternions."""
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    sine = quats[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quats[..., :1])
    return quats[..., 1:] * torch.where(sine > 1e-8, angle / sine.clamp_min(1e-8), torch.full_like(sine, 2.0))


def rotvecs_to_quats(rotvecs: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 4"]:
    """Exponential map: unit quaternions of axis times angle (radians)."""
    half = 0.5 * (rotvecs.square().sum(-1, keepdim=True) + 1e-20).sqrt()
    return torch.cat([half.cos(), rotvecs * (0.5 * torch.sinc(half / torch.pi))], -1)


def random_quats(count: int, generator: torch.Generator) -> Float[Tensor, "N 4"]:
    """`count` rotations, uniform over the sphere of unit quaternions."""
    return normalize_quats(torch.randn(count, 4, generator=generator))
