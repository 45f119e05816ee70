"""The steps of a refinement: fine renders brought down to the photos, gradients, growth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.captures import Views
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting.parameters import Activated, Rates, activate, filter_variance, to_splats
from gaussianvae.fitting.refinement import Run, State, SteppedParameters, average, fine_parameters, forget_mean
from gaussianvae.fitting.run import SSIM_WEIGHT, view_of_step
from gaussianvae.growth.choice import choose
from gaussianvae.rasterize import rasterize
from gaussianvae.rasterize.losses import l1_ssim
from gaussianvae.scene.cameras import Cameras, footprints
from gaussianvae.scene.edits import keep, unchanged
from gaussianvae.scene.imaging import Operator, reduce_image
from gaussianvae.scene.region import Box, changed_within, inside
from gaussianvae.scene.splats import Splats
from gaussianvae.scene.split import halve

GROWTH_SHARE = 0.12
"""Of the rows that one growth may split."""
FAINT = 0.005
"""Gaussians of less opacity are pruned."""


@dataclass(frozen=True)
class RefineConfig:
    """How a splat is refined by photos."""

    budget: float = 4.0
    """Most Gaussians out per Gaussian in, at least 1."""
    steps: int = 6000
    """Most optimizer steps, one photo each; growth and step sizes are spread over them."""
    minutes: float | None = None
    """Most minutes, those before an interruption counted; growth and step sizes are spread over them where they end
    before the steps do. A run that the clock ends can't be repeated exactly."""
    operator: Operator | Literal["fit"] = "area"
    """How the photos were brought down: area, bicubic (antialiased), soft or softer (area after a lens of 0.35 or 0.6
    pixels), or fit: whichever of these explains the held-out photos best after a short trial."""
    sh_degree: int = 3
    """Degree that the view-dependent color is raised to, 0-3; a higher one is kept."""
    filter_3d: bool = False
    """Mip-Splatting's 3D filter at the fine pixel's footprint while refining; it is part of the result."""
    held_out: float = 0.125
    """Share of the photos that judge and are never learned from, above 0 and at most 0.5; at least 2 photos."""
    roi: Box | None = None
    """Only Gaussians whose centers begin in this box (x0, y0, z0, x1, y1, z1), and their children, change; the budget
    counts them."""
    seed: int = 0
    """Seed of every random choice."""

    def __post_init__(self) -> None:
        if not 1 <= self.budget < math.inf:
            raise GaussianVAEError(f"the budget is {self.budget:g}; it is at least 1 Gaussian out per Gaussian in")
        if self.steps < 1:
            raise GaussianVAEError(f"{self.steps} steps; at least 1 is needed")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise GaussianVAEError(f"{self.minutes:g} minutes; give a time above 0")
        if not 0 <= self.sh_degree <= 3:
            raise GaussianVAEError(f"sh_degree is {self.sh_degree}; allowed are 0 to 3")
        if not 0 < self.held_out <= 0.5:
            raise GaussianVAEError(f"held_out is {self.held_out:g}; it is a share above 0 and at most 0.5")


def progress_of(run: Run, config: RefineConfig) -> float:
    """Share of the run that is over, 0-1."""
    share = run.step / config.steps
    return min(1.0, share if config.minutes is None else max(share, run.seconds / (60 * config.minutes)))


def max_rows(splats: Splats, config: RefineConfig) -> int:
    """The budget in Gaussians."""
    count = int(inside(splats, config.roi).sum())
    # 1.15 * 100 is 114.99999999999999 in floating point, and 115 to everybody
    return len(splats) - count + math.floor(config.budget * count + 1e-9)


def sub_pixel_loss(
    out: Activated, fine: Cameras, view: int, photo: Float[Tensor, "h w 3"], background: Tensor, operator: Operator
) -> Float[Tensor, ""]:
    """0.8 L1 + 0.2 (1 - SSIM) between a photo and the fine render brought down to it.

    Args:
        out: the Gaussians, shown with `PIXEL_FILTER`.
        fine: cameras at the finer resolution.
        view: which of them.
        photo: 0-1, no larger than the fine image along either axis.
        background: RGB 0-1.
        operator: what brings the render down.
    """
    image = rasterize(
        out.means, out.quats, out.scales, out.opacities, out.sh, fine.viewmats[view], fine.Ks[view], fine.sizes[view],
        filter=PIXEL_FILTER, background=background,
    ).rgb  # fmt: skip
    return l1_ssim(reduce_image(image, (photo.shape[1], photo.shape[0]), operator), photo, SSIM_WEIGHT)


def start_run(start: Splats, fine: Cameras, config: RefineConfig, rates: Rates, operator: Operator) -> Run:
    """A run before its first step."""
    phi = footprints(fine, start.means)
    raw = fine_parameters(start, phi, max(config.sh_degree, start.sh_degree))
    parameters = SteppedParameters(raw, rates, float(phi.median()))
    edit = unchanged(len(start))
    return Run(
        parameters, edit, phi, torch.zeros(len(start)), inside(start, config.roi), start, State(start, edit), operator
    )


def present(run: Run, config: RefineConfig) -> Splats:
    """The mean of the last states as plain Gaussians; beyond a region, exactly as it was."""
    variance = filter_variance(run.phi) if config.filter_3d else None
    recipe = replace(run.start.recipe, filter_3d=config.filter_3d)
    splats = to_splats(run.mean or run.parameters.raw, recipe, variance)
    return splats if run.active.all() else changed_within(run.start.select(run.edit.parents), splats, run.active)


def take_step(run: Run, fitted: Views, fine: Cameras, config: RefineConfig) -> float:
    """One render, one gradient, one Adam step; returns the loss."""
    view = view_of_step(run.step, len(fitted.cameras), config.seed)
    out = activate(run.parameters.raw, filter_variance(run.phi) if config.filter_3d else None)
    loss = sub_pixel_loss(out, fine, view, fitted.images[view], fitted.background, run.operator)
    loss.backward()
    if not run.active.all():
        for value in run.parameters.raw.values():
            if value.grad is not None:
                value.grad[~run.active] = 0
    gradient = run.parameters.raw["means"].grad
    if gradient is not None:
        run.score += gradient.norm(dim=1)
    run.step += 1
    run.parameters.step(progress_of(run, config))
    average(run)
    return float(loss.detach())


def grow(run: Run, fine: Cameras, rows: int) -> bool:
    """Prune faint rows, then split those of largest score, 12 % at most and up to `rows`; False where none is left."""
    kept = keep((run.parameters.raw["logits"].detach().sigmoid() > FAINT) | ~run.active)
    active = kept.apply(run.active)
    if not active.any():
        return False
    count = max(0, min(math.floor(GROWTH_SHARE * int(run.active.sum())), rows - len(kept), int(active.sum())))
    chosen = torch.nonzero(choose(kept.apply(run.score).where(active, -1.0), count))[:, 0]
    edit = run.parameters.prune_and_split(kept, chosen, halve)
    run.edit, run.active = run.edit.then(edit), edit.apply(run.active)
    forget_mean(run)
    run.score = torch.zeros(len(edit))
    run.phi = footprints(fine, run.parameters.raw["means"].detach())
    return True
