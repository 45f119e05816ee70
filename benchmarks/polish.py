"""What polish is worth, by its steps, on scenes that training never saw; after the model, and after `split`.

    python benchmarks/polish.py SHARDS [--weights FILE] [--json FILE]

Mean gain over the best closed form of each scene in dB, budget 1.5, for classic and mip fits; the least of any scene;
process CPU seconds a scene.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from gaussianvae.antialias import PIXEL_FILTER, closed_forms
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import EnhanceConfig, enhance
from gaussianvae.model.calibration import judged_views, mean_psnr
from gaussianvae.model.weights import held_out, read_weights, shipped_weights

VARIANTS = {f"model, {steps} steps": EnhanceConfig(polish=steps) for steps in (0, 25, 50, 100, 200)} | {
    f"split, {steps} steps": EnhanceConfig(method="split", polish=steps) for steps in (0, 100)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    weights = read_weights(args.weights) if args.weights else shipped_weights()
    modes: list[str | None] = []
    gains: dict[str, list[float]] = {name: [] for name in VARIANTS}
    seconds = dict.fromkeys(VARIANTS, 0.0)
    shards = held_out(weights, args.shards)
    with TerminalReporter().bar("polish", len(shards)) as bar:
        for shard in shards:
            views = judged_views(shard)
            forms = closed_forms(shard.splats, shard.cameras, shard.phi, shard.scale)
            best = max(mean_psnr(shard, form.splats, form.filter, views) for form in forms.values())
            modes.append(shard.splats.recipe.mode)
            for name, config in VARIANTS.items():
                begin = time.process_time()
                finer = enhance(shard.splats, shard.scale, config, cameras=shard.cameras, weights=weights).splats
                seconds[name] += time.process_time() - begin
                gains[name].append(mean_psnr(shard, finer, PIXEL_FILTER, views) - best)
            bar.advance()
    classic = np.array([mode == "classic" for mode in modes])
    rows = []
    for name, values in gains.items():
        column = np.array(values)
        rows.append({
            "variant": name, "classic": round(float(column[classic].mean()), 3),
            "mip": round(float(column[~classic].mean()), 3), "worst": round(float(column.min()), 3),
            "cpu_seconds": round(seconds[name] / len(modes), 2),
        })  # fmt: skip
        print(json.dumps(rows[-1]))
    if args.json:
        result = {"classic_scenes": int(classic.sum()), "mip_scenes": int((~classic).sum()), "rows": rows}
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
