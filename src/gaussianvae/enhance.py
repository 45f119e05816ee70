"""The main job: a splat in, a finer splat out.

anchor -> sensitivity -> choice -> model -> insert -> polish -> provenance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER, anchor, training_filter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting.polish import polish
from gaussianvae.growth.choice import children_allowed, choose
from gaussianvae.growth.lineage import Lineage, check_lineage
from gaussianvae.growth.sensitivity import DEFAULT_SCORE, Curvature, curvature, score
from gaussianvae.guess import guess_background, guess_recipe
from gaussianvae.model.residuals import insert
from gaussianvae.model.tokens import make_tokens
from gaussianvae.model.vae import predict
from gaussianvae.model.weights import Weights, shipped_weights
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import Cameras, footprints
from gaussianvae.scene.edits import RowEdit, unchanged
from gaussianvae.scene.splats import Splats, concatenate
from gaussianvae.scene.split import split_rows

OBSERVED, REFINED, INVENTED = 0.0, 1.0, 2.0
"""Values of the extra property `provenance`."""
MAX_SCALE = 8.0
FULL_FROM = 1.5
"""The smallest scale trained on; below it the residuals fade out towards scale 1."""
POLISH = 100
"""Steps of polish after the model: what more gain costs, benchmarks/polish.py shows."""


def closeness(scale: float) -> float:
    """How much of every change a scale gets: none at 1, all from `FULL_FROM` on."""
    return min(1.0, (scale - 1) / (FULL_FROM - 1))


@dataclass(frozen=True)
class EnhanceConfig:
    """How a splat is made finer."""

    budget: float = 1.5
    """Gaussians out per Gaussian in, 1 to 2, kept exactly (rounded down)."""
    method: Literal["vae", "anchor", "split"] = "vae"
    """`vae`: the trained model; `anchor` and `split`: the closed forms."""
    score: str = DEFAULT_SCORE
    """Which Gaussians become two: random, size, self_gradient, speedy or block."""
    tau: float = math.inf
    """Infinite splits the best scores; else parents are drawn with p proportional to score^tau."""
    determinacy: bool = True
    """Measure how far the views determine each Gaussian (12 renders) and show it to the model."""
    polish: int | None = None
    """Steps that make the result agree with the given splat at its own resolution, without any photo; by default 100
    after the model and 0 after a closed form. 0 leaves the one pass of the model as it is."""
    samples: int = 0
    """0 takes the mean of the model's distribution, else draws from it; the command writes one file a draw."""
    seed: int = 0
    """Seed of the draw and of random choices."""
    roi: tuple[float, float, float, float, float, float] | None = None
    """Only Gaussians whose centers lie in this box (x0, y0, z0, x1, y1, z1) are refined; the budget counts them. Scores
    and context are measured within the box, so its border differs a little from a run over the whole splat."""

    def __post_init__(self) -> None:
        if self.polish is not None and self.polish < 0:
            raise GaussianVAEError(f"{self.polish} steps of polish can't be taken; give 0 for none")

    def polish_steps(self, scale: float) -> int:
        """How many steps of polish a scale gets: fewer below the smallest that the model was trained on."""
        steps = self.polish if self.polish is not None else POLISH if self.method == "vae" else 0
        return round(steps * closeness(scale))


@dataclass(frozen=True)
class Enhanced:
    """The finer splat, and which of the given rows each of its rows descends from."""

    splats: Splats
    edit: RowEdit


def inside(splats: Splats, roi: tuple[float, ...] | None) -> Bool[Tensor, " N"]:
    """Rows in a box (x0, y0, z0, x1, y1, z1); all without one.

    Raises:
        GaussianVAEError: the box is empty or holds no Gaussian.
    """
    if roi is None:
        return torch.ones(len(splats), dtype=torch.bool)
    low, high = torch.tensor(roi[:3]), torch.tensor(roi[3:])
    if not bool((low < high).all()):
        raise GaussianVAEError(f"the region {roi} is empty; give x0,y0,z0,x1,y1,z1 with x0 < x1, y0 < y1, z0 < z1")
    mask = ((splats.means >= low) & (splats.means <= high)).all(1)
    if not mask.any():
        lo, hi = splats.means.amin(0).tolist(), splats.means.amax(0).tolist()
        raise GaussianVAEError(f"the region {roi} holds no Gaussian; the splat spans {_box(lo)} to {_box(hi)}")
    return mask


