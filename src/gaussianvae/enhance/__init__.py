"""The main job: a splat in, a finer splat out.

anchor -> sensitivity -> choice (over the whole splat) -> model -> insert -> polish -> provenance (block by block).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from gaussianvae.antialias import anchor
from gaussianvae.enhance.block import INVENTED, Enhanced, finish, provenance, refine_block, trust
from gaussianvae.enhance.config import MAX_SCALE, POLISH, EnhanceConfig
from gaussianvae.enhance.plan import Plan, make_plan, with_background
from gaussianvae.errors import GaussianVAEError
from gaussianvae.growth.choice import children_allowed
from gaussianvae.growth.lineage import Lineage, check_lineage
from gaussianvae.guess import guess_recipe
from gaussianvae.model.weights import Weights
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.edits import RowEdit, unchanged
from gaussianvae.scene.region import inside
from gaussianvae.scene.splats import Splats, concatenate

__all__ = [
    "INVENTED", "MAX_SCALE", "POLISH", "EnhanceConfig", "Enhanced", "Enhancement", "check_scale", "enhance", "prepare",
    "provenance", "trust",
]  # fmt: skip


@dataclass(frozen=True)
class Enhancement:
    """A splat that is about to be made finer: all that concerns the whole of it is done."""

    plan: Plan | None
    """Of the rows that are refined; none where nothing is."""
    rows: torch.Tensor
    """Which of the given rows those are."""
    kept: Enhanced
    """The anchors of the others."""

    def __len__(self) -> int:
        """How many Gaussians come out."""
        return len(self.kept.splats) + (len(self.plan) if self.plan is not None else 0)

    def parts(self, report: Reporter = SILENT) -> Iterator[Enhanced]:
        """The finer splat, block by block; edits name given rows. Only one block's work is in memory at a time."""
        if len(self.kept.splats) or self.plan is None:
            yield self.kept
        if self.plan is None:
            return
        total = self.kept.edit.num_before
        several = report if len(self.plan.blocks) > 1 else SILENT
        with several.bar("blocks", len(self.plan.blocks)) as bar:
            for block in self.plan.blocks:
                part = refine_block(self.plan, block, report)
                yield replace(part, edit=RowEdit(self.rows[part.edit.parents], total, part.edit.born))
                bar.advance()


def check_scale(scale: float) -> None:
    """Raise GaussianVAEError unless a scale is 1 to 8."""
    if not 1 <= scale <= MAX_SCALE:  # no number is not, either
        raise GaussianVAEError(f"the scale is {scale:g}; allowed are 1 to {MAX_SCALE:g}")


def prepare(
    splats: Splats,
    scale: float,
    config: EnhanceConfig | None = None,
    *,
    cameras: Cameras,
    lineage: Lineage | None = None,
    weights: Weights | None = None,
    report: Reporter = SILENT,
) -> Enhancement:
    """Do what has to be done over the whole of a splat before it can be refined block by block (see `enhance`).

    Raises:
        GaussianVAEError: scale, budget, region or lineage out of range.
    """
    config = config or EnhanceConfig()
    check_scale(scale)
    children_allowed(len(splats), config.budget)
    if lineage is not None:
        check_lineage(lineage, splats, "the lineage")
    splats = replace(splats, stored=None)
    if len(splats) == 0:
        return Enhancement(None, torch.arange(0), Enhanced(finish(splats, splats, torch.zeros(0), scale), unchanged(0)))
    if splats.recipe.mode is None:
        splats = replace(splats, recipe=guess_recipe(splats, cameras))
        report.message(f"the splat doesn't say how it was trained; its sizes look like a {splats.recipe.mode} fit")
    region = inside(splats, config.roi)
    rows, rest = torch.nonzero(region)[:, 0], torch.nonzero(~region)[:, 0]
    outside = anchor(splats.select(rest), cameras, scale)
    observed = finish(outside, splats, torch.zeros_like(outside.opacities), scale)
    kept = Enhanced(observed, RowEdit(rest, len(splats), torch.zeros_like(rest, dtype=torch.bool)))
    if len(rest):
        known = lineage and tuple(replace(level, ancestors=level.ancestors[rows]) for level in lineage.levels)
        splats, lineage = splats.select(rows), Lineage(known) if known else None
    if config.polish_steps(scale) and splats.recipe.background is None:
        splats = with_background(splats, cameras, report)
    plan = make_plan(splats, scale, config, cameras, lineage, weights, report)
    return Enhancement(replace(plan, alone=plan.alone or len(rest) > 0), rows, kept)


def enhance(
    splats: Splats,
    scale: float,
    config: EnhanceConfig | None = None,
    *,
    cameras: Cameras,
    lineage: Lineage | None = None,
    weights: Weights | None = None,
    report: Reporter = SILENT,
) -> Enhanced:
    """Predict finer Gaussians for a splat that is to be shown `scale` times finer than it was trained.

    Args:
        splats: N Gaussians of an LR fit, with what is known of its recipe.
        scale: 1 to 8, any real number.
        config: how.
        cameras: its training cameras at LR (or an estimate of them, `guess.estimate_cameras`).
        lineage: its coarser levels, where they are known.
        weights: a trained model; by default the one that comes with the package.
        report: receives progress.

    Returns:
        floor(budget N) plain Gaussians (N for the anchor method and at scale 1; in a region the budget counts its rows
        alone) to be shown with a mip filter of 0.1 px^2 (any viewer will do), with the extra property `provenance`
        (0 observed, 1 refined, 2 invented), and the edit that made them: each row in its place, then the second
        children; block by block where the splat is large, what lies outside a region first.

    Raises:
        GaussianVAEError: scale, budget, region or lineage out of range.
    """
    ready = prepare(splats, scale, config, cameras=cameras, lineage=lineage, weights=weights, report=report)
    parts = list(ready.parts(report))
    if len(parts) == 1:
        return parts[0]
    edit = RowEdit(
        torch.cat([part.edit.parents for part in parts]),
        len(splats),
        torch.cat([part.edit.born for part in parts]),
    )
    return Enhanced(concatenate([part.splats for part in parts]), edit)
