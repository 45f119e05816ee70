"""What a bare splat's estimated cameras are worth: their pixels against the true ones, and the gain with either.

    python benchmarks/bare.py [--scenes NAME ...] [--fits FOLDER ...] [--no-gain] [--json FILE]

For the latest fits of captures.py and of gain.py, mip and classic: the world size of a pixel at each Gaussian by the
estimate (and by circles around the splat, whatever it is) over the true one's, quantiles; whether the splat was taken
for an object; and PSNR on the test views, enhanced by default with the cameras and the recipe known, with the recipe
but estimated cameras, with nothing known, and with nothing known and circles, over the best closed form.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from gain import data_folder
from guesses import bare

from captures import FACTORS
from gaussianvae.captures import read_capture
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import enhance
from gaussianvae.evaluate import evaluate
from gaussianvae.formats import read_splats
from gaussianvae.guess import circles, guess_pixel, stand_ins
from gaussianvae.scene.cameras import Cameras, footprints, resize
from gaussianvae.scene.splats import Splats

FITS = (Path("runs/captures"), Path("runs/gain/fits"))
CAPTURES = Path("runs/gain/captures")
MESH_FACTOR = 4.0


def latest_fits(folders: list[Path], wanted: list[str] | None) -> dict[str, Path]:
    """The newest fit of each scene and mode, the first folder's first."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.ply"), key=lambda p: -p.stat().st_mtime):
            name = path.stem.rsplit("-", 1)[0]
            if name.split("-")[0] in (wanted or [name.split("-")[0]]) and "-" in name:
                found.setdefault(name, path)
    return found


def as_object(splats: Splats) -> Cameras:
    """Circles around a splat, whatever it is, at the width that its pixel then means."""
    spanned = float(footprints(circles(splats, 1), splats.means, average=True).median())
    return circles(splats, round(min(max(spanned / guess_pixel(splats), 16), 4096)))


def ratio_quantiles(splats: Splats, truth: Cameras, estimate: Cameras) -> list[float]:
    """10, 50 and 90 % of estimated over true mean footprints, over visible Gaussians."""
    means = splats.means[splats.opacities > 0.2]
    ratio = footprints(estimate, means, average=True) / footprints(truth, means, average=True)
    return [round(value, 2) for value in torch.quantile(ratio, torch.tensor([0.1, 0.5, 0.9])).tolist()]


def judge(name: str, path: Path, data: Path, gain: bool, report: TerminalReporter) -> dict[str, object]:
    """One fit's figures."""
    scene = name.split("-")[0]
    folder = data / "captures" / scene
    photos = read_capture(folder if folder.exists() else CAPTURES / scene, report)
    factor = FACTORS.get(scene, MESH_FACTOR)
    scale = min(4.0, factor)
    truth = resize(photos.cameras.select(photos.train), factor)
    splats = read_splats(path)
    splats = replace(splats, recipe=replace(splats.recipe, factor=factor))
    silent, unposed = bare(splats), replace(splats, recipe=replace(splats.recipe, width=None, focal_px=None))
    begin = time.perf_counter()
    found = stand_ins(silent, report=report)
    seconds, estimate = time.perf_counter() - begin, found.cameras
    around = as_object(silent)
    row: dict[str, object] = {
        "fit": name,
        "kind": found.kind,
        "views": len(estimate),
        "size": list(estimate.sizes[0]),
        "seconds": round(seconds, 2),
        "pixel": ratio_quantiles(splats, truth, estimate),
        "pixel_circles": ratio_quantiles(splats, truth, around),
    }
    if not gain:
        return row
    finer = {
        "true": enhance(splats, scale, cameras=truth, report=report).splats,
        "unposed": enhance(unposed, scale, cameras=stand_ins(unposed).cameras, report=report).splats,
        "bare": enhance(silent, scale, cameras=estimate, report=report).splats,
        "bare_circles": enhance(silent, scale, cameras=around, report=report).splats,
    }
    result = evaluate(splats, photos, factor, finer, report=report, scale=scale)
    best = result.best_closed
    row |= {"best_closed": best.method, "closed_psnr": round(best.psnr, 3)}
    row |= {f"{key}_gain": round(result.row(key).psnr - best.psnr, 3) for key in finer}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="*")
    parser.add_argument("--fits", nargs="*", type=Path, default=list(FITS))
    parser.add_argument("--no-gain", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data, report, rows = data_folder(), TerminalReporter(), []
    for name, path in latest_fits(args.fits, args.scenes).items():
        rows.append(judge(name, path, data, not args.no_gain, report))
        print(json.dumps(rows[-1]), flush=True)
    gains = [[float(str(row[key])) for row in rows] for key in ("true_gain", "bare_gain")] if not args.no_gain else []
    if gains:
        known, unknown = np.array(gains)
        print(f"mean gain {known.mean():+.3f} dB with true cameras, {unknown.mean():+.3f} dB bare")
    if args.json:
        args.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
