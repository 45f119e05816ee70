"""How much a split changes the picture at the edit: PSNR between renders before and after, by rule.

    python benchmarks/splits.py [--json FILE]

Lego's mip fit of gain.py, enhanced four times; an eighth of its Gaussians, those of largest projected area, become two.
`grown in` is the exact alternative: a second child that can't be seen yet.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from gain import data_folder, fit_of
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.captures import read_capture
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import EnhanceConfig, enhance
from gaussianvae.growth.choice import choose
from gaussianvae.growth.sensitivity import score
from gaussianvae.rasterize import render
from gaussianvae.scene.cameras import footprints, resize, spread_views
from gaussianvae.scene.imaging import psnr
from gaussianvae.scene.splats import Splats, concatenate
from gaussianvae.scene.split import Halves, halve, sharpen

SCALE, SHARE, VIEWS = 4.0, 0.125, 12


def grown_in(quats: Tensor, scales: Tensor, opacities: Tensor) -> Halves:
    """Both children where the parent is."""
    return Halves(torch.zeros_like(scales), scales, opacities)


RULES = {
    "second moment and peak, 0.5 apart": halve,
    "second moment and peak, 0.3 apart": partial(halve, distance=0.3),
    "second moment and peak, 0.1 apart": partial(halve, distance=0.1),
    "smaller along all axes, as opaque": sharpen,
    "grown in": grown_in,
}


def divided(splats: Splats, rows: Tensor, name: str) -> Splats:
    """The splat with some rows in two."""
    parents = splats.select(rows)
    halves = RULES[name](parents.quats, parents.scales, parents.opacities)
    pair = [
        replace(parents, means=parents.means + sign * halves.offsets, scales=halves.scales, opacities=halves.opacities)
        for sign in (1, -1)
    ]
    if name == "grown in":
        pair[1] = replace(pair[1], opacities=torch.zeros_like(parents.opacities))
    rest = torch.ones(len(splats), dtype=torch.bool)
    rest[rows] = False
    return concatenate([splats.select(rest), *pair])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = data_folder()
    report = TerminalReporter()
    given, views, _ = fit_of("lego", read_capture(data / "captures/lego"), "mip", SCALE, 0, report)
    splats = enhance(given, SCALE, EnhanceConfig(), cameras=views.cameras, report=report).splats
    cameras = resize(views.cameras, 1 / SCALE)
    phi = footprints(cameras, splats.means)
    rows = torch.nonzero(choose(score("size", splats, cameras, phi, 1.0), int(SHARE * len(splats))))[:, 0]
    used = spread_views(len(cameras), VIEWS)

    def shots(of: Splats) -> Tensor:
        return torch.stack([render(of, cameras, view, filter=PIXEL_FILTER).rgb for view in used])

    before = shots(splats)
    found = {name: round(psnr(shots(divided(splats, rows, name)), before.clamp(0, 1)), 2) for name in RULES}
    print(json.dumps(found, indent=1))
    if args.json:
        args.json.write_text(json.dumps({"rows": [{"rule": k, "psnr": v} for k, v in found.items()]}, indent=1))


if __name__ == "__main__":
    main()
