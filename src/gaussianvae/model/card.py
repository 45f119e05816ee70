"""What a training leaves behind for people: curves, a panel of pictures, and the model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.charts import line_chart
from gaussianvae.files import replacing
from gaussianvae.model.calibration import Calibration, judged_views, make_trial
from gaussianvae.model.residuals import insert
from gaussianvae.model.shards import Shard
from gaussianvae.model.training import TrainConfig
from gaussianvae.model.vae import LineageVAE
from gaussianvae.model.weights import recipe_kind
from gaussianvae.rasterize import render


def write_curves(log: Path, path: Path) -> None:
    """The running losses of a training log (JSON lines) as an SVG: 1 is the anchor's own error."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    curves = {name: [(line["step"], line[name]) for line in lines] for name in ("posterior", "prior")}
    with replacing(path) as beside:
        beside.write_text(line_chart(curves, "step", "loss"))


def write_panels(model: LineageVAE, shards: Sequence[Shard], steps: dict[str, float], path: Path) -> None:
    """One row a scene: truth, anchor, enhanced, at HR, from a view that the LR fit never saw."""
    rows = []
    for shard in shards:
        trial = make_trial(model, shard)
        view = judged_views(shard)[0]
        residuals = trial.residuals.scaled(steps.get(recipe_kind(shard.splats.recipe), 1.0))
        fine, _ = insert(shard.anchor, residuals, trial.tokens.frames, trial.tokens.order, trial.chosen)
        shots = [shard.image(view)]
        with torch.no_grad():
            for splats in (shard.anchor, fine):
                shot = render(splats, shard.fine_cameras, view, filter=PIXEL_FILTER, background=shard.background)
                shots.append(shot.rgb.clamp(0, 1))
        row = (torch.cat(shots, 1) * 255).round().byte().numpy()
        rows.append(np.asarray(Image.fromarray(row).resize((960, 320), Image.Resampling.LANCZOS)))
    if rows:
        with replacing(path) as beside:
            Image.fromarray(np.concatenate(rows)).save(beside, format="PNG")


def write_card(
    path: Path, model: LineageVAE, config: TrainConfig, calibration: Calibration, scenes: Sequence[str]
) -> None:
    """The model card: what the weights are, what they were made from, and what was measured on held-out scenes."""
    kinds = sorted({name.rsplit("_", 1)[0] for name in scenes})
    lines = [
        "# Model card",
        "",
        f"A conditional VAE over Gaussian lineages, {model.num_parameters():,} parameters (docs/method.md).",
        "",
        f"- Trained on {len(scenes)} scenes: {sum(name.startswith('scene_') for name in scenes)} procedural ones and "
        f"{sum(not name.startswith('scene_') for name in scenes)} from textured meshes"
        + (f" ({', '.join(kind for kind in kinds if kind != 'scene')})" if len(kinds) > 1 else "")
        + ".",
        f"- Training: `{json.dumps(asdict(config))}`.",
        "- Intended use: making splats of objects finer, 1.5 to 8 times; rooms and landscapes were not trained on.",
        "",
        "Step size by kind of recipe, chosen on held-out scenes (gain over the best closed form, dB, at LR's factor):",
        "",
        "| kind | scenes | step | mean gain at step | worst scene | scenes made worse |",
        "|---|---|---|---|---|---|",
    ]
    for kind, step in sorted(calibration.steps.items()):
        best = calibration.gains[kind][f"{step:g}"]
        lines.append(
            f"| {kind} | {calibration.scenes[kind]} | {step:g} | {best:+.3f} | {calibration.worst[kind]:+.3f} "
            f"| {calibration.harmed[kind]} |"
        )
    with replacing(path) as beside:
        beside.write_text("\n".join(lines) + "\n")
