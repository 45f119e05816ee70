"""How well `gaussianvae.guess` tells what a splat doesn't say, and what a wrong guess costs.

    python benchmarks/guesses.py SHARDS [--stripped] [--json FILE]

Over all shards: how often mode, 3D filter and background are guessed right (or, the background, not at all), the ranges
that `guess` draws its bounds from (spreads
of sizes, pixel per spacing), the coefficients of `guess.PIXEL` fitted anew, and the deviation of ln(pixel) of fits left
out. With --stripped also lego's own mip and classic fits (those of gain.py; needs
GAUSSIANVAE_DATA), enhanced x4 with what they say and with all comments and cameras taken away: PSNR on the test views.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from gain import fit_of

from gaussianvae.antialias import training_filter
from gaussianvae.captures import read_capture
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import enhance
from gaussianvae.evaluate import evaluate
from gaussianvae.guess import (
    estimate_cameras,
    guess_background,
    guess_recipe,
    holds_together,
    pixel_features,
    rim_contrast,
    size_spread,
    spacing,
    unevenness,
)
from gaussianvae.model.shards import read_shard, shard_paths
from gaussianvae.scene.cameras import footprints
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats


def bare(splats: Splats) -> Splats:
    """A splat that says nothing."""
    return replace(splats, recipe=Recipe())


def over_shards(folder: Path) -> dict[str, object]:
    """Counts of right guesses, and the regression of ln(pixel / large size) with its error on fits left out."""
    inputs: dict[str, list[list[float]]] = {"classic": [], "mip": []}
    right = {"mode": 0, "filter_3d": 0}
    uneven: dict[str, list[float]] = {"classic": [], "mip": []}
    least: dict[str, list[float]] = {"with 3D filter": [], "without": []}
    spaced: list[float] = []
    together = 0
    contrast: dict[str, list[float]] = {"black": [], "white": []}
    background = {"right": 0, "wrong": 0, "unsaid": 0}
    paths = shard_paths(folder)
    for path in paths:
        shard = read_shard(path)
        truth, silent = shard.splats.recipe, bare(shard.splats)
        guessed = guess_recipe(silent, shard.cameras)
        right["mode"] += guessed.mode == truth.mode
        right["filter_3d"] += bool(guessed.filter_3d) == bool(truth.filter_3d)
        color = (1.0, 1.0, 1.0) if shard.background[0] > 0.5 else (0.0, 0.0, 0.0)
        pixel = training_filter(guessed)
        said = guess_background(silent, shard.cameras, pixel)
        background["unsaid" if said is None else "right" if said == color else "wrong"] += 1
        between = rim_contrast(silent, shard.cameras, pixel)
        if between is not None:
            contrast["white" if color[0] else "black"].append(between)
        large, features = pixel_features(shard.splats)
        phi = float(footprints(shard.cameras, shard.splats.means, average=True).median())
        ordered = shard.splats.scales.sort(dim=1).values
        uneven[str(truth.mode)].append(unevenness(ordered[:, 1], shard.splats.opacities))
        if truth.mode == "mip":
            least["with 3D filter" if truth.filter_3d else "without"].append(size_spread(ordered[:, 0]))
        else:
            spaced.append(phi / spacing(shard.splats))
            together += holds_together(silent, shard.cameras)
        inputs[str(truth.mode)].append([math.log(phi / large), 1.0, *features])
    result: dict[str, object] = {
        "fits": len(paths),
        "right": right,
        "background": background,
        "rim_contrast": {name: np.quantile(v, [0.1, 0.5, 0.9]).round(2).tolist() for name, v in contrast.items()},
        "unevenness": {name: [round(min(v), 2), round(max(v), 2)] for name, v in uneven.items()},
        "least_spread_of_mip": {name: [round(min(v), 2), round(max(v), 2)] for name, v in least.items()},
        "classic_holds_together": [together, len(spaced)],
        "classic_pixel_per_spacing": dict(
            zip(("5 %", "95 %"), np.quantile(spaced, [0.05, 0.95]).round(2), strict=True)
        ),
    }
    for mode, rows in inputs.items():
        values = np.array(rows)
        y, x = values[:, 0], values[:, 1:]
        hat = x @ np.linalg.pinv(x)
        left_out = (y - hat @ y) / (1 - np.diag(hat))
        result[mode] = {
            "coefficients": np.linalg.lstsq(x, y, rcond=None)[0].round(3).tolist(),
            "deviation": round(float(left_out.std()), 3),
            "fits": len(values),
        }
    return result


def stripped(report: TerminalReporter) -> list[dict[str, object]]:
    """Lego's fits with and without what they say."""
    photos = read_capture(Path(os.environ["GAUSSIANVAE_DATA"]) / "captures" / "lego")
    rows = []
    for mode in ("mip", "classic"):
        splats, views, factor = fit_of("lego", photos, mode, 4.0, 0, report)
        silent = bare(splats)
        finer = {
            "commented": enhance(splats, 4.0, cameras=views.cameras, report=report).splats,
            "stripped": enhance(silent, 4.0, cameras=estimate_cameras(silent, report=report), report=report).splats,
        }
        result = evaluate(splats, photos, factor, finer, report=report, scale=4.0)
        known, unknown = (result.row(name).psnr for name in finer)
        rows.append({"mode": mode, "commented": known, "stripped": unknown, "difference": unknown - known})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--stripped", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    result = over_shards(args.shards)
    if args.stripped:
        result["lego"] = stripped(TerminalReporter())
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
