"""Where more detail pays, from cameras alone: the scores behind the choice, and the Hessian's determinacy.

For a rendered image I(theta) the Gauss-Newton Hessian of a squared loss is the sum over pixels of J^T J, J = dI/dtheta:
it needs cameras but no images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER, baked, training_filter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.rasterize import rasterize, render
from gaussianvae.rasterize.sensitivity import sensitivity
from gaussianvae.scene.cameras import Cameras, resize, spread_views
from gaussianvae.scene.imaging import reduce_image
from gaussianvae.scene.rotations import quats_to_rotmats
from gaussianvae.scene.splats import Splats

SCORES = ("random", "size", "self_gradient", "speedy", "block")
CURVATURE_SCORES = ("speedy", "block")
"""Those made of the curvature."""
DEFAULT_SCORE = "self_gradient"
DEFAULT_VIEWS = 12
GRADIENT_VIEWS, GRADIENT_SCALE = 6, 2.0
"""Views of `self_gradient`, and the largest scale that it is measured at."""
ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Curvature:
    """Sums over views of the Gauss-Newton quantities of each Gaussian."""

    speedy: Float[Tensor, " N"]
    """Sum over pixels and channels of (dI / dG)^2, G the projected density (Speedy-Splat, 2412.00578)."""
    block: Float[Tensor, "N 6 6"]
    """Sum of J^T J over mean (its own axes, in standard deviations) and log-scales (PUP 3D-GS, 2406.10219)."""

    def determinacy(self) -> Float[Tensor, "N 7"]:
        """The blocks' diagonals and `speedy`: what the model is shown."""
        return torch.cat([self.block.diagonal(dim1=1, dim2=2), self.speedy[:, None]], 1)


def curvature(splats: Splats, cameras: Cameras, views: int = DEFAULT_VIEWS, report: Reporter = SILENT) -> Curvature:
    """The Gauss-Newton sums over evenly spaced views, in each Gaussian's own frame and units.

    Args:
        splats: N Gaussians, shown with their own training filter.
        cameras: the views that saw them, at the resolution that counts (the photos').
        views: how many of them to use.
        report: receives progress.
    """
    total = None
    used = spread_views(len(cameras), views)
    with report.bar("sensitivity", len(used)) as bar:
        for view in used:
            total = sensitivity(splats, cameras, view, filter=training_filter(splats.recipe), total=total)
            bar.advance()
    if total is None:
        return Curvature(splats.means.new_zeros(len(splats)), splats.means.new_zeros(len(splats), 6, 6))
    block = total.block
    for start in range(0, len(splats), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        turn = torch.eye(6, dtype=block.dtype, device=block.device).repeat(len(block[rows]), 1, 1)
        turn[:, :3, :3] = quats_to_rotmats(splats.quats[rows]) * splats.scales[rows, None, :]
        block[rows] = turn.transpose(1, 2) @ block[rows] @ turn
    return Curvature(total.speedy, block)


def self_gradient(
    splats: Splats, cameras: Cameras, phi: Float[Tensor, " N"], scale: float, views: int = GRADIENT_VIEWS,
    report: Reporter = SILENT,
) -> Float[Tensor, " N"]:  # fmt: skip
    """Sum over views of the norm of the position gradient of the self-consistency loss at the baked anchor.

    The loss compares the HR render of the baked splat, averaged down, with the splat's own LR render; the gradient is
    taken in standard deviations along the Gaussian's own axes.
    """
    own = training_filter(splats.recipe)
    wide = baked(splats, cameras, phi)
    fine = resize(cameras, 1 / min(scale, GRADIENT_SCALE))
    total = splats.means.new_zeros(len(splats))
    used = spread_views(len(cameras), views)
    with report.bar("self-consistency", len(used)) as bar:
        for view in used:
            with torch.no_grad():
                target = render(splats, cameras, view, filter=own).rgb
            means = wide.means.clone().requires_grad_()
            image = rasterize(
                means, wide.quats, wide.scales, wide.opacities, wide.sh, fine.viewmats[view], fine.Ks[view],
                fine.sizes[view], filter=PIXEL_FILTER,
            ).rgb  # fmt: skip
            (reduce_image(image, cameras.sizes[view]) - target).square().sum().backward()
            assert means.grad is not None
            for start in range(0, len(splats), ROWS_AT_ONCE):
                rows = slice(start, start + ROWS_AT_ONCE)
                along = (means.grad[rows, None, :] @ quats_to_rotmats(wide.quats[rows]))[:, 0]
                total[rows] += (along * wide.scales[rows]).norm(dim=1)
            del means
            bar.advance()
    return total


def block_determinant(block: Float[Tensor, "N 6 6"]) -> Float[Tensor, " N"]:
    """Geometric mean of the eigenvalues of each block: det^(1/6); an eigenvalue counts as 1e-12 at least."""
    eye = torch.eye(6, dtype=torch.float64, device=block.device)
    values = torch.linalg.eigvalsh(block.double() + 1e-12 * eye).clamp_min(1e-12)
    return values.log().mean(1).exp().to(block.dtype)


def score(
    name: str,
    splats: Splats,
    cameras: Cameras,
    phi: Float[Tensor, " N"],
    scale: float,
    *,
    seed: int = 0,
    known: Curvature | None = None,
    report: Reporter = SILENT,
) -> Float[Tensor, " N"]:
    """One of `SCORES` for every Gaussian of an LR splat.

    Args:
        name: `random`; `size` (projected area in LR pixels); `self_gradient`; `speedy`; `block`.
        splats: the LR fit; cameras: its training cameras at LR; phi: LR footprints.
        scale: how much finer the target is.
        seed: of `random`.
        known: the curvature, when it was computed already.
        report: receives progress.

    Raises:
        GaussianVAEError: no score of that name.
    """
    if name == "random":
        return torch.rand(len(splats), generator=torch.Generator().manual_seed(seed)).to(splats.means)
    if name == "size":
        top = (splats.scales / phi[:, None]).topk(2, dim=1).values
        return top.prod(1)
    if name == "self_gradient":
        return self_gradient(splats, cameras, phi, scale, report=report)
    if name in CURVATURE_SCORES:
        known = known or curvature(splats, cameras, report=report)
        return known.speedy if name == "speedy" else block_determinant(known.block)
    raise GaussianVAEError(f"no score named {name}; choose one of {', '.join(SCORES)}")
