"""What is measured over a whole splat before its blocks are refined one by one: anchor, sensitivity, choice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gaussianvae.antialias import anchor, training_filter
from gaussianvae.enhance.config import BLOCK, EnhanceConfig
from gaussianvae.growth.choice import children_allowed, choose
from gaussianvae.growth.lineage import Lineage
from gaussianvae.growth.sensitivity import CURVATURE_SCORES, Curvature, curvature, score
from gaussianvae.guess import guess_background
from gaussianvae.model.tokens import Neighborhood
from gaussianvae.model.weights import Weights, shipped_weights
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.blocks import cut_into_blocks
from gaussianvae.scene.cameras import Cameras, footprints, project
from gaussianvae.scene.splats import Splats

SAMPLED, SEEN = 2000, 0.25
"""A view polishes a block where it sees that share of what the best view sees of so many of its Gaussians."""


@dataclass(frozen=True)
class Plan:
    """A splat, what was measured over it, and the blocks that it is refined in."""

    splats: Splats
    start: Splats
    """The anchor, row by row."""
    scale: float
    config: EnhanceConfig
    cameras: Cameras
    blocks: tuple[Int[Tensor, " _"], ...]
    alone: bool
    """Whether blocks are shown alone, without the rest of the scene in front of them and behind."""
    chosen: Bool[Tensor, " N"]
    """Rows that become two."""
    generator: torch.Generator | None
    """Of the draws, where the model's distribution is drawn from."""
    weights: Weights | None = None
    """The model, for the method `vae`."""
    phi: Float[Tensor, " N"] | None = None
    """World size of an LR pixel at each Gaussian."""
    determinacy: Float[Tensor, "N 7"] | None = None
    neighborhood: Neighborhood | None = None
    lineage: Lineage | None = None

    def __len__(self) -> int:
        """How many Gaussians come out."""
        return len(self.splats) + int(self.chosen.sum())


def make_plan(
    splats: Splats,
    scale: float,
    config: EnhanceConfig,
    cameras: Cameras,
    lineage: Lineage | None = None,
    weights: Weights | None = None,
    report: Reporter = SILENT,
) -> Plan:
    """Measure what refining a splat needs to know of all of it.

    Args:
        splats: N Gaussians of an LR fit whose mode is known.
        scale, config: as for `enhance`, the region left aside; cameras: at LR.
        lineage, weights: as for `enhance`.
        report: receives progress.
    """
    start = anchor(splats, cameras, scale)
    generator = torch.Generator().manual_seed(config.seed) if config.samples else None
    none = torch.zeros_like(splats.opacities, dtype=torch.bool)
    blocks = tuple(cut_into_blocks(splats.means, BLOCK))
    plan = Plan(splats, start, scale, config, cameras, blocks, len(blocks) > 1, none, generator)
    if config.method == "anchor" or scale == 1:
        return plan
    phi = footprints(cameras, splats.means)
    count = children_allowed(len(splats), config.budget)
    modeled = config.method == "vae"
    known = curvature(splats, cameras, report=report) if modeled and config.determinacy else None
    determinacy = known.determinacy() if known is not None else None
    if config.score not in CURVATURE_SCORES:
        known = None  # blocks of 36 numbers a Gaussian are not kept longer than need be
    plan = replace(plan, phi=phi, chosen=choose_parents(splats, cameras, phi, scale, count, config, known, report))
    if not modeled:
        return plan
    return replace(
        plan,
        weights=weights or shipped_weights(),
        determinacy=determinacy,
        neighborhood=Neighborhood(start),
        lineage=lineage,
    )


def choose_parents(
    splats: Splats,
    cameras: Cameras,
    phi: Float[Tensor, " N"],
    scale: float,
    count: int,
    config: EnhanceConfig,
    known: Curvature | None = None,
    report: Reporter = SILENT,
) -> Bool[Tensor, " N"]:
    """The rows that become two: the `count` of largest score."""
    if count == 0 or count == len(splats):
        return torch.full_like(splats.opacities, count > 0, dtype=torch.bool)
    scores = score(config.score, splats, cameras, phi, scale, seed=config.seed, known=known, report=report)
    return choose(scores, count, config.tau, config.seed)


def with_background(splats: Splats, cameras: Cameras, report: Reporter = SILENT) -> Splats:
    """The splat with a guess of its photos' background, where one can be made."""
    color = guess_background(splats, cameras, training_filter(splats.recipe))
    shown = "both black and white" if color is None else "white" if color[0] else "black"
    report.message(f"the background of its photos is taken for {shown} (--background sets it)")
    return replace(splats, recipe=replace(splats.recipe, background=color))


def views_of(cameras: Cameras, means: Float[Tensor, "N 3"]) -> Cameras:
    """The cameras that see much of a block; all where none does."""
    some = means[:: max(1, len(means) // SAMPLED)]
    counts = []
    for view, (width, height) in enumerate(cameras.sizes):
        pixels, depth = project(cameras, view, some)
        x, y = pixels.unbind(1)
        counts.append(int(((depth > 0) & (x > 0) & (x < width) & (y > 0) & (y < height)).sum()))
    best = max(counts, default=0)
    return cameras.select([view for view, count in enumerate(counts) if count >= SEEN * best])
