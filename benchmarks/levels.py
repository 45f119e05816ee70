"""A real splat at four levels of detail: each enhanced, against the next finer level, over an orbit.

    python benchmarks/levels.py [--json FILE] [--pictures DIR]

Playbot ($GAUSSIANVAE_DATA/splats/playbot_sog) was decimated level by level, not fitted at lower resolutions, so that
there need not be a gain. Every level is a bare splat: its cameras and the width of its photos are estimated. The orbit
(24 views of 800 px, 20 and 50 degrees above the horizon) shows the next finer level as it is, through the filter that
its sizes betray; PSNR in dB of each method against it, over black.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from gain import data_folder

from gaussianvae.antialias import PIXEL_FILTER, closed_forms, training_filter
from gaussianvae.enhance import EnhanceConfig, enhance
from gaussianvae.evaluate.metrics import psnr, ssim
from gaussianvae.evaluate.pictures import save_png
from gaussianvae.formats import read_splats
from gaussianvae.guess import estimate_cameras, guess_recipe
from gaussianvae.progress import SILENT
from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.cameras import Cameras, footprints
from gaussianvae.scene.orbits import orbit
from gaussianvae.scene.splats import Splats

SCALE, SIZE, UP = 4.0, 800, (0.0, -1.0, 0.0)


def renders(splats: Splats, shown: Filter, rings: list[Cameras]) -> torch.Tensor:
    """All views of the orbit (V, H, W, 3)."""
    with torch.no_grad():
        return torch.stack([render(splats, ring, v, filter=shown).rgb for ring in rings for v in range(len(ring))])


def _mean(metric: Callable[..., float], images: torch.Tensor, target: torch.Tensor) -> float:
    return sum(metric(image, truth) for image, truth in zip(images, target, strict=True)) / len(target)


def judge(folder: Path, level: int, pictures: Path | None) -> dict[str, object]:
    """One level against the next finer one."""
    given, truth = (read_splats(folder / f"lod{number}") for number in (level, level - 1))
    cameras = estimate_cameras(given)
    given = replace(given, recipe=guess_recipe(given, cameras))
    truth = replace(truth, recipe=guess_recipe(truth, estimate_cameras(truth)))
    rings = [orbit(truth, 12, SIZE, elevation, UP) for elevation in (20.0, 50.0)]
    target = renders(truth, training_filter(truth.recipe), rings)
    forms = closed_forms(given, cameras, footprints(cameras, given.means), SCALE)
    shown = {name: renders(form.splats, form.filter, rings) for name, form in forms.items()}
    for name, config in (("enhanced", EnhanceConfig()), ("one_pass", EnhanceConfig(polish=0))):
        finer = enhance(given, SCALE, config, cameras=cameras, report=SILENT).splats
        shown[name] = renders(finer, PIXEL_FILTER, rings)
    scores = {name: round(_mean(psnr, images, target), 3) for name, images in shown.items()}
    best = max(forms, key=lambda name: scores[name])
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        side = [target[2], shown["as_is"][2], shown[best][2], shown["enhanced"][2]]
        save_png(pictures / f"lod{level}.png", torch.cat(side, 1))
    return {
        "level": level,
        "num_gaussians": len(given),
        "against": len(truth),
        "mode": given.recipe.mode,
        "best_closed": best,
        "psnr": scores,
        "ssim": {name: round(_mean(ssim, images, target), 4) for name, images in shown.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    folder, rows = data_folder() / "splats" / "playbot_sog", []
    for level in (5, 4, 3):
        rows.append(judge(folder, level, args.pictures))
        print(json.dumps(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"scale": SCALE, "size": SIZE, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
