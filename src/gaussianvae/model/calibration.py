"""How far to follow the model: one step size a kind of recipe, chosen on training scenes that training never saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from gaussianvae.antialias import closed_forms
from gaussianvae.growth.choice import children_allowed, choose
from gaussianvae.growth.sensitivity import DEFAULT_SCORE, score
from gaussianvae.model.residuals import Residuals, insert
from gaussianvae.model.shards import Shard
from gaussianvae.model.tokens import Tokens
from gaussianvae.model.vae import LineageVAE, predict
from gaussianvae.model.weights import recipe_kind
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.rasterize import render
from gaussianvae.rasterize.types import Filter
from gaussianvae.scene.cameras import spread_views
from gaussianvae.scene.imaging import psnr
from gaussianvae.scene.splats import Splats

STEPS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True)
class Trial:
    """One held-out scene, ready to be judged at any step size."""

    shard: Shard
    tokens: Tokens
    residuals: Residuals
    chosen: torch.Tensor
    baseline: float
    """PSNR of the best closed form, dB."""


def judged_views(shard: Shard, most: int = 6) -> list[int]:
    """Some of the views that the LR fit never saw (any, where it saw all)."""
    unseen = torch.nonzero(~shard.seen)[:, 0]
    pool = unseen if len(unseen) else torch.arange(len(shard.seen))
    return pool[spread_views(len(pool), most)].tolist()


def mean_psnr(shard: Shard, splats: Splats, pixel: Filter, views: Sequence[int]) -> float:
    """Mean over views of the PSNR at HR, dB."""
    values = []
    with torch.no_grad():
        for view in views:
            image = render(splats, shard.fine_cameras, view, filter=pixel, background=shard.background).rgb
            values.append(psnr(image, shard.image(view)))
    return float(np.mean(values))


def make_trial(
    model: LineageVAE, shard: Shard, budget: float = 1.5, parents: str = DEFAULT_SCORE, with_lineage: bool = False
) -> Trial:
    """Predict once, by default for a bare splat (no lineage), and measure every closed form."""
    tokens = shard.tokens(with_lineage=with_lineage)
    scores = score(parents, shard.splats, shard.cameras, shard.phi, shard.scale)
    chosen = choose(scores, children_allowed(len(shard.splats), budget))
    views = judged_views(shard)
    forms = closed_forms(shard.splats, shard.cameras, shard.phi, shard.scale)
    best = max(mean_psnr(shard, form.splats, form.filter, views) for form in forms.values())
    return Trial(shard, tokens, predict(model, tokens), chosen, best)


def gain(trial: Trial, step: float, pixel: Filter, chosen: torch.Tensor | None = None) -> float:
    """PSNR over the best closed form with all residuals times `step`, dB; `chosen` rows become two."""
    shard = trial.shard
    chosen = trial.chosen if chosen is None else chosen
    fine, _ = insert(shard.anchor, trial.residuals.scaled(step), trial.tokens.frames, trial.tokens.order, chosen)
    return mean_psnr(shard, fine, pixel, judged_views(shard)) - trial.baseline


@dataclass(frozen=True)
class Calibration:
    """What was measured on the held-out scenes."""

    steps: Mapping[str, float]
    """The step size by kind of recipe: the smallest that is not measurably worse than the best."""
    gains: Mapping[str, Mapping[str, float]]
    """Mean gain by kind of recipe and step size, dB."""
    worst: Mapping[str, float]
    """Smallest gain of any scene at that step, by kind."""
    scenes: Mapping[str, int]
    """Held-out scenes by kind."""
    harmed: Mapping[str, int]
    """Scenes with a negative gain at that step, by kind."""


def smallest_good(gains: Float[np.ndarray, "scenes steps"]) -> int:
    """The first column whose mean is within one standard error, paired by row, of the best column's."""
    shortfall = gains[:, [gains.mean(0).argmax()]] - gains
    error = shortfall.std(0, ddof=1) / np.sqrt(len(gains)) if len(gains) > 1 else np.zeros(gains.shape[1])
    return int(np.flatnonzero(shortfall.mean(0) <= error)[0])


def calibrate(model: LineageVAE, shards: Sequence[Shard], pixel: Filter, report: Reporter = SILENT) -> Calibration:
    """Choose the step size of each kind of recipe by the gain over its held-out scenes.

    A few scenes with much to gain draw the mean's best step upwards, past what suits the others: of all steps whose
    mean falls short of the best by no more than the standard error of that shortfall (paired by scene), the smallest
    is taken.

    Args:
        model: trained.
        shards: scenes that its training never saw.
        pixel: the filter that results are shown with.
        report: receives progress.
    """
    table: dict[str, list[list[float]]] = {}
    with report.bar("calibrate", len(shards)) as bar:
        for shard in shards:
            trial = make_trial(model, shard)
            table.setdefault(recipe_kind(shard.splats.recipe), []).append([gain(trial, step, pixel) for step in STEPS])
            bar.advance()
    steps, gains, worst, harmed = {}, {}, {}, {}
    for kind, rows in table.items():
        values = np.array(rows)
        best = smallest_good(values)
        steps[kind] = STEPS[best]
        gains[kind] = {f"{step:g}": round(float(v), 3) for step, v in zip(STEPS, values.mean(0), strict=True)}
        worst[kind] = round(float(values[:, best].min()), 3)
        harmed[kind] = int((values[:, best] < 0).sum())
    return Calibration(steps, gains, worst, {kind: len(rows) for kind, rows in table.items()}, harmed)
