"""Gain without images on LR fits that training never saw, over the best closed form of each scene.

    python benchmarks/gain.py [--mode mip|classic] [--scale 4] [--scenes NAME ...] [--seeds 0 1 2] [--json FILE]

Beside the default (the model's pass, polished) stand the pass alone, and what polish makes of the closed form `split`
at the same number of Gaussians: what it would be worth without a model.

Test meshes: every kh_*, pc_*, pyr_* and bab_* of $GAUSSIANVAE_DATA/assets (48 views of 256 px; LR 64 px, 6k Gaussians,
3,000 steps); lego: 100 px of 800, 10k Gaussians, 4,000 steps. Captures are kept in runs/gain by name, fits by content.
Above the test's own factor the fit is made at LR = size / scale.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from gaussianvae.captures import Capture, Views, load_views, read_capture
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.enhance import POLISH, EnhanceConfig, enhance
from gaussianvae.evaluate import evaluate
from gaussianvae.evaluate.baselines import cached_fit
from gaussianvae.fitting.reconstruct import ReconstructConfig
from gaussianvae.model.weights import Weights, read_weights, shipped_weights
from gaussianvae.scene.splats import Splats
from gaussianvae.synthesize import SynthesisConfig, synthesize_mesh

TEST_PREFIXES = ("kh_", "pc_", "pyr_", "bab_")
WORK = Path("runs/gain")
VARIANTS = {"enhanced": "", "one_pass": "pass_", "polished_split": "split_"}
"""What is judged, and how its columns begin."""


def data_folder() -> Path:
    """Where the test data lie."""
    data = os.environ.get("GAUSSIANVAE_DATA")
    if not data:
        raise SystemExit("set GAUSSIANVAE_DATA to the folder of test data")
    return Path(data)


def scenes(data: Path, wanted: list[str] | None) -> dict[str, Path]:
    """Capture folders or mesh files by scene name."""
    found = {p.stem: p for p in sorted((data / "assets").glob("*.glb")) if p.stem.startswith(TEST_PREFIXES)}
    found["lego"] = data / "captures" / "lego"
    return {name: path for name, path in found.items() if wanted is None or name in wanted}


def capture_of(name: str, path: Path, report: TerminalReporter) -> Path:
    """The capture's folder; a mesh is synthesized once."""
    if path.is_dir():
        return path
    folder = WORK / "captures" / name
    if not folder.exists():
        synthesize_mesh(folder, path, SynthesisConfig(views=48, size=256, seed=0), report)
    return folder


def fit_of_scene(name: str, mode: str, scale: float, seed: int) -> tuple[float, ReconstructConfig]:
    """The factor of a scene's LR fit, and its config."""
    lego = name == "lego"
    fit = ReconstructConfig(
        steps=4000 if lego else 3000,
        max_gaussians=10_000 if lego else 6000,
        mode="classic" if mode == "classic" else "mip",
        seed=seed,
    )
    return max(8.0 if lego else 4.0, scale), fit


def fit_of(
    name: str, photos: Capture, mode: str, scale: float, seed: int, report: TerminalReporter
) -> tuple[Splats, Views, float]:
    """A scene's LR fit as this benchmark makes it, its photos at LR, and their factor."""
    factor, fit = fit_of_scene(name, mode, scale, seed)
    views = load_views(photos, photos.train, factor, report=report)
    splats = cached_fit(f"{name}-{mode}", views, fit, fit.pixel, factor, WORK / "fits", report).splats
    return replace(splats, recipe=replace(splats.recipe, factor=factor)), views, factor


def judge(
    name: str, path: Path, mode: str, scale: float, seed: int, weights: Weights, config: EnhanceConfig,
    report: TerminalReporter,
) -> dict[str, object]:  # fmt: skip
    """One scene's figures."""
    photos = read_capture(capture_of(name, path, report))
    splats, views, factor = fit_of(name, photos, mode, scale, seed, report)
    variants = {
        "enhanced": config,
        "one_pass": replace(config, polish=0),
        "polished_split": replace(config, method="split", polish=POLISH),
        "anchored": replace(config, method="anchor"),
    }
    finer = {
        key: enhance(splats, scale, variant, cameras=views.cameras, weights=weights, report=report).splats
        for key, variant in variants.items()
    }
    result = evaluate(splats, photos, factor, finer, report=report, scale=scale, cache=WORK / "fits")
    best = result.best_closed
    depth = [error for n in result.closed if (error := result.row(n).depth_error) is not None]
    anchored = result.row("anchored@classic_view")
    row: dict[str, object] = {
        "scene": name,
        "best_closed": best.method,
        "closed_psnr": round(best.psnr, 3),
        "best_closed_depth_error": best.depth_error,
        "least_closed_depth_error": min(depth) if depth else None,
        "num_gaussians": result.row("enhanced").num_gaussians,
        "gain_over_anchor": round(result.row("enhanced").psnr - result.row("anchor").psnr, 3),
    }
    for key, prefix in VARIANTS.items():
        ours = result.row(key)
        row |= {
            f"{prefix}gain": round(ours.psnr - best.psnr, 3),
            f"{prefix}gain_ssim": round(ours.ssim - result.best_closed_ssim, 4),
            f"{prefix}classic_view_gain": round(result.row(f"{key}@classic_view").psnr - anchored.psnr, 3),
            f"{prefix}depth_error": ours.depth_error,
        }
    return row


def summary(rows: list[dict[str, object]]) -> str:
    """Means of one group of scenes, a line a variant."""
    lines = []
    for key, prefix in VARIANTS.items():

        def column(name: str) -> np.ndarray:
            return np.array([np.nan if row[name] is None else float(str(row[name])) for row in rows])

        gains, depth = column(f"{prefix}gain"), column(f"{prefix}depth_error").mean()
        lines.append(
            f"{key:14s} mean gain {gains.mean():+.3f} dB (worst {gains.min():+.3f}, "
            f"{int((gains < 0).sum())} of {len(gains)} worse), SSIM {column(f'{prefix}gain_ssim').mean():+.4f}, "
            f"classic view {column(f'{prefix}classic_view_gain').mean():+.3f}, depth error "
            f"x{depth / column('best_closed_depth_error').mean():.3f} of the best closed form's, "
            f"x{depth / column('least_closed_depth_error').mean():.3f} of the least"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", default="mip", choices=["mip", "classic"])
    parser.add_argument("--scale", type=float, default=4.0)
    parser.add_argument("--budget", type=float, default=1.5)
    parser.add_argument("--score", default=EnhanceConfig().score)
    parser.add_argument("--scenes", nargs="*")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    data = data_folder()
    weights = read_weights(args.weights) if args.weights else shipped_weights()
    report = TerminalReporter()
    rows = []
    for seed in args.seeds:
        for name, path in scenes(data, args.scenes).items():
            config = EnhanceConfig(budget=args.budget, score=args.score)
            row = {"seed": seed, **judge(name, path, args.mode, args.scale, seed, weights, config, report)}
            rows.append(row)
            print(json.dumps(row), flush=True)
    for label, chosen in (
        ("meshes", [r for r in rows if r["scene"] != "lego"]),
        ("lego", [r for r in rows if r["scene"] == "lego"]),
    ):
        if chosen:
            print(f"{label}\n{summary(chosen)}")
    if args.json:
        args.json.write_text(json.dumps({"mode": args.mode, "scale": args.scale, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
