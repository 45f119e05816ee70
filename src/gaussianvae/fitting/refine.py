"""Splat + low-resolution photos -> finer splat: no finer image is needed, the photos' sub-pixel differences hold it.

The splat is rendered at the finer resolution, the render is brought down as the camera did, and compared there with the
photo. Nothing is random but the order of the views, a function of (seed, epoch): a run resumes as if it had never
stopped.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.captures import Views, digest
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting.cost import STEP_RENDERS, estimate
from gaussianvae.fitting.holdout import Figure, check_match, hold_out, measure, select_views
from gaussianvae.fitting.optics import fit_operator
from gaussianvae.fitting.parameters import Rates
from gaussianvae.fitting.refinement import (
    RATES,
    Check,
    Run,
    State,
    best_check,
    load_checkpoint,
    save_checkpoint,
)
from gaussianvae.fitting.sub_pixel import RefineConfig, grow, max_rows, present, progress_of, start_run, take_step
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import Cameras, resize, spread_views
from gaussianvae.scene.edits import RowEdit
from gaussianvae.scene.imaging import Operator
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats, state_tensors

MAX_SCALE = 8.0
EVERY = 250
"""Steps between two looks at the held-out photos, and between two growths."""
GROWTH_END = 0.7
"""Rows are split until this share of the run."""
PATIENCE, WORTH = 3, 0.02
"""So many looks without that gain (dB) end the run; twice as many while rows are still to be split."""
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Refined:
    """The refined splat."""

    splats: Splats
    edit: RowEdit
    """Which rows of the start its rows descend from."""
    before: Figure
    """The start's figure on the held-out photos."""
    after: Figure
    """The result's. Where the start's own fit had seen those photos, it is compared without that favor (`Check.favor`);
    else this is never less in `decibels`."""
    checks: tuple[Check, ...]
    steps: int
    """Steps taken; the result may be an earlier state."""


def refine(
    splats: Splats,
    views: Views,
    scale: float,
    config: RefineConfig | None = None,
    *,
    start: Splats | None = None,
    rates: Rates = RATES,
    factor: float | None = None,
    held: Sequence[int] | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    report: Reporter = SILENT,
) -> Refined:
    """Optimize a splat at a finer resolution such that its renders, brought down, match the photos.

    Args:
        splats: N Gaussians; the budget counts them.
        views: at least 4 photos with their cameras; some are held out (`RefineConfig.held_out`).
        scale: how much finer than the photos, 1 to 8, any real number.
        config: how.
        start: where to begin, in Gaussians for `PIXEL_FILTER` at the finer resolution; `splats` itself by default.
        rates: step sizes.
        factor: reduction of the capture's photos that `views` holds, remembered in the recipe.
        held: the views that judge, at least 2, with as many left; by default `config.held_out` of them, evenly spread.
            Best are those that the splat's own fit never saw (`holdout.unseen_by`).
        checkpoint: file written every minute and removed at the end.
        resume: go on from the checkpoint if it is there; without, one that is there is an error.
        report: receives progress.

    Returns:
        at most floor(budget N) plain Gaussians for `PIXEL_FILTER` at the finer resolution: the best state, by the
        held-out photos, of all that were looked at, the start among them.

    Raises:
        GaussianVAEError: scale, budget or number of photos out of range, nothing to refine, photos that show something
            else, a checkpoint of another run.
    """
    config = config or RefineConfig()
    start = splats if start is None else start
    if not 1 <= scale <= MAX_SCALE:
        raise GaussianVAEError(f"the scale is {scale:g}; allowed are 1 to {MAX_SCALE:g}")
    if len(splats) == 0 or len(start) == 0:
        raise GaussianVAEError("the splat holds no Gaussians; there is nothing to refine")
    if len(start) > max_rows(splats, config):
        raise GaussianVAEError(
            f"the start has {len(start)} Gaussians, more than the budget of {config.budget:g} times {len(splats)} "
            "allows; raise the budget or choose another start"
        )
    if checkpoint is not None and checkpoint.exists() and not resume:
        raise GaussianVAEError(f"{checkpoint}: an interrupted run left it; add --resume to go on, or remove the file")
    learned, judges = hold_out(len(views.cameras), config.held_out)
    if held is not None:
        learned, judges = sorted(set(range(len(views.cameras))) - set(held)), sorted(held)
    fitted, judging = select_views(views, learned), select_views(views, judges)
    start = replace(start, recipe=fine_recipe(start.recipe, views.cameras, scale, factor), stored=None)
    operator: Operator = "area" if config.operator == "fit" else config.operator
    check_match(start, views, resize(views.cameras, 1 / scale), operator)
    run = start_run(start, resize(fitted.cameras, 1 / scale), config, rates, operator)
    identity = run_identity(len(splats), start, views, judges, scale, config, rates)
    if checkpoint is not None and checkpoint.exists():
        load_checkpoint(run, checkpoint, identity, config.filter_3d)
        report.message(f"goes on after step {run.step}")
        a_render = run.seconds / (STEP_RENDERS * max(1, run.step))
    else:
        if config.operator == "fit":
            run.operator = fit_operator(start, fitted, judging, scale, config, rates, report)
        begin = time.monotonic()
        look(run, judging, None, scale, config)
        a_render = (time.monotonic() - begin) / len(judges)
    pixels = max(width * height for width, height in resize(views.cameras, 1 / scale).sizes)
    rows = max_rows(splats, config)
    cost = estimate(a_render, config.steps - run.step, len(run.parameters), rows, pixels)
    if config.minutes is not None:
        cost = replace(cost, seconds=min(cost.seconds, 60 * config.minutes - run.seconds))
    report.message(f"{config.steps} steps at most, up to {rows} Gaussians: {cost}")
    save = None if checkpoint is None else lambda: save_checkpoint(run, checkpoint, identity)
    peers = None if held is not None else select_views(views, peers_of(learned, len(judges)))
    optimize(run, fitted, judging, peers, scale, config, rows, save=save, report=report)
    result = finished(run)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    gain = f"held-out photos {result.before} -> {result.after}, {len(result.splats)} Gaussians"
    favor = result.checks[0].favor
    if favor > 0:
        gain += f" (the splat's fit had seen them, which flatters the start by about {favor:.1f} dB)"
    report.message(gain if result.after != result.before else f"{gain}: nothing gained, the start is returned")
    return result


