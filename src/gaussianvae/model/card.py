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
from gaussianvae.files import replacing
from gaussianvae.model.calibration import Calibration, judged_views, make_trial
from gaussianvae.model.residuals import insert
from gaussianvae.model.shards import Shard
from gaussianvae.model.training import TrainConfig
from gaussianvae.model.vae import LineageVAE
from gaussianvae.model.weights import recipe_kind
from gaussianvae.rasterize import render

COLORS = {"posterior": "#1b7f5c", "prior": "#2456a6"}
_WIDTH, _HEIGHT, _MARGIN = 640, 300, 46


def write_curves(log: Path, path: Path) -> None:
    """The running losses of a training log (JSON lines) as an SVG: 1 is the anchor's own error."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    steps = [line["step"] for line in lines]
    values = [line[name] for line in lines for name in COLORS]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    last = max(steps, default=1)

    def x(step: float) -> float:
        return _MARGIN + (_WIDTH - _MARGIN - 10) * step / last

    def y(value: float) -> float:
        return 10 + (_HEIGHT - _MARGIN) * (high - value) / max(high - low, 1e-9)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for value in np.linspace(low, high, 5):
        parts.append(f'<line x1="{_MARGIN}" x2="{_WIDTH - 10}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="4" y="{y(value) + 4:.1f}">{value:.3f}</text>')
    for place, (name, color) in enumerate(COLORS.items()):
        points = " ".join(f"{x(line['step']):.1f},{y(line[name]):.1f}" for line in lines)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        parts.append(f'<text x="{_WIDTH - 110}" y="{24 + 16 * place}" fill="{color}">{name}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}">step (of {last})</text></svg>')
    with replacing(path) as beside:
        beside.write_text("\n".join(parts))


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
