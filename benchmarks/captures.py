"""Real captures from photos to a finer splat: fit, enhance, refine, judged on the test views.

    python benchmarks/captures.py [--scenes NAME ...] [--gaussians N] [--steps N] [--averaged STEPS] [--json FILE]
        [--pictures DIR]

Every capture of $GAUSSIANVAE_DATA/captures at the factor that its README names, shown four times finer than its reduced
photos (twice where the factor is 2). `mip_matched` is a fit to the same photos with as many Gaussians as `refined` has.
An eighth of the training photos is held out of fits, to judge the refinement. Rows of scenes that aren't run again stay
in the file.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from gain import data_folder

from gaussianvae.captures import load_views, read_capture
from gaussianvae.cli.refine import starting_splat
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import EnhanceConfig, enhance
from gaussianvae.evaluate import evaluate
from gaussianvae.evaluate.baselines import cached_fit
from gaussianvae.evaluate.pictures import write_pictures
from gaussianvae.fitting import refinement
from gaussianvae.fitting.holdout import hold_out, select_views
from gaussianvae.fitting.reconstruct import ReconstructConfig
from gaussianvae.fitting.refine import refine
from gaussianvae.fitting.sub_pixel import RefineConfig
from gaussianvae.formats import write_splats

FACTORS = {"beer_can": 8.0, "desk": 8.0, "fern": 2.0, "fox": 16.0, "lego": 8.0}
WORK = Path("runs/captures")
HELD_OUT = 0.125


def judge(
    name: str, data: Path, fit: ReconstructConfig, report: TerminalReporter, pictures: Path | None
) -> dict[str, object]:
    """One capture's figures; and its test views side by side."""
    photos = read_capture(data / "captures" / name, report)
    factor = FACTORS[name]
    scale = min(4.0, factor)
    views = load_views(photos, photos.train, factor, report=report)
    learned, judges = hold_out(len(views.cameras), HELD_OUT)
    fitted = select_views(views, learned)
    splats = cached_fit(f"{name}-mip", fitted, fit, fit.pixel, factor, WORK, report).splats
    splats = replace(splats, recipe=replace(splats.recipe, factor=factor))
    enhanced = enhance(splats, scale, EnhanceConfig(), cameras=fitted.cameras, report=report).splats
    config, begin = RefineConfig(), time.perf_counter()
    first = starting_splat(splats, scale, "vae", config, fitted.cameras, report)
    refined = refine(splats, views, scale, config, start=first, factor=factor, held=judges, report=report)
    seconds = time.perf_counter() - begin
    finer = {"enhanced": enhanced, "refined": refined.splats}
    for key, one in finer.items():  # to be looked at, or judged otherwise
        write_splats(WORK / f"{name}_{key}.ply", one)
    judged = evaluate(
        splats, photos, factor, finer, baselines=["mip_matched"], report=report, scale=scale, cache=WORK
    )  # fmt: skip
    if pictures is not None:
        write_pictures(pictures / name, judged)
    best = judged.best_closed
    names = ["mip", "split", "enhanced", "refined", "mip_matched"]
    return {
        "scene": name,
        "size": list(views.cameras.sizes[0]),
        "scale": scale,
        "best_closed": best.method,
        "closed_psnr": round(best.psnr, 3),
        "closed_ssim": round(judged.best_closed_ssim, 4),
        **{
            f"{key}{part}": value
            for key in names
            for part, value in (
                ("_psnr", round(judged.row(key).psnr, 3)),
                ("_ssim", round(judged.row(key).ssim, 4)),
                ("_lr", round(judged.row(key).lr_consistency, 3)),
            )
        },
        "num_gaussians": len(refined.splats),
        "steps": refined.steps,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="*", default=list(FACTORS))
    parser.add_argument("--gaussians", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--averaged", type=int, default=refinement.AVERAGED, help="of refine's mean; 1: the last step")
    args = parser.parse_args()
    data = data_folder()
    refinement.AVERAGED = args.averaged
    report = TerminalReporter()
    fit = ReconstructConfig(steps=args.steps, max_gaussians=args.gaussians)
    known = json.loads(args.json.read_text())["rows"] if args.json and args.json.is_file() else []
    rows = {row["scene"]: row for row in known}
    for name in args.scenes:
        rows[name] = judge(name, data, fit, report, args.pictures)
        print(json.dumps(rows[name]), flush=True)
        if args.json:
            content = {"gaussians": args.gaussians, "steps": args.steps, "rows": [rows[key] for key in sorted(rows)]}
            args.json.write_text(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
