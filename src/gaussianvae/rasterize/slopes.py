"""How the logarithm of a Gaussian's alpha at a pixel changes with its mean and scales, in closed form.

With the projected covariance factored as a = cov_xx, slope s = cov_xy / a, kappa = det / a, and the whitened offset
u = dx / sqrt(a), v = (dy - s dx) / sqrt(kappa) of a pixel from the center,

    ln alpha = ln o' - u^2 / 2 - v^2 / 2,   d(ln alpha) = P^T b,   b = (1, u, v, u^2, u v, v^2).

P depends on the Gaussian alone. Whitened, no digit cancels in it, however thin the Gaussian is.

Numbers of all Gaussians lie together, one tensor (N,) a quantity: this is what makes it fast on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.rasterize.reference import MARGIN
from gaussianvae.rasterize.types import Filter
from gaussianvae.scene.rotations import quats_to_rotmats

Columns = list[list[Tensor | None]]
"""Six columns (mean x, y, z in the world, log-scale 1, 2, 3) of six tensors (N,), one an entry of b; None is zero."""

POWERS = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
"""Powers of u and v in b."""

Vector = Sequence[Tensor]


def _dot(p: Vector, q: Vector) -> Tensor:
    return torch.addcmul(torch.addcmul(p[0] * q[0], p[1], q[1]), p[2], q[2])


def _cross(p: Vector, q: Vector) -> list[Tensor]:
    return [p[i] * q[j] - p[j] * q[i] for i, j in ((1, 2), (2, 0), (0, 1))]


def log_alpha_slopes(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    filter: Filter,
) -> Columns:
    """P of Gaussians in front of the camera.

    Args:
        means, quats, scales: Gaussians, all beyond the near plane; quaternions of any length.
        viewmat, K, size: the view, as for `rasterize`.
        filter: its pixel filter; in mip mode the compensated opacity o' changes, too.
    """
    pose = viewmat.double().tolist()
    (fx, _, cx), (_, fy, cy), _ = K.double().tolist()
    x, y, z = viewmat[:3, :3].to(means) @ means.T + viewmat[:3, 3, None].to(means)
    near = 1 / z  # one over the depth
    (width, height), tan_x, tan_y = size, x * near, y * near
    low_x, high_x = (-cx - MARGIN * width) / fx, (width - cx + MARGIN * width) / fx
    low_y, high_y = (-cy - MARGIN * height) / fy, (height - cy + MARGIN * height) / fy
    used_x, used_y = tan_x.clamp(low_x, high_x), tan_y.clamp(low_y, high_y)

    # rows u, v of the root of the bare covariance, and the camera's z axis in the Gaussian's own, scaled
    half = quats_to_rotmats(quats).permute(1, 2, 0) * scales.T
    turned = viewmat[:3, :3].to(means) @ half.reshape(3, -1)
    right, down, ahead = (row.unbind(0) for row in turned.reshape(3, 3, -1))
    root_u = [fx * near * (r - used_x * n) for r, n in zip(right, ahead, strict=True)]
    root_v = [fy * near * (d - used_y * n) for d, n in zip(down, ahead, strict=True)]
    a = _dot(root_u, root_u) + filter.eps2d
    s = _dot(root_u, root_v) / a
    rest = [v - s * u for u, v in zip(root_u, root_v, strict=True)]
    kappa = _dot(rest, rest) + filter.eps2d * (1 + s * s)
    by_a, by_kappa = a.rsqrt(), kappa.rsqrt()
    white_u, white_v = [u * by_a for u in root_u], [w * by_kappa for w in rest]

    # by camera x, y, z: d root_u = alpha ahead, d (root_v - s root_u) = beta ahead, and all shrink as 1 / z
    bend_x = fx * near * near * ((tan_x >= low_x) & (tan_x <= high_x))
    bend_y = fy * near * near * ((tan_y >= low_y) & (tan_y <= high_y))
    step_x, step_y, lean = fx * near * by_a, fy * near * by_kappa, -s * (fx * near) * by_kappa
    axes = [
        (-bend_x * by_a, s * bend_x * by_kappa, step_x, lean),
        (None, -bend_y * by_kappa, None, step_y),
        (
            bend_x * used_x * by_a,
            (bend_y * used_y - s * bend_x * used_x) * by_kappa,
            -step_x * tan_x,
            -step_y * tan_y - lean * tan_x,
        ),
    ]
    uu, uv, vv = _dot(white_u, white_u), _dot(white_u, white_v), _dot(white_v, white_v)
    ahead_u, ahead_v = _dot(white_u, ahead), _dot(white_v, ahead)
    if filter.mode == "mip":
        normal = _cross(white_u, white_v)
        # o' / o is the length of this; what is thinner than 1e-6 covers nothing
        area = _dot(normal, normal).clamp_min(1e-12).reciprocal()
        turn_u, turn_v = _dot(_cross(white_v, normal), ahead) * area, _dot(_cross(normal, white_u), ahead) * area
    camera: Columns = []
    for axis, (alpha, beta, move_u, move_v) in enumerate(axes):
        by_uu = None if alpha is None else alpha * ahead_u
        by_uv = beta * ahead_u if alpha is None else torch.addcmul(beta * ahead_u, alpha, ahead_v)
        by_vv = beta * ahead_v
        if axis == 2 and by_uu is not None:
            by_uu, by_uv, by_vv = by_uu - uu * near, by_uv - 2 * uv * near, by_vv - vv * near
        by_opacity = None
        if filter.mode == "mip":
            by_opacity = beta * turn_v - by_vv
            if alpha is not None and by_uu is not None:
                by_opacity = torch.addcmul(by_opacity, alpha, turn_u) - by_uu
            if axis == 2:
                by_opacity = by_opacity - 2 * near
        camera.append([by_opacity, move_u, move_v, by_uu, by_uv, by_vv])
    world: Columns = [_mix(camera, [pose[row][axis] for row in range(3)]) for axis in range(3)]
    for u, v, n in zip(white_u, white_v, normal if filter.mode == "mip" else white_u, strict=True):
        by_uu, by_vv = u * u, v * v
        by_opacity = 1 - n * n * area - by_uu - by_vv if filter.mode == "mip" else None
        world.append([by_opacity, None, None, by_uu, 2 * u * v, by_vv])
    return world


def _mix(columns: Columns, weights: list[float]) -> list[Tensor | None]:
    """The sum of weighted columns, entry by entry."""
    out: list[Tensor | None] = []
    for entries in zip(*columns, strict=True):
        total = None
        for entry, weight in zip(entries, weights, strict=True):
            if entry is not None:
                total = entry * weight if total is None else torch.add(total, entry, alpha=weight)
        out.append(total)
    return out


def sandwich(columns: Columns, moments: Sequence[Tensor], order: Sequence[tuple[int, int]]) -> Float[Tensor, "N 6 6"]:
    """P^T B P with B = sum over pixels w b b^T.

    Args:
        columns: P.
        moments: sum w u^i v^j, tensors (N,), i + j <= 4.
        order: the powers (i, j) of each.
    """
    at = {powers: moment for powers, moment in zip(order, moments, strict=True)}
    out: list[list[Tensor]] = [[moments[0]] * 6 for _ in range(6)]
    for right, column in enumerate(columns):
        known = [(powers, entry) for powers, entry in zip(POWERS, column, strict=True) if entry is not None]
        weighted = [_inner([at[i + k, j + m] for (k, m), _ in known], [e for _, e in known]) for i, j in POWERS]
        for left in range(right + 1):
            pairs = [(e, w) for e, w in zip(columns[left], weighted, strict=True) if e is not None]
            out[left][right] = out[right][left] = _inner([e for e, _ in pairs], [w for _, w in pairs])
    return torch.stack([entry for row in out for entry in row], 1).reshape(-1, 6, 6)


def _inner(left: Vector, right: Vector) -> Tensor:
    total = left[0] * right[0]
    for a, b in zip(left[1:], right[1:], strict=True):
        total.addcmul_(a, b)
    return total
