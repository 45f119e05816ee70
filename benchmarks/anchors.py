"""How much of the LR pixel filter belongs into the anchor: PSNR at HR over shards, relative to baking nothing.

    python benchmarks/anchors.py SHARDS [--json FILE]

A row per kind of recipe: variance baked in LR pixels^2 at the mean footprint, opacity kept (k) or compensated (c).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from gaussianvae.antialias import CLASSIC_VIEW, PIXEL_FILTER, bake
from gaussianvae.model.calibration import judged_views, mean_psnr
from gaussianvae.model.shards import read_shard, shard_paths
from gaussianvae.model.weights import recipe_kind
from gaussianvae.scene.cameras import footprints

VARIANCES = (0.005, 0.01, 0.02, 0.04, 0.075, 0.15, 0.22, 0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    table: dict[str, list[dict[str, float]]] = {}
    for path in shard_paths(args.shards):
        shard = read_shard(path)
        views = judged_views(shard, 4)
        zero = mean_psnr(shard, shard.splats, PIXEL_FILTER, views)
        phi = footprints(shard.cameras, shard.splats.means, average=True)
        row = {"classic_view": mean_psnr(shard, shard.splats, CLASSIC_VIEW, views) - zero}
        for variance in VARIANCES:
            for letter, keep in (("k", True), ("c", False)):
                wide = bake(shard.splats, shard.cameras, phi, variance, keep)
                row[f"{letter}{variance:g}"] = mean_psnr(shard, wide, PIXEL_FILTER, views) - zero
        kind = recipe_kind(shard.splats.recipe) + (", 3D filter" if shard.splats.recipe.filter_3d else "")
        table.setdefault(kind, []).append(row)
    result = {
        kind: {"fits": len(rows), **{name: round(float(np.mean([row[name] for row in rows])), 3) for name in rows[0]}}
        for kind, rows in sorted(table.items())
    }
    for kind, means in result.items():
        print(kind, means)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