def _box(corner: list[float]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in corner) + ")"


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
        (0 observed, 1 refined, 2 invented), and the edit that made them.

    Raises:
        GaussianVAEError: scale, budget, region or lineage out of range.
    """
    config = config or EnhanceConfig()
    if not 1 <= scale <= MAX_SCALE or math.isnan(scale):
        raise GaussianVAEError(f"the scale is {scale:g}; allowed are 1 to {MAX_SCALE:g}")
    children_allowed(len(splats), config.budget)
    if lineage is not None:
        check_lineage(lineage, splats, "the lineage")
    if len(splats) == 0:
        return Enhanced(_finished(splats, torch.zeros(0), scale), unchanged(0))
    if splats.recipe.mode is None:
        splats = replace(splats, recipe=guess_recipe(splats))
        report.message(f"the splat doesn't say how it was trained; its sizes look like a {splats.recipe.mode} fit")
    start = anchor(splats, cameras, scale)
    region = inside(splats, config.roi)
    whole = bool(region.all())
    if config.method == "anchor" or scale == 1:
        fine, edit = start, unchanged(len(start))
    elif whole:
        fine, edit = _divide(splats, start, scale, config, cameras, lineage, weights, report)
    else:
        rows, rest = torch.nonzero(region)[:, 0], torch.nonzero(~region)[:, 0]
        part, within = _divide(
            splats.select(rows), start.select(rows), scale, config, cameras,
            lineage and Lineage(tuple(replace(level, ancestors=level.ancestors[rows]) for level in lineage.levels)),
            weights, report,
        )  # fmt: skip
        fine = concatenate([start.select(rest), part])
        edit = RowEdit(
            torch.cat([rest, rows[within.parents]]),
            len(splats),
            torch.cat([torch.zeros(len(rest), dtype=torch.bool), within.born]),
        )
    if config.polish_steps(scale) and splats.recipe.background is None:
        color = guess_background(splats, cameras, training_filter(splats.recipe))
        splats = replace(splats, recipe=replace(splats.recipe, background=color))
        shown = "both black and white" if color is None else "white" if color[0] else "black"
        report.message(f"the background of its photos is taken for {shown} (--background sets it)")
    changing = None if whole else region[edit.parents]
    fine = polish(
        fine, splats, cameras, scale, config.polish_steps(scale), rows=changing, seed=config.seed, report=report
    )
    return Enhanced(_finished(fine, provenance(start, fine, edit), scale), edit)


def _divide(
    splats: Splats,
    start: Splats,
    scale: float,
    config: EnhanceConfig,
    cameras: Cameras,
    lineage: Lineage | None,
    weights: Weights | None,
    report: Reporter,
) -> tuple[Splats, RowEdit]:
    """Choose the rows that become two, and refine all of them by the model or not at all."""
    phi = footprints(cameras, splats.means)
    count = children_allowed(len(splats), config.budget)
    measured = config.method == "vae" and config.determinacy
    known = curvature(splats, cameras, report=report) if measured else None
    chosen = choose_parents(splats, cameras, phi, scale, count, config, known, report)
    if config.method == "split":
        return split_rows(start, torch.nonzero(chosen)[:, 0])
    weights = weights or shipped_weights()
    tokens = make_tokens(splats, start, phi, scale, lineage=lineage, known=known)
    generator = torch.Generator().manual_seed(config.seed) if config.samples else None
    step = weights.step_for(splats.recipe) * closeness(scale)
    residuals = predict(weights.model, tokens, generator).scaled(step)
    return insert(start, residuals, tokens.frames, tokens.order, chosen)


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
        return torch.full((len(splats),), count > 0)
    scores = score(config.score, splats, cameras, phi, scale, seed=config.seed, known=known, report=report)
    return choose(scores, count, config.tau, config.seed)


def provenance(start: Splats, fine: Splats, edit: RowEdit) -> Float[Tensor, " M"]:
    """Observed: within a tenth of its anchor (center, size, opacity); invented: a second child; else refined."""
    before = start.select(edit.parents)
    moved = (fine.means - before.means).norm(dim=1) / before.scales.amax(1).clamp_min(1e-12)
    resized = (fine.scales / before.scales.clamp_min(1e-12)).clamp_min(1e-12).log().abs().amax(1)
    faded = (fine.opacities - before.opacities).abs()
    same = (moved < 0.1) & (resized < 0.1) & (faded < 0.1)
    kind = torch.where(same, torch.full_like(faded, OBSERVED), torch.full_like(faded, REFINED))
    return torch.where(edit.born, torch.full_like(faded, INVENTED), kind)


def _finished(splats: Splats, kind: Tensor, scale: float) -> Splats:
    """Plain Gaussians in mip mode at the finer resolution, whatever their LR fit was, with their provenance."""
    before = splats.recipe
    recipe = replace(
        before,
        mode=PIXEL_FILTER.mode,
        eps2d=PIXEL_FILTER.eps2d,
        focal_px=before.focal_px and before.focal_px * scale,
        width=before.width and round(before.width * scale),
        factor=before.factor and before.factor / scale,
    )
    return replace(splats, extras={**splats.extras, "provenance": kind}, recipe=recipe, stored=None)
