"""Where to split: every score through the trained model at +25 % and +50 %, paired, on scenes that training never saw.

    python benchmarks/scores.py SHARDS [--weights FILE] [--json FILE]

Uses the shards that the weights' training held out (they chose its step size, nothing else). Mean gain over the best
closed form in dB, one pass without polish; the differences to `random` are of the same scenes and the same residuals:
as the finer pixel shows the result, by which the default is chosen, and as most viewers do (a classic dilation of
0.3 px^2); `both` is their mean.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from gaussianvae.antialias import CLASSIC_VIEW, PIXEL_FILTER
from gaussianvae.growth.choice import children_allowed, choose
from gaussianvae.growth.sensitivity import SCORES, score
from gaussianvae.model.calibration import Trial, gain, make_trial
from gaussianvae.model.weights import held_out, read_weights, shipped_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    weights = read_weights(args.weights) if args.weights else shipped_weights()
    table: dict[str, list[tuple[float, float]]] = {}
    for shard in held_out(weights, args.shards):
        trial = make_trial(weights.model, shard)
        step = weights.step_for(shard.splats.recipe)

        def judge(chosen: torch.Tensor, trial: Trial = trial, step: float = step) -> tuple[float, float]:
            return gain(trial, step, PIXEL_FILTER, chosen), gain(trial, step, CLASSIC_VIEW, chosen)

        scores = {
            name: score(name, shard.splats, shard.cameras, shard.phi, shard.scale, known=shard.curvature)
            for name in SCORES
        }
        for budget in (1.25, 1.5):
            count = children_allowed(len(shard.splats), budget)
            for name, values in scores.items():
                table.setdefault(f"+{100 * budget - 100:.0f} % {name}", []).append(judge(choose(values, count)))
        for name, share in (("+0 %", 0), ("+100 %", len(shard.splats))):
            table.setdefault(name, []).append(judge(choose(scores["random"], share)))
    rows = []
    for name, pairs in table.items():
        base = table.get(f"{name.rsplit(' ', 1)[0]} random", pairs)
        gains, paired = np.array(pairs), np.array(pairs) - np.array(base)
        row: dict[str, object] = {"choice": name, "scenes": len(gains), "gain": round(float(gains[:, 0].mean()), 4)}
        for key, column in (("over_random", paired[:, 0]), ("viewer", paired[:, 1]), ("both", paired.mean(1))):
            error = float(column.std(ddof=1) / np.sqrt(len(column))) if len(column) > 1 else 0.0
            row |= {key: round(float(column.mean()), 4), f"{key}_error": round(error, 4)}
        rows.append(row)
        print(json.dumps(row))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
