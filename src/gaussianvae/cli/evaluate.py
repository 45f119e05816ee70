"""`gaussianvae evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae import evaluate as judging
from gaussianvae.captures import read_capture
from gaussianvae.cli.options import check_folder, check_writable, parse_background, parse_named_files
from gaussianvae.cli.terminal import TerminalReporter, results_console
from gaussianvae.errors import GaussianVAEError
from gaussianvae.evaluate.baselines import BASELINES, CACHE, check_names
from gaussianvae.evaluate.pictures import write_pictures
from gaussianvae.evaluate.tables import make_table, write_json
from gaussianvae.formats import read_splats
from gaussianvae.frames_check import check_frames


def evaluate(
    splats: Path,
    capture: Path,
    /,
    *,
    factor: float | None = None,
    with_: Annotated[tuple[str, ...], Parameter(name="--with", consume_multiple=True)] = (),
    baselines: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None,
    json: Path | None = None,
    pictures: Path | None = None,
    scale: float | None = None,
    background: str = "black",
    seed: int = 0,
    cache: Path = CACHE,
) -> None:
    """Judge a splat fitted at low resolution, and finer ones made from it, on a capture's test views.

    Args:
        splats: The low-resolution splat; its closed forms are always rows.
        capture: Folder of its photos.
        factor: Reduction of the photos that the splat was trained on; by default what the splat remembers.
        with_: Finer splats as NAME=FILE, one row each.
        baselines: Fits to compare with: classic_fit, mip_matched, bicubic, bicubic_images, hr_reference; all of them
            when no name follows.
        json: Write the figures to this file.
        pictures: Write a side-by-side picture into this folder.
        scale: How much finer the judged images are; by default 4, or the factor where that is less.
        background: Under transparent photos: black, white or r,g,b.
        seed: Of the baselines' fits.
        cache: Folder where the baselines' fits are kept.
    """
    report = TerminalReporter()
    files = parse_named_files(with_)
    color = parse_background(background)
    inputs = (splats, *files.values())
    given = read_splats(splats, report=report)
    finer = {name: read_splats(path, report=report) for name, path in files.items()}
    photos = read_capture(capture, report)
    factor = factor if factor is not None else given.recipe.factor
    if factor is None:
        raise GaussianVAEError(f"{splats}: doesn't say at which factor it was trained; give --factor F")
    if json is not None:
        check_writable(json, inputs)
    if pictures is not None:
        check_folder(pictures)
    names = tuple(BASELINES) if baselines == [] else tuple(baselines or ())
    check_names(names)
    judging.choose_protocol(photos, factor, scale, color)  # what is wrong with the request is said first
    check_frames({splats.name: given, **{files[name].name: one for name, one in finer.items()}}, photos, report)
    result = judging.evaluate(given, photos, factor, finer, names, color, report, scale=scale, seed=seed, cache=cache)
    results_console().print(make_table(result))
    if json is not None:
        write_json(json, result, inputs)
    if pictures is not None:
        for path in write_pictures(pictures, result):
            report.message(f"wrote {path}")
