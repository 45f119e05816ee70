"""How a camera brought light down to its photos, told by the photos themselves."""

from __future__ import annotations

from dataclasses import replace

from gaussianvae.captures import Views
from gaussianvae.fitting.holdout import Figure, measure
from gaussianvae.fitting.parameters import Rates
from gaussianvae.fitting.sub_pixel import RefineConfig, present, start_run, take_step
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import resize
from gaussianvae.scene.imaging import OPERATORS, Operator
from gaussianvae.scene.splats import Splats

TRIAL = 250
"""Steps with each operator."""


def fit_operator(
    start: Splats,
    fitted: Views,
    judging: Views,
    scale: float,
    config: RefineConfig,
    rates: Rates,
    report: Reporter = SILENT,
) -> Operator:
    """The operator after a short refinement with which the held-out photos are explained best.

    A blur that is learned along with the splat tells nothing: whatever the lens did, Gaussians that are that much wider
    or narrower show the same photos. But renders through the wrong operator agree less from view to view.

    Args:
        start: plain Gaussians for `PIXEL_FILTER` at the finer resolution.
        fitted: the photos to learn from.
        judging: the photos that judge.
        scale: how much finer than the photos the splat is.
        config: of the refinement that follows.
        rates: its step sizes.
        report: receives the figures.
    """
    fine, trial = resize(fitted.cameras, 1 / scale), replace(config, steps=TRIAL, minutes=None)
    figures: dict[Operator, Figure] = {}
    with report.bar("operator", TRIAL * len(OPERATORS)) as bar:
        for operator in OPERATORS:
            run = start_run(start, fine, trial, rates, operator)
            for _ in range(TRIAL):
                take_step(run, fitted, fine, trial)
                bar.advance()
            figures[operator] = measure(present(run, trial), judging, resize(judging.cameras, 1 / scale), operator)
    best = max(figures, key=lambda operator: figures[operator].decibels)
    shown = ", ".join(f"{operator} {figure}" for operator, figure in figures.items())
    report.message(f"the photos look as if they were brought down by {best} (held-out photos: {shown})")
    return best
