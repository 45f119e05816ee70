"""One continued optimization through several resolutions: the loop that `reconstruct` and the training factory share.

Nothing in it is random but the order of the views, and that is a function of (seed, epoch): a run resumes from a
checkpoint as if it had never stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.captures import Views, gather
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting.parameters import Parameters, activate, filter_variance, to_splats
from gaussianvae.growth.lineage import Recorder
from gaussianvae.rasterize import Filter, rasterize
from gaussianvae.rasterize.losses import l1_ssim
from gaussianvae.scene.cameras import footprints, resize
from gaussianvae.scene.edits import keep
from gaussianvae.scene.imaging import reduce_image, round_to_8_bits
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.split import sharpen

SSIM_WEIGHT = 0.2
FAINT = 0.01
"""Gaussians of less opacity are pruned."""
OPACITY_COST, SCALE_COST = 1e-4, 1e-3
"""Weights of the mean opacity and the mean scale (in scene extents): they keep floaters and giants away."""


@dataclass(frozen=True)
class Stage:
    """One resolution of a run."""

    views: Views
    factor: float
    """Reduction relative to the photos: 4, 2, 1."""
    until: int
    """The step at which the stage ends."""


@dataclass
class Run:
    """The changing state of a fit."""

    parameters: Parameters
    recorder: Recorder
    phi: Float[Tensor, " N"]
    """World size of a photo's pixel (not of a coarser stage's)."""
    score: Float[Tensor, " N"]
    """Sum of absolute view-space position gradients since the last edit (AbsGS, 2404.10484)."""
    step: int = 0
    losses: list[float] = field(default_factory=list)


def coarser(views: Views, factor: float) -> Views:
    """The same photos reduced once more, 8-bit like any photo."""
    if factor == 1:
        return views
    cameras = resize(views.cameras, factor)
    images = [round_to_8_bits(reduce_image(image, cameras.sizes[v])) for v, image in enumerate(views.images)]
    return Views(cameras=cameras, images=gather(images), alphas=None, background=views.background)


def view_of_step(step: int, count: int, seed: int) -> int:
    """The view that a step looks at: every view once an epoch, in an order fixed by the seed."""
    epoch, place = divmod(step, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1_000_003 * (seed + 1) + epoch))
    return int(order[place])


def measure_phi(run: Run, views: Views) -> None:
    """Footprints of the present rows."""
    run.phi = footprints(views.cameras, run.parameters.raw["means"].detach())


def grow(run: Run, views: Views, target: int) -> None:
    """Prune faint rows, then split those of largest score until there are `target` (never more than twice as many)."""
    kept = keep(run.parameters.raw["logits"].detach().sigmoid() > FAINT)
    if len(kept) == 0:
        raise GaussianVAEError(f"after {run.step} steps every Gaussian had faded away: do the photos show anything?")
    rows = kept.apply(run.score).topk(max(0, min(target - len(kept), len(kept)))).indices
    edit = run.parameters.prune_and_split(kept, rows, sharpen)
    run.recorder.edit(edit)
    run.score = torch.zeros(len(edit))
    measure_phi(run, views)


def take_step(run: Run, stage: Stage, pixel: Filter, filter_3d: bool, seed: int, progress: float) -> float:
    """One render, one gradient, one Adam step; returns the loss."""
    views, parameters = stage.views, run.parameters
    view = view_of_step(run.step, len(views.cameras), seed)
    out = activate(parameters.raw, filter_variance(run.phi, stage.factor) if filter_3d else None)
    gradient = torch.zeros(len(parameters), 4)
    cameras = views.cameras
    image = rasterize(
        out.means, out.quats, out.scales, out.opacities, out.sh, cameras.viewmats[view], cameras.Ks[view],
        cameras.sizes[view], filter=pixel, background=views.background, means2d_grad=gradient,
    ).rgb  # fmt: skip
    loss = l1_ssim(image, views.images[view], SSIM_WEIGHT)
    total = loss + OPACITY_COST * out.opacities.mean() + SCALE_COST / parameters.extent * out.scales.mean()
    total.backward()
    # in units of the image's width, so that stages of different resolution compare
    run.score += gradient[:, 2:].norm(dim=1) * cameras.sizes[view][0]
    parameters.step(progress)
    run.step += 1
    return float(loss.detach())


def record(run: Run, factor: float, recipe: Recipe, filter_3d: bool) -> None:
    """Remember the present rows as the end of a level."""
    variance = filter_variance(run.phi, factor) if filter_3d else None
    run.recorder.record(factor, to_splats(run.parameters.raw, recipe, variance))
