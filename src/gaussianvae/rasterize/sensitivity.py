"""How strongly a render reacts to each Gaussian: the Gauss-Newton blocks of a squared loss, from cameras alone.

For Gaussian i, J = dI / d(mean, log-scale) over all pixels and channels; block = sum J^T J (PUP 3D-GS, 2406.10219), and
speedy = sum (dI / dG)^2 with G its projected density (Speedy-Splat, 2412.00578). ln alpha is a quadratic in the pixel's
offset, so that both follow from moments of one weight: block = P^T M P, with M the 6x6 moments of the derivatives by
phi = (ln o', center x, y, covariance xx, xy, yy) and P = d phi / d(mean, log-scale).

The view-dependent color is held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.rasterize import Backend, choose_backend
from gaussianvae.rasterize.reference import (
    ALPHA_MAX,
    bands,
    blend,
    pixel_centers,
    project,
    view_colors,
)
from gaussianvae.rasterize.types import Filter
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.splats import Splats


@dataclass(frozen=True)
class ViewSensitivity:
    """Sums over the pixels and channels of one view."""

    speedy: Float[Tensor, " N"]
    """(dI / dG)^2."""
    block: Float[Tensor, "N 6 6"]
    """J^T J over mean (world axes and units) and log-scales (the Gaussian's own axes)."""


def sensitivity(
    splats: Splats,
    cameras: Cameras,
    view: int,
    *,
    filter: Filter,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    backend: Backend = "auto",
    threads: int | None = None,
) -> ViewSensitivity:
    """Sensitivity of one view of a splat; zeros for what it doesn't see.

    Args:
        splats: N Gaussians.
        cameras, view: where from, at any resolution.
        filter: the pixel filter of the render.
        background: RGB behind everything.
        backend: as for `rasterize`.
        threads: of the back end `cpu`.
    """
    parts = splats.means, splats.quats, splats.scales, splats.opacities, splats.sh
    if choose_backend(backend, *parts) == "cpu":
        moments, speedy = _cpu_moments(splats, cameras, view, filter, background, threads)
    else:
        moments, speedy = _reference_moments(splats, cameras, view, filter, background)
    jacobian = projection_jacobian(splats, cameras, view, filter)
    return ViewSensitivity(speedy, jacobian.transpose(1, 2) @ moments @ jacobian)


def projection_jacobian(splats: Splats, cameras: Cameras, view: int, filter: Filter) -> Float[Tensor, "N 6 6"]:
    """P = d(ln o', center x, y, covariance xx, xy, yy) / d(mean, log-scale); zeros for what is not in front."""
    out = splats.means.new_zeros(len(splats), 6, 6)
    with torch.enable_grad():
        means = splats.means.detach().clone().requires_grad_()
        log_scales = splats.scales.detach().clamp_min(1e-12).log().requires_grad_()
        seen = project(
            means, splats.quats.detach(), log_scales.exp(), splats.opacities.detach(),
            cameras.viewmats[view], cameras.Ks[view], cameras.sizes[view], filter,
        )  # fmt: skip
        # opacities that are zero have no logarithm, and no pixels either
        quantities = [
            seen.opacities.clamp_min(1e-12).log(), seen.means2d[:, 0], seen.means2d[:, 1],
            seen.sigma[:, 0, 0], seen.sigma[:, 0, 1], seen.sigma[:, 1, 1],
        ]  # fmt: skip
        for row, quantity in enumerate(quantities):
            if not quantity.requires_grad:
                continue
            # each output depends on its own Gaussian alone: the gradient of the sum is every row's own
            gradients = torch.autograd.grad(quantity.sum(), (means, log_scales), retain_graph=True, allow_unused=True)
            for half, gradient in enumerate(gradients):
                if gradient is not None:
                    out[:, row, 3 * half : 3 * half + 3] = gradient
    return out


def _cpu_moments(
    splats: Splats, cameras: Cameras, view: int, filter: Filter, background: tuple[float, float, float],
    threads: int | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    from gaussianvae.rasterize.cpu.frame import Frame, camera_vector, default_threads, flatten
    from gaussianvae.rasterize.cpu.sensitivity import POWERS, frame_moments

    size = cameras.sizes[view]
    frame = Frame(
        flatten(splats.means, splats.quats, splats.scales, splats.opacities, splats.sh),
        camera_vector(cameras.viewmats[view], cameras.Ks[view], size),
        size,
        eps2d=filter.eps2d,
        compensated=filter.mode == "mip",
        background=background,
        threads=threads or default_threads(len(splats), size),
    )
    frame.forward()
    flat, scores, factors = (torch.from_numpy(array) for array in frame_moments(frame, len(splats)))
    frame.release()
    # B = sum w b b^T over b = (1, dx, t, dx^2, dx t, t^2)
    powers = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    place = [[POWERS.index((i + k, j + m)) for k, m in powers] for i, j in powers]
    products = flat[:, torch.tensor(place)]
    # derivatives by phi are (1, u, v, u^2 / 2, u v, v^2 / 2) with v = t / kappa, u = dx / a - slope v
    inv_a, slope, inv_kappa = factors.unbind(1)
    change = torch.zeros(len(splats), 6, 6)
    ux, ut = inv_a, -slope * inv_kappa
    change[:, 0, 0] = 1
    change[:, 1, 1], change[:, 1, 2], change[:, 2, 2] = ux, ut, inv_kappa
    change[:, 3, 3], change[:, 3, 4], change[:, 3, 5] = 0.5 * ux * ux, ux * ut, 0.5 * ut * ut
    change[:, 4, 4], change[:, 4, 5] = ux * inv_kappa, ut * inv_kappa
    change[:, 5, 5] = 0.5 * inv_kappa * inv_kappa
    return change @ products @ change.transpose(1, 2), scores


def _reference_moments(
    splats: Splats, cameras: Cameras, view: int, filter: Filter, background: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    viewmat, K, size = cameras.viewmats[view], cameras.Ks[view], cameras.sizes[view]
    seen = project(splats.means, splats.quats, splats.scales, splats.opacities, viewmat, K, size, filter)
    colors = view_colors(splats.means, splats.sh, viewmat, seen.rows)
    behind = torch.as_tensor(background).to(splats.means)
    moments = splats.means.new_zeros(len(splats), 6, 6)
    speedy = splats.means.new_zeros(len(splats))
    inverse = torch.linalg.inv(seen.sigma)
    for band in bands(size, 4 * len(seen.rows)):
        part = blend(seen, pixel_centers(size, band, splats.means))
        shares = (part.alpha * part.before)[..., None] * colors[:, None]
        rest = shares.sum(0) - shares.cumsum(0) + part.left[:, None] * behind
        slope = part.before[..., None] * colors[:, None] - rest / (1 - part.alpha)[..., None]
        counts = (part.alpha > 0) & (part.raw < ALPHA_MAX)
        square = torch.where(counts, slope.square().sum(2), torch.zeros_like(part.raw))
        u, v = torch.einsum("mij,mpj->mpi", inverse, part.offsets).unbind(-1)
        basis = torch.stack([torch.ones_like(u), u, v, 0.5 * u * u, u * v, 0.5 * v * v], -1)
        weight = square * part.alpha.square()
        moments.index_add_(0, seen.rows, torch.einsum("mp,mpi,mpj->mij", weight, basis, basis))
        speedy.index_add_(0, seen.rows, square.sum(1))
    return moments, speedy
