"""The main job: a splat in, a finer splat out.

anchor -> sensitivity -> choice -> model -> insert -> polish -> provenance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER, anchor, training_filter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting.polish import Agreement, polish
from gaussianvae.growth.choice import children_allowed, choose
from gaussianvae.growth.lineage import Lineage, check_lineage
from gaussianvae.growth.sensitivity import DEFAULT_SCORE, Curvature, curvature, score
from gaussianvae.guess import guess_background, guess_recipe
from gaussianvae.model.residuals import insert
from gaussianvae.model.tokens import Tokens, make_tokens
from gaussianvae.model.vae import predict
from gaussianvae.model.weights import Weights, shipped_weights
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import Cameras, footprints, spread_views
from gaussianvae.scene.edits import RowEdit, unchanged
from gaussianvae.scene.region import Box, inside
from gaussianvae.scene.splats import Splats, concatenate
from gaussianvae.scene.split import split_rows

OBSERVED, REFINED, INVENTED = 0.0, 1.0, 2.0
"""Values of the extra property `provenance`."""
MAX_SCALE = 8.0
FULL_FROM = 1.5
"""The smallest scale trained on; below it the residuals fade out towards scale 1."""
TRUST = (math.inf, 16.0, 8.0, 4.0, 2.0, 0.0)
"""Sizes in LR pixels above which the model's residuals fade out, tried in turn until the result agrees with the splat:
walls and skies of real scenes are covered by Gaussians far larger than those of the objects that it was trained on."""
LARGE, RARE = 8.0, 0.01
"""A splat is checked where more than that share of its Gaussians is longer than that many LR pixels."""
CHECKED = 3
"""Views in which it is checked."""
CLOSE, SHORTFALL = 42.0, 5.0
"""A result agrees with the splat where its render, brought down, is as near to the splat's as the anchor's is, but for
the shortfall (dB); beyond `CLOSE` nothing counts. All held-out training scenes pass with all residuals."""
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
    roi: Box | None = None
    """Only Gaussians whose centers lie in this box (x0, y0, z0, x1, y1, z1) are refined; the budget counts them. Scores
    and context are measured within the box, so its border differs a little from a run over the whole splat."""

    def __post_init__(self) -> None:
        if self.polish is not None and self.polish < 0:
            raise GaussianVAEError(f"{self.polish} steps of polish can't be taken; give 0 for none")

    def polish_steps(self, scale: float) -> int:
        """How many steps of polish a scale gets: fewer below the smallest that the model was trained on."""
        steps = self.polish if self.polish is not None else POLISH if self.method == "vae" else 0
        return round(steps * closeness(scale))


Way = Callable[[], tuple[Splats, RowEdit]]
"""Makes finer Gaussians, and the edit that tells where they come from."""


@dataclass(frozen=True)
class Enhanced:
    """The finer splat, and which of the given rows each of its rows descends from."""

    splats: Splats
    edit: RowEdit


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
        splats = replace(splats, recipe=guess_recipe(splats, cameras))
        report.message(f"the splat doesn't say how it was trained; its sizes look like a {splats.recipe.mode} fit")
    start = anchor(splats, cameras, scale)
    region = inside(splats, config.roi)
    if config.polish_steps(scale) and splats.recipe.background is None:
        splats = with_background(splats, cameras, report)
    rule = Agreement(splats, cameras, scale, config.seed)
    if config.method == "anchor" or scale == 1:
        fine, edit = start, unchanged(len(start))
    else:
        ways = _divide(splats, start, region, scale, config, cameras, lineage, weights, report)
        fine, edit = _trusted(ways, rule, start, report)
    changing = None if region.all() else region[edit.parents]
    fine = polish(fine, rule, config.polish_steps(scale), rows=changing, report=report)
    return Enhanced(_finished(fine, provenance(start, fine, edit), scale), edit)


def with_background(splats: Splats, cameras: Cameras, report: Reporter = SILENT) -> Splats:
    """The splat with a guess of its photos' background, where one can be made."""
    color = guess_background(splats, cameras, training_filter(splats.recipe))
    shown = "both black and white" if color is None else "white" if color[0] else "black"
    report.message(f"the background of its photos is taken for {shown} (--background sets it)")
    return replace(splats, recipe=replace(splats.recipe, background=color))