def fine_recipe(before: Recipe, cameras: Cameras, scale: float, factor: float | None) -> Recipe:
    """What a splat remembers that was judged at the finer resolution."""
    fine = resize(cameras, 1 / scale)
    factor = factor if factor is not None else before.factor
    return replace(
        before,
        mode=PIXEL_FILTER.mode,
        eps2d=PIXEL_FILTER.eps2d,
        focal_px=float(fine.focals.median()),
        width=fine.sizes[0][0],
        factor=factor and factor / scale,
    )


def peers_of(learned: Sequence[int], count: int) -> list[int]:
    """Some of the views that are learned from, as many as judge, evenly spread."""
    return [learned[place] for place in spread_views(len(learned), count)]


def look(run: Run, held: Views, peers: Views | None, scale: float, config: RefineConfig) -> None:
    """Judge the present state by the held-out photos and keep it if it is the best.

    A start whose own fit saw the held-out photos is favored by them as any fit is by what it learned from. By how much,
    the first look after it tells: photos learned from (`peers`) look so much better in it than those held out.
    """
    # before the first step the start itself is judged, not what the optimizer makes of it
    state = run.best if run.step == 0 else State(present(run, config), run.edit)
    figure = measure(state.splats, held, resize(held.cameras, 1 / scale), run.operator)
    if len(run.checks) == 1 and peers is not None:
        seen = measure(state.splats, peers, resize(peers.cameras, 1 / scale), run.operator)
        run.checks[0] = replace(run.checks[0], favor=max(0.0, seen.decibels - figure.decibels))
    if not run.checks or figure.decibels > best_check(run).decibels:
        run.best = state
    run.checks.append(Check(run.step, figure, progress_of(run, config) < GROWTH_END))


def optimize(
    run: Run,
    fitted: Views,
    held: Views,
    peers: Views | None,
    scale: float,
    config: RefineConfig,
    rows: int,
    *,
    save: Callable[[], None] | None = None,
    report: Reporter = SILENT,
) -> None:
    """Take the run to its end: the steps, the time, or nothing left to gain on the held-out photos."""
    fine = resize(fitted.cameras, 1 / scale)
    begin = time.monotonic() - run.seconds
    saved = time.monotonic()
    with report.bar("refine", config.steps, run.step) as bar:
        while progress_of(run, config) < 1:
            loss = take_step(run, fitted, fine, config)
            run.seconds = time.monotonic() - begin
            if run.step % EVERY == 0:
                look(run, held, peers, scale, config)
                if run.checks[-1].growing and not grow(run, fine, rows):
                    report.message(f"stopped after {run.step} steps: every Gaussian had faded away")
                    return
                if settled(run.checks):
                    report.message(f"stopped after {run.step} steps: the held-out photos gain nothing more")
                    return
            bar.advance(
                held_out=f"{run.checks[-1].figure.psnr:.2f} dB", loss=f"{loss:.4f}", gaussians=str(len(run.parameters))
            )
            if save is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                save()
                saved = time.monotonic()
    if run.checks[-1].step != run.step:
        look(run, held, peers, scale, config)


def settled(checks: list[Check]) -> bool:
    """Whether the last looks gained nothing worth more renders."""
    looks = PATIENCE if len(checks) >= PATIENCE and not checks[-PATIENCE].growing else 2 * PATIENCE
    recent, earlier = checks[-looks:], checks[:-looks]
    if not earlier:
        return False
    reached = max(check.decibels for check in earlier)
    return max(check.decibels for check in recent) < reached + WORTH


def finished(run: Run) -> Refined:
    """The best state, with what its rows inherit from the start's."""
    extras = {name: run.best.edit.apply(column) for name, column in run.start.extras.items()}
    splats = replace(run.best.splats, extras=extras, comments=run.start.comments)
    return Refined(splats, run.best.edit, run.checks[0].figure, best_check(run).figure, tuple(run.checks), run.step)


def run_identity(
    count: int, start: Splats, views: Views, judges: list[int], scale: float, config: RefineConfig, rates: Rates
) -> str:
    """What a run's result depends on, as a text."""
    content = hashlib.sha256()
    for value in state_tensors(start, "start").values():
        content.update(value.contiguous().numpy().tobytes())
    parts = [count, content.hexdigest()[:24], digest(views), judges, scale, asdict(config), asdict(rates)]
    return json.dumps(parts, sort_keys=True)
