"""One block of a splat made finer: model -> insert -> polish -> provenance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.enhance.config import closeness
from gaussianvae.enhance.plan import Plan, views_of
from gaussianvae.fitting.polish import Agreement, polish
from gaussianvae.model.residuals import Residuals, insert
from gaussianvae.model.tokens import make_tokens
from gaussianvae.model.vae import predict
from gaussianvae.progress import Reporter
from gaussianvae.scene.cameras import spread_views
from gaussianvae.scene.edits import RowEdit, unchanged
from gaussianvae.scene.splats import Splats
from gaussianvae.scene.split import split_rows

OBSERVED, REFINED, INVENTED = 0.0, 1.0, 2.0
"""Values of the extra property `provenance`."""
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
AT_ONCE = 1 << 16
"""Rows that the model sees at a time."""

Way = Callable[[], tuple[Splats, RowEdit]]
"""Makes finer Gaussians, and the edit that tells where they come from."""


@dataclass(frozen=True)
class Enhanced:
    """Finer Gaussians, and which of the given rows each of them descends from."""

    splats: Splats
    edit: RowEdit


def refine_block(plan: Plan, rows: Int[Tensor, " M"], report: Reporter) -> Enhanced:
    """Some rows of a plan made finer: each refined in its place, then the second children.

    The edit's parents are rows of the plan's splat. A block that is shown alone has to agree with the splat over black
    and over white, so that it agrees whatever lies behind.
    """
    whole = len(rows) == len(plan.splats)
    given, start = (plan.splats, plan.start) if whole else (plan.splats.select(rows), plan.start.select(rows))
    cameras = plan.cameras
    if plan.alone:
        cameras = views_of(cameras, given.means)
        given = replace(given, recipe=replace(given.recipe, background=None))
    rule = Agreement(given, cameras, plan.scale, plan.config.seed)
    if plan.phi is None:
        fine, edit = start, unchanged(len(start))
    else:
        fine, edit = _trusted(_ways(plan, rows, start), rule, start, report)
    fine = polish(fine, rule, plan.config.polish_steps(plan.scale), report=report)
    finished = finish(fine, plan.splats, provenance(start, fine, edit), plan.scale)
    return Enhanced(finished, RowEdit(rows[edit.parents], len(plan.splats), edit.born))


def _trusted(ways: Sequence[Way], rule: Agreement, start: Splats, report: Reporter) -> tuple[Splats, RowEdit]:
    """The first way whose result shows, brought down, about what the splat shows; else the closer of the last two.

    What is divided without the model disagrees a little, too: few of its changes are often closer than none.
    """
    views = spread_views(len(rule.cameras), CHECKED)
    if not views or len(ways) == 1:
        return ways[0]()
    bound, agreement = CLOSE - SHORTFALL, -math.inf
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
    nothing = ways[-1]()
    return (fine, edit) if agreement > rule.decibels(nothing[0], views) else nothing


def _ways(plan: Plan, rows: Int[Tensor, " M"], start: Splats) -> list[Way]:
    """What may become of some rows, to be tried in turn: with all that the model predicts, and where there are many
    large Gaussians, with less and less of what it predicts for those. A closed form has one way."""
    chosen = plan.chosen[rows]
    if plan.weights is None:
        return [lambda: split_rows(start, torch.nonzero(chosen)[:, 0])]
    said = _predicted(plan, rows)
    step = plan.weights.step_for(plan.splats.recipe) * closeness(plan.scale)

    def up_to(limit: float) -> tuple[Splats, RowEdit]:
        return insert(start, said.residuals.scaled(step * trust(said.longest, limit)), said.frames, said.order, chosen)

    many = float((said.longest > math.log(LARGE)).double().mean()) > RARE
    return [partial(up_to, limit) for limit in (TRUST if many else TRUST[:1])]


@dataclass(frozen=True)
class _Prediction:
    """What the model says of some rows, and what is needed to follow it."""

    residuals: Residuals
    frames: Float[Tensor, "M 3 3"]
    order: Int[Tensor, "M 3"]
    longest: Float[Tensor, " M"]
    """ln of the longest standard deviation in LR pixels."""


def _predicted(plan: Plan, rows: Int[Tensor, " M"]) -> _Prediction:
    """The model's word on some rows, a few at a time: tokens need ten times the memory of what comes of them."""
    assert plan.phi is not None and plan.weights is not None
    parts = []
    for some in rows.split(AT_ONCE):
        tokens = make_tokens(
            plan.splats, plan.start, plan.phi, plan.scale,
            lineage=plan.lineage, known=plan.determinacy, neighborhood=plan.neighborhood, rows=some,
        )  # fmt: skip
        residuals = predict(plan.weights.model, tokens, plan.generator)
        parts.append((residuals.geometry, residuals.appearance, tokens.frames, tokens.order, tokens.own[:, 0].clone()))
    geometry, appearance, frames, order, longest = (torch.cat(column) for column in zip(*parts, strict=True))
    return _Prediction(Residuals(geometry, appearance), frames, order, longest)


def trust(longest: Float[Tensor, " N"], limit: float) -> Float[Tensor, " N"]:
    """How much of each row's residuals to take, 0-1: all up to `limit` LR pixels along the longest axis (given as its
    logarithm), none from twice as many on."""
    if limit in (0, math.inf):
        return torch.full_like(longest, float(limit > 0))
    return ((math.log(2 * limit) - longest) / math.log(2)).clamp(0, 1)


def provenance(start: Splats, fine: Splats, edit: RowEdit) -> Float[Tensor, " M"]:
    """Observed: within a tenth of its anchor (center, size, opacity); invented: a second child; else refined."""
    before = start.select(edit.parents)
    moved = (fine.means - before.means).norm(dim=1) / before.scales.amax(1).clamp_min(1e-12)
    resized = (fine.scales / before.scales.clamp_min(1e-12)).clamp_min(1e-12).log().abs().amax(1)
    faded = (fine.opacities - before.opacities).abs()
    same = (moved < 0.1) & (resized < 0.1) & (faded < 0.1)
    kind = torch.where(same, torch.full_like(faded, OBSERVED), torch.full_like(faded, REFINED))
    return torch.where(edit.born, torch.full_like(faded, INVENTED), kind)


def finish(fine: Splats, given: Splats, kind: Float[Tensor, " M"], scale: float) -> Splats:
    """Plain Gaussians in mip mode at the finer resolution, whatever their LR fit was, with their provenance."""
    before = given.recipe
    recipe = replace(
        before,
        mode=PIXEL_FILTER.mode,
        eps2d=PIXEL_FILTER.eps2d,
        focal_px=before.focal_px and before.focal_px * scale,
        width=before.width and round(before.width * scale),
        factor=before.factor and before.factor / scale,
    )
    return replace(fine, extras={**fine.extras, "provenance": kind}, recipe=recipe, stored=None)
