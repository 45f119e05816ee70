"""Fewer renders: what `refine` reaches in 400 of them, every one counted, beside 1,000 steps of its prototype.

    python benchmarks/renders.py [--scenes NAME ...] [--seeds 0 1 2] [--json FILE]

`plain`: from the anchor, 1,000 steps with the step sizes and the 3D filter of the first prototype, without the mean of
the last steps, growing to 1.25 times the Gaussians. `ours`: from the model's one pass at the same number of Gaussians,
with the step sizes of today, as many steps as leave 400 renders in all: those of the sensitivity, of the match with the
photos and of the looks at the photos held out count as well. Then the starts alone: PSNR after 100 steps from the
model's pass, from the closed form `split` at the same Gaussians, and from the anchor at two thirds of them.

Scenes and fits are those of gain.py; PSNR of the test views. A mesh has one fit, and seeds change the order of the
photos; lego has a fit for each seed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from gain import WORK, capture_of, data_folder, fit_of, scenes

from gaussianvae.captures import Capture, Views, read_capture
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import EnhanceConfig, enhance
from gaussianvae.evaluate import evaluate
from gaussianvae.fitting import refinement
from gaussianvae.fitting.holdout import MATCH_VIEWS
from gaussianvae.fitting.refine import EVERY, refine
from gaussianvae.fitting.refinement import RATES
from gaussianvae.fitting.sub_pixel import RefineConfig
from gaussianvae.growth.sensitivity import DEFAULT_VIEWS, GRADIENT_VIEWS
from gaussianvae.scene.cameras import footprints, resize
from gaussianvae.scene.splats import Splats

SCENES = ("bab_cannon", "kh_Duck", "kh_Fox", "kh_WaterBottle", "pc_portal", "pyr_fuze", "lego")
SCALE, RENDERS, PLAIN_STEPS, EARLY_STEPS = 4.0, 400, 1000, 100
GROWN = 1.12**2
"""What two growths of 12 % within 1,000 steps leave."""
JUDGES = 2
PLAIN_MEANS = 4e-4
"""The prototype's step size of means, in world units."""
PLAIN = replace(RATES, log_scales=1e-2, quats=4e-3, logits=3e-2, sh0=5e-3, shN=5e-4)


def steps_left(renders: int) -> int:
    """Optimizer steps that all other renders of a run leave: the sensitivity, the score, the match, the looks."""
    beside = DEFAULT_VIEWS + GRADIENT_VIEWS + MATCH_VIEWS + JUDGES  # the start is looked at, too
    for steps in range(renders - beside, 0, -1):
        looks = steps // EVERY + (steps % EVERY > 0)
        # the first look after the start compares photos that were learned from as well
        if beside + steps + JUDGES * (looks + 1) <= renders:
            return steps
    return 0


def judge(name: str, path: Path, seed: int, report: TerminalReporter) -> dict[str, object]:
    """One scene's figures."""
    photos = read_capture(capture_of(name, path, report))
    splats, views, factor = fit_of(name, photos, "mip", SCALE, seed if name == "lego" else 0, report)
    fine = resize(views.cameras, 1 / SCALE)
    pixel = float(footprints(fine, splats.means).median())
    plain = replace(PLAIN, means=PLAIN_MEANS / pixel)
    equal = RefineConfig(budget=GROWN, held_out=JUDGES / len(views.cameras), seed=seed)

    def start(budget: float, method: str) -> Splats:
        config = EnhanceConfig(budget=budget, method=method, polish=0, seed=seed)  # type: ignore[arg-type]
        return enhance(splats, SCALE, config, cameras=views.cameras, report=report).splats

    def run(begin: Splats, config: RefineConfig, **more: object) -> Splats:
        return refine(splats, views, SCALE, config, start=begin, factor=factor, report=report, **more).splats  # type: ignore[arg-type]

    anchor = start(1.0, "anchor")
    early = replace(equal, budget=1.5, steps=EARLY_STEPS)
    with mock.patch.object(refinement, "AVERAGED", 1):  # the prototype kept its last step
        before = run(anchor, replace(equal, steps=PLAIN_STEPS, filter_3d=True), rates=plain)
    share = len(before) / len(splats)  # not all of its growth, where an earlier state served the photos held out better
    finer = {
        "plain": before,
        "ours": run(start(share, "vae"), replace(equal, budget=share, steps=steps_left(RENDERS))),
        "from_model": run(start(1.5, "vae"), early),
        "from_split": run(start(1.5, "split"), early),
        "from_anchor": run(anchor, early),
    }
    return {
        "scene": name,
        "seed": seed,
        "steps": steps_left(RENDERS),
        **figures(splats, photos, views, factor, finer, report),
    }


def figures(
    splats: Splats, photos: Capture, views: Views, factor: float, finer: dict[str, Splats], report: TerminalReporter
) -> dict[str, object]:
    """PSNR and Gaussians by name."""
    judged = evaluate(splats, photos, factor, finer, report=report, scale=SCALE, cache=WORK / "fits")
    rows = {key: judged.row(key) for key in finer}
    return {"closed_psnr": round(judged.best_closed.psnr, 3)} | {
        part: value
        for key, row in rows.items()
        for part, value in ((key, round(row.psnr, 3)), (f"{key}_gaussians", row.num_gaussians))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = data_folder()
    report, rows = TerminalReporter(), []
    for name, path in scenes(data, args.scenes).items():
        for seed in args.seeds:
            rows.append(judge(name, path, seed, report))
            print(json.dumps(rows[-1]), flush=True)
    for label, chosen in (
        ("meshes", [row for row in rows if row["scene"] != "lego"]),
        ("lego", [row for row in rows if row["scene"] == "lego"]),
    ):
        if chosen:
            of = {key: np.array([float(str(row[key])) for row in chosen]) for key in chosen[0] if key not in ("scene",)}
            print(
                f"{label}: ours in {RENDERS} renders over plain in {PLAIN_STEPS} steps "
                f"{(of['ours'] - of['plain']).mean():+.2f} dB (least {(of['ours'] - of['plain']).min():+.2f}); after "
                f"{EARLY_STEPS} steps the model's start over the anchor's "
                f"{(of['from_model'] - of['from_anchor']).mean():+.2f} (least "
                f"{(of['from_model'] - of['from_anchor']).min():+.2f}), over split's "
                f"{(of['from_model'] - of['from_split']).mean():+.2f}"
            )
    if args.json:
        args.json.write_text(json.dumps({"renders": RENDERS, "plain_steps": PLAIN_STEPS, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
