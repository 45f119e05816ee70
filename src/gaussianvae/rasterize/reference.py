"""The definition of a render in plain torch: any floating-point type and device, differentiable, and slow.

Every pixel looks at every Gaussian; rows of pixels are processed in bands, so that memory stays bounded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussianvae.rasterize.types import Filter, Rendering
from gaussianvae.scene.cameras import NEAR
from gaussianvae.scene.harmonics import sh_colors
from gaussianvae.scene.splats import covariances

FAR = 1e10
ALPHA_MIN, ALPHA_MAX = 1 / 255, 0.999
T_MIN = 1e-4
MARGIN = 0.15
"""The Jacobian is taken at most this share of the image outside of it (gsplat)."""
_PAIRS_A_BAND = 1 << 22


@dataclass(frozen=True)
class Projected:
    """Visible Gaussians in one view, front to back."""

    rows: Int[Tensor, " M"]
    """Which they are."""
    means2d: Float[Tensor, "M 2"]
    """Centers, pixels."""
    sigma: Float[Tensor, "M 2 2"]
    """Covariances with the pixel filter, square pixels."""
    opacities: Float[Tensor, " M"]
    """Compensated in mip mode."""
    depths: Float[Tensor, " M"]


def project(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    filter: Filter,
) -> Projected:
    """EWA projection (3DGS eq. 5, 2308.04079), with the pixel filter of `filter`."""
    viewmat, K = viewmat.to(means), K.to(means)
    rotation = viewmat[:3, :3]
    camera = means @ rotation.T + viewmat[:3, 3]
    depth = camera[:, 2].detach()
    inside = torch.nonzero((depth > NEAR) & (depth < FAR))[:, 0]
    rows = inside[torch.argsort(depth[inside], stable=True)]
    x, y, z = camera[rows].unbind(-1)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    width, height = size
    slope_x = (x / z).clamp((-cx - MARGIN * width) / fx, (width - cx + MARGIN * width) / fx)
    slope_y = (y / z).clamp((-cy - MARGIN * height) / fy, (height - cy + MARGIN * height) / fy)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * slope_x / z, zero, fy / z, -fy * slope_y / z], -1).reshape(-1, 2, 3)
    turned = jacobian @ rotation
    bare = turned @ covariances(quats[rows], scales[rows]) @ turned.transpose(1, 2)
    sigma = bare + filter.eps2d * torch.eye(2, dtype=means.dtype, device=means.device)
    peak = opacities[rows]
    if filter.mode == "mip":
        # a flat Gaussian seen edge-on has no bare area: its square root has no finite slope there
        ratio = torch.linalg.det(bare) / torch.linalg.det(sigma)
        peak = peak * torch.where(ratio > 1e-12, ratio.clamp_min(1e-12).sqrt(), torch.zeros_like(ratio))
    return Projected(rows, torch.stack([fx * x / z + cx, fy * y / z + cy], -1), sigma, peak, z)


@dataclass(frozen=True)
class Blend:
    """Every Gaussian at every pixel of a band."""

    raw: Float[Tensor, "M P"]
    """Opacity times density, before it is clamped or skipped."""
    alpha: Float[Tensor, "M P"]
    before: Float[Tensor, "M P"]
    """Transmittance in front of it."""
    after: Float[Tensor, "M P"]
    """What the transmittance would become, before the stop is applied."""
    left: Float[Tensor, " P"]
    """Transmittance behind the last."""
    offsets: Float[Tensor, "M P 2"]
    """Pixel center minus Gaussian center."""


def blend(view: Projected, pixels: Float[Tensor, "P 2"], means2d: Float[Tensor, "M P 2"] | None = None) -> Blend:
    """Front-to-back alpha at some pixels; `means2d` may hold a copy of the centers for every pixel."""
    centers = view.means2d[:, None] if means2d is None else means2d
    offsets = pixels[None] - centers
    inverse = torch.linalg.inv(view.sigma)
    q = torch.einsum("mpi,mij,mpj->mp", offsets, inverse, offsets)
    raw = view.opacities[:, None] * torch.exp(-0.5 * q)
    alpha = torch.where(raw >= ALPHA_MIN, raw.clamp_max(ALPHA_MAX), torch.zeros_like(raw))
    # the first Gaussian that would pass the stop ends the pixel, and all behind it
    after = torch.cumprod(1 - alpha, 0)
    alpha = torch.where(after >= T_MIN, alpha, torch.zeros_like(alpha))
    through = torch.cumprod(1 - alpha, 0)
    before = torch.cat([torch.ones_like(through[:1]), through[:-1]])
    left = through[-1] if len(through) else torch.ones_like(pixels[:, 0])
    return Blend(raw, alpha, before, after, left, offsets)


def bands(size: tuple[int, int], count: int) -> list[range]:
    """Rows of pixels in bands of bounded size."""
    rows = max(1, _PAIRS_A_BAND // max(1, size[0] * max(count, 1)))
    return [range(top, min(top + rows, size[1])) for top in range(0, size[1], rows)]


def pixel_centers(size: tuple[int, int], band: range, like: Tensor) -> Float[Tensor, "P 2"]:
    """Centers of the pixels of some rows, row by row."""
    y, x = torch.meshgrid(
        torch.arange(band.start, band.stop, dtype=like.dtype, device=like.device) + 0.5,
        torch.arange(size[0], dtype=like.dtype, device=like.device) + 0.5,
        indexing="ij",
    )
    return torch.stack([x.reshape(-1), y.reshape(-1)], -1)


class _SpreadCenters(torch.autograd.Function):
    """Copies of the centers for every pixel, so that the backward pass sees each pixel's own gradient."""

    @staticmethod
    def forward(ctx, means2d: Tensor, count: int, rows: Tensor, out: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.rows, ctx.out = rows, out
        return means2d[:, None].expand(-1, count, 2).clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def,override]
        both = torch.cat([gradient.sum(1), gradient.abs().sum(1)], 1)
        ctx.out.index_add_(0, ctx.rows, both.to(ctx.out))
        return gradient.sum(1), None, None, None


