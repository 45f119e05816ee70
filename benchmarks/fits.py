"""What makes a fit good: variants of `reconstruct` on lego at 100 px, judged at 100 and at 400 px.

    python benchmarks/fits.py [VARIANT ...] [--json FILE]

Each variant changes one thing of 2,000 steps with 14k Gaussians in mip mode; needs GAUSSIANVAE_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from gaussianvae.captures import Views, load_views, read_capture
from gaussianvae.fitting import reconstruct as fitting
from gaussianvae.fitting import run
from gaussianvae.rasterize import Filter, render
from gaussianvae.scene.imaging import psnr
from gaussianvae.scene.splats import Splats
from gaussianvae.scene.split import halve

BASE = fitting.ReconstructConfig(steps=2000, max_gaussians=14_000)


@contextmanager
def patched(module: object, name: str, value: object) -> Iterator[None]:
    """A module's attribute replaced for a while."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


Variant = tuple[fitting.ReconstructConfig, Callable[[], object]]
VARIANTS: dict[str, Variant] = {
    "as it is": (BASE, as_it_is),
    "3D filter": (replace(BASE, filter_3d=True), as_it_is),
    "split keeps second moment and peak": (BASE, lambda: patched(run, "sharpen", halve)),
    "no coarse to fine": (replace(BASE, coarse_to_fine=False), as_it_is),
    "slow coarse to fine": (BASE, lambda: patched(fitting, "STAGE_ENDS", (0.18, 0.45, 1.0))),
    "SH 3": (replace(BASE, sh_degree=3), as_it_is),
    "eps 0.3": (replace(BASE, eps2d=0.3), as_it_is),
    "4,000 steps, 10k": (replace(BASE, steps=4000, max_gaussians=10_000), as_it_is),
}


def mean_psnr(splats: Splats, views: Views, pixel: Filter) -> float:
    """Over all views, dB."""
    shots = [
        psnr(render(splats, views.cameras, v, filter=pixel, background=views.background).rgb, views.images[v])
        for v in range(len(views.cameras))
    ]
    return float(np.mean(shots))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    capture = read_capture(Path(os.environ["GAUSSIANVAE_DATA"]) / "captures" / "lego")
    train = load_views(capture, capture.train, 8)
    low, high = load_views(capture, capture.test, 8), load_views(capture, capture.test, 2)
    rows = []
    for name in args.variants or VARIANTS:
        config, change = VARIANTS[name]
        begin = time.process_time()
        with change():  # type: ignore[attr-defined]
            splats = fitting.reconstruct(train, config).splats
        row = {
            "variant": name,
            "cpu_seconds": round(time.process_time() - begin, 1),
            "gaussians": len(splats),
            "lr_psnr": round(mean_psnr(splats, low, config.pixel), 2),
            "mip_psnr": round(mean_psnr(splats, high, Filter("mip", 0.1)), 2),
            "median_opacity": round(float(splats.opacities.median()), 2),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
