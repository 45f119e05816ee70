"""Where to split: every score through the trained model at +25 % and +50 %, paired, on scenes that training never saw.

    python benchmarks/scores.py SHARDS [--weights FILE] [--json FILE]

Uses the shards that the weights' training held out (they chose its step size, nothing else). Mean gain over the best
closed form in dB; the differences to `random` are of the same scenes and the same residuals.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.growth.choice import children_allowed, choose
from gaussianvae.growth.sensitivity import SCORES, score
from gaussianvae.model.calibration import gain, make_trial
from gaussianvae.model.weights import held_out, read_weights, shipped_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    weights = read_weights(args.weights) if args.weights else shipped_weights()
    table: dict[str, list[float]] = {}
    for shard in held_out(weights, args.shards):
        trial = make_trial(weights.model, shard)
        step = weights.step_for(shard.splats.recipe)
        scores = {
            name: score(name, shard.splats, shard.cameras, shard.phi, shard.scale, known=shard.curvature)
            for name in SCORES
        }
        for budget in (1.25, 1.5):
            count = children_allowed(len(shard.splats), budget)
            for name, values in scores.items():
                value = gain(trial, step, PIXEL_FILTER, choose(values, count))
                table.setdefault(f"+{100 * budget - 100:.0f} % {name}", []).append(value)
        for name, share in (("+0 %", 0), ("+100 %", len(shard.splats))):
            table.setdefault(name, []).append(gain(trial, step, PIXEL_FILTER, choose(scores["random"], share)))
    rows = []
    for name, gains in table.items():
        budget = name.rsplit(" ", 1)[0]
        base = table.get(f"{budget} random", gains)
        paired = np.array(gains) - np.array(base)
        error = float(paired.std(ddof=1) / np.sqrt(len(paired))) if len(paired) > 1 else 0.0
        rows.append(
            {
                "choice": name,
                "gain": round(float(np.mean(gains)), 4),
                "over_random": round(float(paired.mean()), 4),
                "standard_error": round(error, 4),
                "scenes": len(gains),
            }
        )
        print(json.dumps(rows[-1]))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
