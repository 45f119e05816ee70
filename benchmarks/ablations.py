"""What each part of the model is worth: shorter trainings on the same scenes with one thing left out.

    python benchmarks/ablations.py SHARDS [--steps 3000] [--variants NAME ...] [--json FILE]

Every variant trains on the scenes that `gaussianvae train` trains on and is judged on those that it holds out, at step
size 1, budget 1.5: mean gain over the best closed form of each scene in dB, for the bare splat and with its lineage
shown. Results are kept in benchmarks/results/ablations by (config, scenes) and checkpoints in runs/ablations, so that
variants can be run one by one and resumed; the table holds all of those asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.files import replacing
from gaussianvae.model.calibration import gain, make_trial
from gaussianvae.model.shards import Shard, read_shard, set_aside, shard_paths
from gaussianvae.model.training import TrainConfig, prepare, train_on
from gaussianvae.model.vae import LineageVAE

WORK, RESULTS = Path("runs/ablations"), Path("benchmarks/results/ablations")
BASE = TrainConfig(bfloat16=True)
VARIANTS = {
    "whole, seed 0": BASE,
    "lineage of one, seed 0": replace(BASE, max_ancestors=0),
    "global constant": replace(BASE, constant=True, latent=0),
    "no latent": replace(BASE, latent=0),
    "no neighbors": replace(BASE, neighbors=False),
    "no determinacy": replace(BASE, curvature=False),
    "whole, seed 1": replace(BASE, seed=1),
    "lineage of one, seed 1": replace(BASE, max_ancestors=0, seed=1),
    "whole, seed 2": replace(BASE, seed=2),
    "lineage of one, seed 2": replace(BASE, max_ancestors=0, seed=2),
}


def judge(model: LineageVAE, shards: list[Shard]) -> dict[str, list[float]]:
    """Gain of every held-out scene, bare and with its lineage."""
    return {
        name: [
            gain(make_trial(model, shard, parents="size", with_lineage=shown), 1.0, PIXEL_FILTER) for shard in shards
        ]
        for name, shown in (("bare", False), ("lineage", True))
    }


def rows_of(known: dict[str, dict[str, list[float]]]) -> list[dict[str, object]]:
    """The table: means, and differences to the whole model of the same seed, paired by scene."""
    rows: list[dict[str, object]] = []
    for name, gains in known.items():
        row: dict[str, object] = {"variant": name, "scenes": len(gains["bare"])}
        row |= {f"gain_{key}": round(float(np.mean(values)), 4) for key, values in gains.items()}
        base = known.get(f"whole, seed {name[-1] if 'seed' in name else 0}")
        if base is not None and base is not gains:
            paired = np.array(gains["bare"]) - np.array(base["bare"])
            row["to_whole"] = round(float(paired.mean()), 4)
            row["standard_error"] = round(float(paired.std(ddof=1) / np.sqrt(len(paired))), 4)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--held-out", type=float, default=0.1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    for folder in (WORK, RESULTS):
        folder.mkdir(parents=True, exist_ok=True)
    report = TerminalReporter()
    used, aside = set_aside(shard_paths(args.shards), args.held_out)
    held = [read_shard(path) for path in aside]
    scenes = None
    known = {}
    for name in args.variants:
        config = replace(VARIANTS[name], steps=args.steps)
        key = hashlib.sha256(json.dumps([asdict(config), [path.name for path in [*used, *aside]]]).encode()).hexdigest()
        file = RESULTS / f"{key[:16]}.json"
        if not file.exists():
            scenes = scenes or prepare([read_shard(path) for path in used], BASE, report)
            checkpoint = WORK / f"{key[:16]}.checkpoint.safetensors"
            model = train_on(scenes, config, checkpoint=checkpoint, report=report)
            with replacing(file) as beside:
                beside.write_text(json.dumps({"variant": name, "config": asdict(config), **judge(model, held)}))
            checkpoint.unlink(missing_ok=True)
        known[name] = {k: v for k, v in json.loads(file.read_text()).items() if k in ("bare", "lineage")}
        print(json.dumps(rows_of(known)[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"steps": args.steps, "rows": rows_of(known)}, indent=1))


if __name__ == "__main__":
    main()
