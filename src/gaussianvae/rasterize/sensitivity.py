"""How strongly a render reacts to each Gaussian: the Gauss-Newton blocks of a squared loss, from cameras alone.

For Gaussian i, J = dI / d(mean, log-scale) over all pixels and channels; block = sum J^T J (PUP 3D-GS, 2406.10219), and
speedy = sum (dI / dG)^2 with G its projected density (Speedy-Splat, 2412.00578). At each pixel and channel
J = (dI / d ln alpha) d ln alpha / d(mean, log-scale), and ln alpha is a quadratic in the pixel's offset, so that
block = P^T B P, B the moments over pixels of one weight w = sum over channels (dI / d ln alpha)^2, P as in slopes.py.

The view-dependent color is held fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.rasterize import Backend, choose_backend
from gaussianvae.rasterize.reference import ALPHA_MAX, bands, blend, pixel_centers, project, view_colors
from gaussianvae.rasterize.slopes import log_alpha_slopes, sandwich
from gaussianvae.rasterize.types import Filter
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.splats import Splats

ORDER = [(i, j) for j in range(5) for i in range(5 - j)]
"""Powers of u and v (see slopes.py) of the 15 moments."""
_ROWS_AT_ONCE = 16384  # what the closed forms hold of so many Gaussians stays in the processor's cache


@dataclass(frozen=True)
class ViewSensitivity:
    """Sums over the pixels and channels of a view, or of several."""

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
    total: ViewSensitivity | None = None,
) -> ViewSensitivity:
    """Sensitivity of one view of a splat; zeros for what it doesn't see.

    Args:
        splats: N Gaussians.
        cameras, view: where from, at any resolution.
        filter: the pixel filter of the render.
        background: RGB behind everything.
        backend: as for `rasterize`.
        threads: of the back end `cpu`. Sums differ in the last bits between numbers of threads.
        total: what the view's sums are added to, in place, and what is returned; zeros by default.

    Raises:
        GaussianVAEError: see `choose_backend`.
    """
    parts = splats.means, splats.quats, splats.scales, splats.opacities, splats.sh
    if choose_backend(backend, *parts) == "cpu":
        found = _cpu_moments(splats, cameras, view, filter, background, threads)
    else:
        found = iter([_reference_moments(splats, cameras, view, filter, background)])
    if total is None:
        zeros = splats.means.new_zeros
        total = ViewSensitivity(zeros(len(splats)), zeros(len(splats), 6, 6))
    for rows, moments, scores in found:
        columns = log_alpha_slopes(
            splats.means[rows], splats.quats[rows], splats.scales[rows], cameras.viewmats[view], cameras.Ks[view],
            cameras.sizes[view], filter,
        )  # fmt: skip
        total.speedy[rows] += scores
        total.block[rows] += sandwich(columns, moments.unbind(0), ORDER)
    return total


def _cpu_moments(
    splats: Splats, cameras: Cameras, view: int, filter: Filter, background: tuple[float, float, float],
    threads: int | None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:  # fmt: skip
    from gaussianvae.rasterize.cpu.frame import Frame, camera_vector, default_threads, flatten
    from gaussianvae.rasterize.cpu.sensitivity import frame_moments

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
    for arrays in frame_moments(frame, ORDER, _ROWS_AT_ONCE):
        rows, moments, scores = (torch.from_numpy(array) for array in arrays)
        yield rows, moments, scores
    frame.release()


def _reference_moments(
    splats: Splats, cameras: Cameras, view: int, filter: Filter, background: tuple[float, float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Which Gaussians (M,) are seen, their moments (15, M) in `ORDER`, and scores (M,)."""
    viewmat, K, size = cameras.viewmats[view], cameras.Ks[view], cameras.sizes[view]
    seen = project(splats.means, splats.quats, splats.scales, splats.opacities, viewmat, K, size, filter)
    colors = view_colors(splats.means, splats.sh, viewmat, seen.rows)
    behind = torch.as_tensor(background).to(splats.means)
    moments = splats.means.new_zeros(len(ORDER), len(seen.rows))
    scores = splats.means.new_zeros(len(seen.rows))
    a, slope = seen.sigma[:, 0, 0, None], (seen.sigma[:, 0, 1] / seen.sigma[:, 0, 0])[:, None]
    kappa = seen.det[:, None] / a
    for band in bands(size, 4 * len(seen.rows)):
        part = blend(seen, pixel_centers(size, band, splats.means))
        shares = (part.alpha * part.before)[..., None] * colors[:, None]
        rest = shares.sum(0) - shares.cumsum(0) + part.left[:, None] * behind
        reaction = part.before[..., None] * colors[:, None] - rest / (1 - part.alpha)[..., None]
        counts = (part.alpha > 0) & (part.raw < ALPHA_MAX)
        square = torch.where(counts, reaction.square().sum(2), torch.zeros_like(part.raw))
        dx, dy = part.offsets.unbind(-1)
        u, v = dx / a.sqrt(), (dy - slope * dx) / kappa.sqrt()
        weight = square * part.alpha.square()
        for index, (i, j) in enumerate(ORDER):
            moments[index] += (weight * u**i * v**j).sum(1)
        scores += square.sum(1)
    touched = scores > 0
    return seen.rows[touched], moments[:, touched], scores[touched]