def rasterize_reference(
    means: Float[Tensor, "N 3"],
    quats: Float[Tensor, "N 4"],
    scales: Float[Tensor, "N 3"],
    opacities: Float[Tensor, " N"],
    sh: Float[Tensor, "N K1 3"],
    viewmat: Float[Tensor, "4 4"],
    K: Float[Tensor, "3 3"],
    size: tuple[int, int],
    *,
    filter: Filter,
    background: Float[Tensor, "3"] | tuple[float, float, float] = (0.0, 0.0, 0.0),
    means2d_grad: Float[Tensor, "N 4"] | None = None,
) -> Rendering:
    """Render one view; see `rasterize` for arguments and semantics."""
    view = project(means, quats, scales, opacities, viewmat, K, size, filter)
    colors = view_colors(means, sh, viewmat, view.rows)
    behind = torch.as_tensor(background).to(means)
    if means2d_grad is not None:
        means2d_grad.zero_()
    rgb, alpha, depth = [], [], []
    for band in bands(size, len(view.rows)):
        pixels = pixel_centers(size, band, means)
        spread = None
        if means2d_grad is not None and view.means2d.requires_grad:
            spread = _SpreadCenters.apply(  # type: ignore[no-untyped-call]
                view.means2d, len(pixels), view.rows, means2d_grad
            )
        part = blend(view, pixels, spread)
        weights = part.alpha * part.before
        rgb.append(torch.einsum("mp,mc->pc", weights, colors) + part.left[:, None] * behind)
        alpha.append(1 - part.left)
        depth.append(torch.einsum("mp,m->p", weights, view.depths) / (1 - part.left).clamp_min(1e-10))
    width, height = size
    return Rendering(
        torch.cat(rgb).reshape(height, width, 3),
        torch.cat(alpha).reshape(height, width),
        torch.cat(depth).reshape(height, width),
    )


def view_colors(means: Tensor, sh: Tensor, viewmat: Tensor, rows: Tensor) -> Float[Tensor, "M 3"]:
    """Colors of some Gaussians as the camera sees them."""
    viewmat = viewmat.to(means)
    position = -viewmat[:3, :3].T @ viewmat[:3, 3]
    return sh_colors(sh[rows], torch.nn.functional.normalize(means[rows] - position, dim=-1))


def undecided_pixels(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, viewmat: Tensor, K: Tensor,
    size: tuple[int, int], filter: Filter,
) -> Bool[Tensor, "H W"]:  # fmt: skip
    """Pixels at which rounding may decide whether a Gaussian counts: alpha at 1/255, or transmittance at the stop."""
    view = project(means, quats, scales, opacities, viewmat, K, size, filter)
    near = []
    for band in bands(size, len(view.rows)):
        part = blend(view, pixel_centers(size, band, means))
        close = ((part.raw / ALPHA_MIN - 1).abs() < 2e-4) | ((part.after / T_MIN - 1).abs() < 1e-3)
        near.append(close.any(0))
    return torch.cat(near).reshape(size[1], size[0])