def _trusted(ways: Sequence[Way], rule: Agreement, start: Splats, report: Reporter) -> tuple[Splats, RowEdit]:
    """The first way whose result shows, brought down, about what the splat shows; else the closer of the last two.

    What is divided without the model disagrees a little, too: few of its changes are often closer than none.
    """
    views = spread_views(len(rule.cameras), CHECKED)
    if not views or len(ways) == 1:
        return ways[0]()
    bound = CLOSE - SHORTFALL
    for tried, way in enumerate(ways[:-1]):
        fine, edit = way()
        agreement = rule.decibels(fine, views)
        if tried == 0 and agreement < bound:
            bound = min(bound, rule.decibels(start, views) - SHORTFALL)
        if agreement >= bound:
            return fine, edit
        if tried == 0:
            report.message(
                f"it has Gaussians larger than most that the model was trained on, and what is predicted disagrees "
                f"with it ({agreement:.1f} dB): the larger ones are left as they are"
            )
    little, nothing = ways[-2](), ways[-1]()
    return little if rule.decibels(little[0], views) > rule.decibels(nothing[0], views) else nothing


def _divide(
    splats: Splats,
    start: Splats,
    region: Bool[Tensor, " N"],
    scale: float,
    config: EnhanceConfig,
    cameras: Cameras,
    lineage: Lineage | None,
    weights: Weights | None,
    report: Reporter,
) -> list[Way]:
    """What may become of the rows of a region, behind the rest as it was (see `_divide_all`)."""
    if region.all():
        return _divide_all(splats, start, scale, config, cameras, lineage, weights, report)
    rows, rest = torch.nonzero(region)[:, 0], torch.nonzero(~region)[:, 0]
    known = lineage and Lineage(tuple(replace(level, ancestors=level.ancestors[rows]) for level in lineage.levels))
    ways = _divide_all(splats.select(rows), start.select(rows), scale, config, cameras, known, weights, report)

    def put_back(way: Way) -> tuple[Splats, RowEdit]:
        part, edit = way()
        parents = torch.cat([rest, rows[edit.parents]])
        born = torch.cat([torch.zeros(len(rest), dtype=torch.bool), edit.born])
        return concatenate([start.select(rest), part]), RowEdit(parents, len(start), born)

    return [partial(put_back, way) for way in ways]


def _divide_all(
    splats: Splats,
    start: Splats,
    scale: float,
    config: EnhanceConfig,
    cameras: Cameras,
    lineage: Lineage | None,
    weights: Weights | None,
    report: Reporter,
) -> list[Way]:
    """Choose the rows that become two, and refine all rows by the model, or none for the closed form.

    Returns:
        ways to do it, to be tried in turn: with all that the model predicts, and where there are many large Gaussians,
        with less and less of what it predicts for those.
    """
    phi = footprints(cameras, splats.means)
    count = children_allowed(len(splats), config.budget)
    measured = config.method == "vae" and config.determinacy
    known = curvature(splats, cameras, report=report) if measured else None
    chosen = choose_parents(splats, cameras, phi, scale, count, config, known, report)
    if config.method == "split":
        return [lambda: split_rows(start, torch.nonzero(chosen)[:, 0])]
    weights = weights or shipped_weights()
    tokens = make_tokens(splats, start, phi, scale, lineage=lineage, known=known)
    generator = torch.Generator().manual_seed(config.seed) if config.samples else None
    residuals = predict(weights.model, tokens, generator)
    step = weights.step_for(splats.recipe) * closeness(scale)

    def up_to(limit: float) -> tuple[Splats, RowEdit]:
        return insert(start, residuals.scaled(step * trust(tokens, limit)), tokens.frames, tokens.order, chosen)

    many = float((tokens.own[:, 0] > math.log(LARGE)).double().mean()) > RARE
    return [partial(up_to, limit) for limit in (TRUST if many else TRUST[:1])]


def trust(tokens: Tokens, limit: float) -> Float[Tensor, " N"]:
    """How much of each row's residuals to take, 0-1: all up to `limit` LR pixels along the longest axis, none from
    twice as many on."""
    longest = tokens.own[:, 0]
    if limit in (0, math.inf):
        return torch.full_like(longest, float(limit > 0))
    return ((math.log(2 * limit) - longest) / math.log(2)).clamp(0, 1)


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
