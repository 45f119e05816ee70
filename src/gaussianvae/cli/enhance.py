"""`gaussianvae enhance`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae import enhance as enhancing
from gaussianvae.captures import read_capture
from gaussianvae.cli.options import Output, check_splat_output, check_writable, parse_background
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.formats import (
    cameras_beside,
    find_cameras,
    read_cameras,
    read_splats,
    split_ending,
    write_cameras,
    write_parts,
)
from gaussianvae.frames_check import check_frames
from gaussianvae.growth.lineage import read_lineage
from gaussianvae.guess import estimate_cameras
from gaussianvae.model.weights import read_weights
from gaussianvae.progress import Reporter
from gaussianvae.scene.cameras import Cameras, resize
from gaussianvae.scene.splats import Splats


def enhance(
    splats: Path,
    /,
    *,
    output: Output,
    scale: float = 4.0,
    cameras: Path | None = None,
    capture: Path | None = None,
    factor: float | None = None,
    trained_width: int | None = None,
    background: str | None = None,
    lineage: Path | None = None,
    weights: Path | None = None,
    config: Annotated[enhancing.EnhanceConfig | None, Parameter(name="*")] = None,
) -> None:
    """Make a splat finer: refine every Gaussian, and let chosen ones become two.

    Args:
        splats: The splat, fitted at low resolution.
        output: The finer splat to write; with --samples N > 1 one file a draw (OUT_0.ply, OUT_1.ply, ...).
        scale: How much finer it is to be shown, 1 to 8.
        cameras: Its training cameras; by default those beside it.
        capture: Take the training cameras of this capture, reduced by the factor.
        factor: Reduction of the capture's photos at which the splat was trained; by default what the splat remembers.
        trained_width: Width in pixels of the photos that it was trained on, where no cameras are known.
        background: Color beyond the scene in its photos: black, white or r,g,b; by default what the splat remembers.
        lineage: Its lineage, as written by reconstruct.
        weights: Use these weights instead of the shipped ones.
        config: Further options.
    """
    report, config = TerminalReporter(), config or enhancing.EnhanceConfig()
    if config.samples < 0:
        raise GaussianVAEError(f"{config.samples} samples can't be drawn; give 0 for the mean, or how many")
    enhancing.check_scale(scale)  # before the seconds that cameras take
    given = replace(read_splats(splats, report=report), stored=None)
    if background is not None:
        given = replace(given, recipe=replace(given.recipe, background=parse_background(background)))
    own_cameras = cameras_beside(splats)
    inputs = tuple(path for path in (splats, own_cameras, cameras, lineage, weights) if path is not None)
    targets = [output]
    if config.samples > 1:
        stem, ending = split_ending(output)
        targets = [output.with_name(f"{stem}_{index}{ending}") for index in range(config.samples)]
    for path in targets:
        check_splat_output(path, inputs)
        check_writable(cameras_beside(path), inputs)
    known = training_cameras(given, splats, cameras, capture, factor, report)
    seen_by = known if known is not None else estimate_cameras(given, trained_width, report)
    history = read_lineage(lineage) if lineage is not None else None
    model = read_weights(weights) if weights is not None else None
    for index, path in enumerate(targets):
        one = replace(config, seed=config.seed + index)
        ready = enhancing.prepare(given, scale, one, cameras=seen_by, lineage=history, weights=model, report=report)
        finer = (part.splats for part in ready.parts(report))
        write_parts(path, len(ready), finer, inputs, report=report)
        report.message(f"{path}: {len(given):,} Gaussians became {len(ready):,}")
        if known is not None:  # a guess must not pass for the truth later
            write_cameras(cameras_beside(path), resize(known, 1 / scale), inputs)


def training_cameras(
    splats: Splats,
    path: Path,
    cameras: Path | None,
    capture: Path | None,
    factor: float | None,
    report: Reporter,
) -> Cameras | None:
    """The cameras that a splat was trained with: named, from a capture, or beside it; None where nothing tells."""
    if cameras is not None and capture is not None:
        raise GaussianVAEError("give either --cameras FILE or --capture C, not both")
    if cameras is not None:
        return read_cameras(cameras)
    if capture is not None:
        factor = factor if factor is not None else splats.recipe.factor
        if factor is not None and not factor >= 1:
            raise GaussianVAEError(f"the factor is {factor:g}; it counts down from the photos' own size, at least 1")
        if factor is None:
            raise GaussianVAEError(f"{path}: doesn't say at which factor it was trained; give --factor F")
        photos = read_capture(capture, report)
        check_frames({path.name: splats}, photos, report)
        return resize(photos.cameras.select(photos.train), factor)
    return find_cameras(path)
