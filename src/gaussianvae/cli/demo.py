"""`gaussianvae demo`: everything once, on a small scene of its own."""

from __future__ import annotations

import shutil
import time

from gaussianvae.captures import load_views, read_capture
from gaussianvae.cli.options import Output, check_folder
from gaussianvae.cli.terminal import TerminalReporter, results_console
from gaussianvae.enhance import EnhanceConfig, enhance
from gaussianvae.evaluate import evaluate
from gaussianvae.evaluate.pictures import write_pictures
from gaussianvae.evaluate.tables import make_table, write_json
from gaussianvae.fitting.reconstruct import ReconstructConfig, reconstruct
from gaussianvae.formats import cameras_beside, write_cameras, write_splats
from gaussianvae.growth.lineage import write_lineage
from gaussianvae.synthesize import SynthesisConfig, synthesize_procedural

SEED = 7_000_013
"""Not among the factory's seeds."""
FACTOR, SCALE = 4.0, 4.0


def demo(*, output: Output, views: int = 60, size: int = 400, steps: int = 3000, gaussians: int = 10_000) -> None:
    """Synthesize a capture, fit it at a quarter of its resolution, enhance the fit fourfold, and judge the result.

    Args:
        output: Folder for the capture, the splats, the pictures and metrics.json.
        views: Photos of the capture.
        size: Their width and height in pixels.
        steps: Of each fit.
        gaussians: Most Gaussians of a fit.
    """
    begin = time.monotonic()
    check_folder(output)
    report = TerminalReporter()
    shutil.rmtree(output / "capture", ignore_errors=True)
    folder = synthesize_procedural(output / "capture", SynthesisConfig(views=views, size=size, seed=SEED), report)
    photos = read_capture(folder)
    seen = load_views(photos, photos.train, FACTOR, report=report)
    fit = reconstruct(seen, ReconstructConfig(steps=steps, max_gaussians=gaussians), factor=FACTOR, report=report)
    given = output / "LR.ply"
    write_splats(given, fit.splats)
    write_cameras(cameras_beside(given), seen.cameras)
    write_lineage(output / "LR.lineage.safetensors", fit.lineage)
    finer = enhance(fit.splats, SCALE, EnhanceConfig(), cameras=seen.cameras, report=report).splats
    write_splats(output / "enhanced.ply", finer)
    result = evaluate(
        fit.splats, photos, FACTOR, {"enhanced": finer}, ("classic_fit",), report=report, cache=output / "cache"
    )  # fmt: skip
    write_json(output / "metrics.json", result)
    pictures = write_pictures(output, result)
    results_console().print(make_table(result))
    for path in (output / "metrics.json", *pictures):
        report.message(f"wrote {path}")
    report.message(f"demo: {time.monotonic() - begin:.0f} s")
