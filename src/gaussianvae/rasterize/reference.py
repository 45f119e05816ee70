"""The definition of a render in plain torch: any floating-point type and device, differentiable, and slow.

Every pixel looks at every Gaussian. Pixels are processed in bands of rows, and the backward pass computes each band
again, so that memory stays bounded: 300 x 300 pixels and 5000 Gaussians take a minute, not 30 GB.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from gaussianvae.rasterize.types import Filter, Rendering
from gaussianvae.scene.cameras import NEAR
from gaussianvae.scene.harmonics import sh_colors
from gaussianvae.scene.rotations import quats_to_rotmats

FAR = 1e10
ALPHA_MIN, ALPHA_MAX = 1 / 255, 0.999
T_MIN = 1e-4
MARGIN = 0.15
"""The Jacobian is taken at most this share of the image outside of it (gsplat)."""
_PAIRS_A_BAND = 1 << 20


@dataclass(frozen=True)
class Projected:
    """Visible Gaussians in one view, front to back."""

    rows: Int[Tensor, " M"]
    """Which they are."""
    means2d: Float[Tensor, "M 2"]
    """Centers, pixels."""
    sigma: Float[Tensor, "M 2 2"]
    """Covariances with the pixel filter, square pixels."""
    det: Float[Tensor, " M"]
    """Their determinants, without the cancellation that needles cause in a c - b^2."""
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
    # root root^T is the bare covariance, |u x v|^2 its determinant (Lagrange), u and v the rows of the root
    root = jacobian @ rotation @ (quats_to_rotmats(quats[rows]) * scales[rows, None, :])
    bare = root @ root.transpose(1, 2)
    area = torch.linalg.cross(root[:, 0], root[:, 1]).norm(dim=-1)
    sigma = bare + filter.eps2d * torch.eye(2, dtype=means.dtype, device=means.device)
    det = area * area + filter.eps2d * (bare[:, 0, 0] + bare[:, 1, 1]) + filter.eps2d**2
    peak = opacities[rows]
    if filter.mode == "mip":
        peak = peak * area / det.sqrt()
    return Projected(rows, torch.stack([fx * x / z + cx, fy * y / z + cy], -1), sigma, det, peak, z)


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
    dx, dy = offsets.unbind(-1)
    a, b, c = (view.sigma[:, i, j, None] for i, j in ((0, 0), (0, 1), (1, 1)))
    q = (c * dx * dx - 2 * b * dx * dy + a * dy * dy) / view.det[:, None]
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


class _Centers(torch.autograd.Function):
    """The centers as they are; once every band has sent its gradient, the sums of all bands go to `out`."""

    @staticmethod
    def forward(ctx, means2d: Tensor, rows: Tensor, absolute: Tensor, out: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.rows, ctx.absolute, ctx.out = rows, absolute, out
        return means2d.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def,override]
        ctx.out.zero_()
        ctx.out[ctx.rows] = torch.cat([gradient, ctx.absolute], 1).to(ctx.out)
        ctx.absolute.zero_()
        return gradient, None, None, None


class _CentersOfPixels(torch.autograd.Function):
    """A copy of the centers for every pixel of a band, so that each pixel's own gradient can be seen."""

    @staticmethod
    def forward(ctx, means2d: Tensor, count: int, absolute: Tensor) -> Tensor:  # type: ignore[no-untyped-def,override]
        ctx.absolute = absolute
        return means2d[:, None].expand(-1, count, 2).clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def,override]
        ctx.absolute += gradient.abs().sum(1)
        return gradient.sum(1), None, None


class _Again(torch.autograd.Function):
    """shade(band, *inputs) that keeps nothing but the inputs and computes again when gradients are wanted.

    `torch.utils.checkpoint` is meant for this, but kept some 40 bytes a pair alive where this keeps none.
    """

    @staticmethod
    def forward(ctx, shade: Callable[..., tuple[Tensor, ...]], band: range, *inputs: Tensor):  # type: ignore[no-untyped-def,override]
        ctx.shade, ctx.band = shade, band
        ctx.save_for_backward(*inputs)
        return shade(band, *inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor):  # type: ignore[no-untyped-def,override]
        wanted = ctx.needs_input_grad[2:]
        inputs = [t.detach().requires_grad_(w) for t, w in zip(ctx.saved_tensors, wanted, strict=True)]
        with torch.enable_grad():
            outputs = ctx.shade(ctx.band, *inputs)
        known = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
        sources, upstream = zip(*known, strict=True)
        leaves = [t for t in inputs if t.requires_grad]
        found = iter(torch.autograd.grad(sources, leaves, upstream, allow_unused=True))
        return None, None, *(next(found) if w else None for w in wanted)


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
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in (means, quats, scales, opacities, sh))
    absolute, centers = None, view.means2d
    if means2d_grad is not None and tracked:
        absolute = torch.zeros_like(view.means2d)
        centers = centers if centers.requires_grad else centers.detach().requires_grad_()
        centers = _Centers.apply(centers, view.rows, absolute, means2d_grad)  # type: ignore[no-untyped-call]
    inputs = centers, view.sigma, view.det, view.opacities, view.depths, colors, behind

    def shade(band: range, centers: Tensor, *others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sigma, det, opacities, depths, colors, behind = others
        pixels = pixel_centers(size, band, means)
        spread = None
        if absolute is not None:
            spread = _CentersOfPixels.apply(centers, len(pixels), absolute)  # type: ignore[no-untyped-call]
        part = blend(Projected(view.rows, centers, sigma, det, opacities, depths), pixels, spread)
        weights = part.alpha * part.before
        rgb = torch.einsum("mp,mc->pc", weights, colors) + part.left[:, None] * behind
        depth = torch.einsum("mp,m->p", weights, depths) / (1 - part.left).clamp_min(1e-10)
        return rgb, 1 - part.left, depth

    parts = bands(size, len(view.rows))
    if tracked and len(parts) > 1:
        done = [_Again.apply(shade, band, *inputs) for band in parts]  # type: ignore[no-untyped-call]
    else:
        done = [shade(band, *inputs) for band in parts]
    rgb, alpha, depth = (torch.cat(values) for values in zip(*done, strict=True))
    width, height = size
    return Rendering(
        rgb.reshape(height, width, 3),
        alpha.reshape(height, width),
        depth.reshape(height, width),
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
    """Pixels (True) at which float32 may decide otherwise: alpha at 1/255 or 0.999, transmittance at the stop."""
    view = project(means, quats, scales, opacities, viewmat, K, size, filter)
    near = []
    for band in bands(size, len(view.rows)):
        part = blend(view, pixel_centers(size, band, means))
        # 0.999 only bends the image: what differs there are derivatives
        close = ((part.raw / ALPHA_MIN - 1).abs() < 2e-4) | ((part.raw / ALPHA_MAX - 1).abs() < 1e-5)
        close |= (part.after / T_MIN - 1).abs() < 1e-3
        near.append(close.any(0))
    return torch.cat(near).reshape(size[1], size[0])
