"""What `refine` is worth: detail from the low-resolution photos alone, over the best closed form of each scene.

    python benchmarks/refine.py [--scenes NAME ...] [--steps N] [--budget B] [--start vae|anchor] [--json FILE]

Six test meshes (mip fits, 64 -> 256 px) and lego (100 -> 400 px) as in gain.py: its captures, its cached fits.
Photos are area averages of 8 bits. PSNR is that of the test views; the photos held out of the refinement, which end it
and choose its best state, are training photos.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from gain import WORK, capture_of, data_folder, fit_of, scenes

from gaussianvae.captures import read_capture
from gaussianvae.cli.refine import starting_splat
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.evaluate import evaluate
from gaussianvae.fitting.refine import refine
from gaussianvae.fitting.sub_pixel import RefineConfig

SCENES = ("bab_cannon", "kh_Duck", "kh_Fox", "kh_WaterBottle", "pc_portal", "pyr_fuze", "lego")
SCALE = 4.0


def judge(name: str, path: Path, config: RefineConfig, start: str, report: TerminalReporter) -> dict[str, object]:
    """One scene's figures."""
    photos = read_capture(capture_of(name, path, report))
    splats, views, factor = fit_of(name, photos, "mip", SCALE, 0, report)
    begin, cpu = time.perf_counter(), time.process_time()
    first = starting_splat(splats, SCALE, "vae" if start == "vae" else "anchor", config, views.cameras, report)
    result = refine(splats, views, SCALE, config, start=first, factor=factor, report=report)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    finer = {"start": first, "refined": result.splats}
    judged = evaluate(splats, photos, factor, finer, report=report, scale=SCALE, cache=WORK / "fits")
    best, ours = judged.best_closed, judged.row("refined")
    return {
        "scene": name,
        "best_closed": best.method,
        "closed_psnr": round(best.psnr, 3),
        "start_gain": round(judged.row("start").psnr - best.psnr, 3),
        "gain": round(ours.psnr - best.psnr, 3),
        "psnr": round(ours.psnr, 3),
        "ssim": round(ours.ssim, 4),
        "gain_ssim": round(ours.ssim - judged.best_closed_ssim, 4),
        "depth_error": ours.depth_error,
        "start_depth_error": judged.row("start").depth_error,
        "steps": result.steps,
        "num_gaussians": ours.num_gaussians,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = RefineConfig()
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--budget", type=float, default=default.budget)
    parser.add_argument("--start", default="vae", choices=["vae", "anchor"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = data_folder()
    report, rows = TerminalReporter(), []
    config = RefineConfig(steps=args.steps, budget=args.budget)
    for name, path in scenes(data, args.scenes).items():
        rows.append(judge(name, path, config, args.start, report))
        print(json.dumps(rows[-1]), flush=True)
    meshes = [row for row in rows if row["scene"] != "lego"]
    if meshes:
        gains = np.array([float(str(row["gain"])) for row in meshes])
        depth = [np.mean([float(str(row[key])) for row in meshes]) for key in ("depth_error", "start_depth_error")]
        print(
            f"meshes: mean gain {gains.mean():+.2f} dB, worst {gains.min():+.2f}; depth error "
            f"x{depth[0] / depth[1]:.3f} of the start's"
        )
    if args.json:
        args.json.write_text(json.dumps({"start": args.start, "steps": args.steps, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
