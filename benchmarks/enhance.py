"""Time and memory of `enhance` in memory, from 10k to 1M Gaussians, budget 1.5; and the work of the network.

    python benchmarks/enhance.py [COUNT ...] [--json FILE]

Each count runs in its own process. `model` is one pass without the sensitivity (score `size`, no determinacy); `all`
includes the determinacy over 12 views of 256 px; `polished` is the default, 100 steps of polish at 1024 px included.
Wall seconds, median of three; peak MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
REGION_OF = 100_000
"""The count of which a box of some 15k is also timed alone."""


def multiply_adds() -> int:
    """Of one Gaussian through the network, a bare splat."""
    from torch import nn

    from gaussianvae.model.tokens import NEIGHBORS
    from gaussianvae.model.weights import shipped_weights

    model = shipped_weights().model
    total = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "posterior" not in name and "ancestor" not in name:
            unused = name in ("encoder.lineage.query", "encoder.lineage.key")
            total += 0 if unused else module.weight.numel() * (NEIGHBORS if "encoder.neighbor" in name else 1)
    return total


def one(count: int) -> dict[str, float]:
    """Measure one count, in this process."""
    import torch

    from gaussianvae.enhance import EnhanceConfig, enhance, inside
    from gaussianvae.model.weights import shipped_weights
    from gaussianvae.scene.orbits import orbit
    from gaussianvae.scene.recipe import Recipe
    from gaussianvae.scene.rotations import random_quats
    from gaussianvae.scene.splats import Splats

    g = torch.Generator().manual_seed(0)
    splats = Splats(
        torch.randn(count, 3, generator=g),
        random_quats(count, g),
        torch.exp(torch.randn(count, 3, generator=g) * 0.4) * 1.5 / count ** (1 / 3),
        torch.rand(count, generator=g),
        torch.randn(count, 1, 3, generator=g),
        0.1 * torch.randn(count, 3, 3, generator=g),
        Recipe("mip", 0.1),
    )
    cameras, weights = orbit(splats, 12, 256), shipped_weights()
    row: dict[str, float] = {"num_gaussians": count}
    for name, config in (
        ("model", EnhanceConfig(score="size", determinacy=False, polish=0)),
        ("all", EnhanceConfig(polish=0)),
        ("polished", EnhanceConfig()),
    ):
        times = []
        for _ in range(3 if count <= 300_000 and name != "polished" else 1):
            begin = time.perf_counter()
            enhance(splats, 4.0, config, cameras=cameras, weights=weights)
            times.append(time.perf_counter() - begin)
        row[f"{name}_seconds"] = round(sorted(times)[len(times) // 2], 3)
    if count == REGION_OF:
        config = EnhanceConfig(roi=(-0.68, -0.68, -0.82, 0.68, 0.68, 0.82), polish=0)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            enhance(splats, 4.0, config, cameras=cameras, weights=weights)
            times.append(time.perf_counter() - begin)
        row["region_gaussians"] = int(inside(splats, config.roi).sum())
        row["region_seconds"] = round(sorted(times)[len(times) // 2], 3)
    row["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one)))
        return
    rows = []
    for count in args.counts or COUNTS:
        out = subprocess.run(
            [sys.executable, __file__, "--one", str(count)], capture_output=True, text=True, check=True
        )
        rows.append(json.loads(out.stdout))
        print(rows[-1], flush=True)
    work = multiply_adds()
    # a projection, not a measurement: an H100 does some 400e12 dense 16-bit multiply-adds a second, a tenth is assumed
    print(f"{work} multiply-adds a Gaussian; 100k on a GPU at 4e13/s: {1e5 * work / 4e13 * 1e3:.2f} ms (projection)")
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "multiply_adds": work}, indent=1))


if __name__ == "__main__":
    main()
