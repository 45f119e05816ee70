"""`gaussianvae refine`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import Parameter

from gaussianvae.captures import load_views, read_capture
from gaussianvae.cli.options import Output, check_splat_output, check_writable, parse_background
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting import refine as refining
from gaussianvae.fitting.holdout import unseen_by
from gaussianvae.fitting.sub_pixel import RefineConfig
from gaussianvae.formats import cameras_beside, find_cameras, read_splats, write_cameras, write_splats
from gaussianvae.frames_check import check_frames
from gaussianvae.progress import Reporter
from gaussianvae.scene.cameras import Cameras, resize
from gaussianvae.scene.splats import Splats

Start = Literal["vae", "anchor", "as-is"]
START_BUDGET = 1.5
"""Gaussians that the model's start has for each given one, where the budget allows so many."""


def refine(
    splats: Path,
    capture: Path,
    /,
    *,
    output: Output,
    factor: float | None = None,
    scale: float = 4.0,
    start: Start = "vae",
    resume: bool = False,
    background: str = "black",
    config: Annotated[RefineConfig | None, Parameter(name="*")] = None,
) -> None:
    """Make a splat finer by its low-resolution photos: what they show between their pixels, without a finer image.

    Args:
        splats: The splat, fitted at low resolution.
        capture: Folder of its photos; only the training photos are used.
        output: The finer splat to write; cameras are written beside it, and every minute a checkpoint.
        factor: Reduction of the capture's photos, 1 for the photos as they are; by default what the splat remembers.
        scale: How much finer than the photos the result is to be shown, 1 to 8.
        start: Where to begin: vae (the trained model's output), anchor (the best closed form) or as-is.
        resume: Go on from the checkpoint of an interrupted run.
        background: Under transparent photos: black, white or r,g,b.
        config: Further options.
    """
    report, config = TerminalReporter(), config or RefineConfig()
    color = parse_background(background)
    if not 1 <= scale <= refining.MAX_SCALE:
        raise GaussianVAEError(f"the scale is {scale:g}; allowed are 1 to {refining.MAX_SCALE:g}")
    given = read_splats(splats, report=report)
    factor = factor if factor is not None else given.recipe.factor
    if factor is None:
        raise GaussianVAEError(f"{splats}: doesn't say at which factor it was trained; give --factor F")
    if not factor >= 1:
        raise GaussianVAEError(f"the factor is {factor:g}; it counts down from the photos' own size and is at least 1")
    photos = read_capture(capture, report)
    inputs = (splats, cameras_beside(splats))
    checkpoint = output.with_name(f"{output.stem}.refine.safetensors")
    check_splat_output(output, inputs)
    for path in (cameras_beside(output), checkpoint):
        check_writable(path, inputs)
    views = load_views(
        photos, photos.train, factor, color, "area" if config.operator == "fit" else config.operator, report
    )
    check_frames({splats.name: given}, photos, report)
    judges = unseen_by(find_cameras(splats), views.cameras)
    if judges is not None:
        report.message(f"{len(judges)} photos that the splat wasn't fitted to judge it")
    begin = starting_splat(given, scale, start, config, views.cameras, report)
    result = refining.refine(
        given, views, scale, config, start=begin, factor=factor, held=judges, checkpoint=checkpoint, resume=resume,
        report=report,
    )  # fmt: skip
    write_splats(output, with_provenance(begin, result), inputs, report=report)
    write_cameras(cameras_beside(output), resize(views.cameras, 1 / scale), inputs)


def starting_splat(
    given: Splats, scale: float, start: Start, config: RefineConfig, cameras: Cameras, report: Reporter
) -> Splats:
    """Where a refinement begins; `cameras` are those of the photos."""
    if start == "as-is" or len(given) == 0:
        return given
    from gaussianvae.enhance import EnhanceConfig, enhance

    budget = min(START_BUDGET, config.budget)
    method: Literal["vae", "anchor"] = start
    chosen = EnhanceConfig(budget=budget, method=method, roi=config.roi, seed=config.seed)
    return enhance(given, scale, chosen, cameras=cameras, report=report).splats


def with_provenance(start: Splats, result: refining.Refined) -> Splats:
    """The result with each row's origin: the larger of what the start said and what refining did to it."""
    from gaussianvae.enhance import provenance

    kind = provenance(start, result.splats, result.edit)
    before = start.extras.get("provenance")
    if before is not None:
        kind = torch.maximum(kind, result.edit.apply(before).to(kind))
    return replace(result.splats, extras={**result.splats.extras, "provenance": kind})
