"""`gaussianvae render`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from gaussianvae.antialias import CLASSIC_VIEW, PIXEL_FILTER, training_filter
from gaussianvae.captures import read_capture
from gaussianvae.cli.options import Output, check_folder, parse_background
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.evaluate.pictures import save_png
from gaussianvae.formats import read_splats
from gaussianvae.frames_check import check_frames
from gaussianvae.guess import stand_ins
from gaussianvae.progress import Reporter
from gaussianvae.rasterize import render as draw
from gaussianvae.scene.cameras import Cameras, resize, spread_views
from gaussianvae.scene.orbits import orbit as circle
from gaussianvae.scene.splats import Splats


def render(
    splats: Path,
    /,
    *,
    output: Output,
    capture: Path | None = None,
    factor: float = 1.0,
    views: Literal["test", "train", "all"] = "test",
    orbit: int | None = None,
    estimated: int | None = None,
    size: int = 512,
    elevation: float = 20.0,
    up: tuple[float, float, float] = (0.0, 0.0, 1.0),
    background: str = "black",
    filter: Literal["own", "pixel", "classic"] = "own",
) -> None:
    """Render a splat as PNGs: from a capture's cameras, an orbit, or where its photos seem to have been taken.

    Args:
        splats: The splat.
        output: Folder for the pictures.
        capture: Take this capture's cameras.
        factor: Reduction of the capture's image size.
        views: Which of the capture's views.
        orbit: Take this many views on a circle around the splat.
        estimated: Take this many of the views that its photos seem to have had: around an object, but from within a
            room, a street or another scene, which an orbit shows from behind its walls.
        size: Width and height of the pictures of an orbit or an estimate in pixels.
        elevation: Degrees of the orbit above the horizon.
        up: The world's upward direction for the orbit or the estimate.
        background: Under the splat: black, white or r,g,b.
        filter: Pixel filter: the one that the splat was trained with, a true pixel's, or what most viewers do.
    """
    if [capture, orbit, estimated].count(None) != 2:
        raise GaussianVAEError(
            "give either --capture C (with --factor F), or --orbit N or --estimated N (with --size PX)"
        )
    if estimated is not None and estimated < 1:
        raise GaussianVAEError(f"{estimated} estimated views; there must be at least 1")
    color = parse_background(background)
    report = TerminalReporter()
    given = read_splats(splats, report=report)
    if capture is not None:
        cameras = _capture_cameras(splats.name, given, capture, factor, views, report)
    elif estimated is not None:
        found = stand_ins(given, size, up, report)
        report.message(found.views)
        cameras = found.cameras.select(spread_views(len(found.cameras), estimated))
    else:
        cameras = circle(given, orbit or 0, size, elevation, up)
    check_folder(output)
    pixel = {"own": training_filter(given.recipe), "pixel": PIXEL_FILTER, "classic": CLASSIC_VIEW}[filter]
    with report.bar("render", len(cameras)) as bar, torch.no_grad():
        for view in range(len(cameras)):
            name = cameras.names[view] if cameras.names else f"view_{view:03d}"
            save_png(output / f"{name}.png", draw(given, cameras, view, filter=pixel, background=color).rgb)
            bar.advance()


def _capture_cameras(name: str, splats: Splats, folder: Path, factor: float, views: str, report: Reporter) -> Cameras:
    if not factor > 0:
        raise GaussianVAEError(f"the factor is {factor:g}; it divides the image size and must be above 0")
    capture = read_capture(folder, report)
    chosen = {"test": capture.test, "train": capture.train, "all": range(len(capture.cameras))}[views]
    if len(chosen) == 0:
        raise GaussianVAEError(f"{folder}: has no {views} views; choose another --views")
    check_frames({name: splats}, capture, report)
    return resize(capture.cameras.select(chosen), factor)
