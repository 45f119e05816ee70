"""Whether the enhanced splat turns with its scene: similarities of splat and cameras together, rows that follow.

    python benchmarks/equivariance.py [--splats FILE ...] [--polish N ...] [--json FILE]

A row follows within t where its center (in units of the splat's RMS radius), its sizes (relative) and its opacity all
do. By default lego's fit of gain.py with its own cameras; other splats with the stand-in cameras estimated for them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from gain import data_folder, fit_of
from torch import Tensor

from gaussianvae.captures import read_capture
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import POLISH, EnhanceConfig, enhance
from gaussianvae.formats import read_splats
from gaussianvae.guess import estimate_cameras, guess_recipe
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.rotations import quats_to_rotmats, random_quats
from gaussianvae.scene.splats import Splats, transform

SCALE, TOLERANCES = 4.0, (1e-4, 1e-3, 1e-2)


def moved(cameras: Cameras, rotation: Tensor, shift: Tensor, size: float) -> Cameras:
    """Cameras that see the moved world as they saw it before."""
    viewmats = cameras.viewmats.clone()
    viewmats[:, :3, :3] = cameras.viewmats[:, :3, :3] @ rotation.T
    viewmats[:, :3, 3] = size * cameras.viewmats[:, :3, 3] - viewmats[:, :3, :3] @ shift
    return replace(cameras, viewmats=viewmats)


def followed(name: str, splats: Splats, cameras: Cameras, steps: int, report: TerminalReporter) -> dict[str, object]:
    """Shares of rows that follow one similarity."""
    rotation = quats_to_rotmats(random_quats(1, torch.Generator().manual_seed(5)))[0]
    shift, size = torch.tensor([0.3, -2.0, 0.7]), 1.7
    config = EnhanceConfig(polish=steps)
    here = enhance(splats, SCALE, config, cameras=cameras, report=report)
    turned = transform(splats, rotation, shift, size), moved(cameras, rotation, shift, size)
    there = enhance(turned[0], SCALE, config, cameras=turned[1], report=report)
    # a row is its parent's first or second child; near ties of the scores may choose other parents
    keys = [2 * edit.parents + edit.born for edit in (here.edit, there.edit)]
    both = [torch.isin(keys[0], keys[1]), torch.isin(keys[1], keys[0])]
    expected = transform(here.splats, rotation, shift, size).select(both[0])
    got = there.splats.select(both[1])
    radius = (expected.means - expected.means.mean(0)).square().sum(1).mean().sqrt()
    errors = torch.stack(
        [
            (got.means - expected.means).norm(dim=1) / radius,
            (got.opacities - expected.opacities).abs(),
            (got.scales / expected.scales - 1).abs().amax(1),
        ]
    )
    shares = {f"within {t:g}": round(float((errors.amax(0) < t).sum()) / len(here.edit), 5) for t in TOLERANCES}
    centers = {f"centers within {t:g}": round(float((errors[0] < t).sum()) / len(here.edit), 5) for t in TOLERANCES}
    return {"splat": name, "steps of polish": steps, "rows": len(here.edit), **shares, **centers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splats", nargs="*", type=Path, default=[])
    parser.add_argument("--polish", nargs="*", type=int, default=[0, POLISH])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = data_folder()
    report, rows = TerminalReporter(), []
    lego, views, _ = fit_of("lego", read_capture(data / "captures/lego"), "mip", SCALE, 0, report)
    inputs = [("lego", lego, views.cameras)]
    for path in args.splats:
        splats = read_splats(path)
        if splats.recipe.mode is None:
            splats = replace(splats, recipe=guess_recipe(splats))
        inputs.append((path.name, splats, estimate_cameras(splats, None, report)))
    for name, splats, cameras in inputs:
        for steps in args.polish:
            rows.append(followed(name, splats, cameras, steps, report))
            print(json.dumps(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
