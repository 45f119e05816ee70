"""`gaussianvae train`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.cli.options import Output, check_folder, check_writable
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.model.calibration import calibrate
from gaussianvae.model.card import write_card, write_curves, write_panels
from gaussianvae.model.shards import read_shard, set_aside, shard_paths
from gaussianvae.model.training import TrainConfig
from gaussianvae.model.training import train as fit
from gaussianvae.model.weights import Weights, recipe_kind, write_weights

PANELS = 6
"""Held-out scenes shown in the panel of pictures."""


def train(
    shards: Path,
    /,
    *,
    output: Output,
    work: Path | None = None,
    held_out: float = 0.1,
    config: Annotated[TrainConfig | None, Parameter(name="*")] = None,
) -> None:
    """Train the VAE on a factory's shards and calibrate its step size on scenes held out from them.

    Args:
        shards: The factory's folder.
        output: The weights to write (.safetensors), and beside them the model card (.md).
        work: Folder for checkpoint, log, curves and panels; by default the output's own.
        held_out: Share of the scenes, evenly spread, that calibrate and are not trained on.
        config: Further options.
    """
    if not 0 <= held_out < 1:
        raise GaussianVAEError(f"the held-out share is {held_out:g}; allowed are 0 up to, not including, 1")
    paths = shard_paths(shards)
    check_writable(output)
    work = work or output.parent
    check_folder(work)
    report, config = TerminalReporter(), config or TrainConfig()
    used, aside = set_aside(paths, held_out)
    kept = [read_shard(path) for path in used]
    log = work / f"{output.stem}.log.jsonl"
    checkpoint = work / f"{output.stem}.checkpoint.safetensors"
    model = fit(kept, config, checkpoint=checkpoint, log=log, report=report)
    others = [read_shard(path) for path in aside]
    calibration = calibrate(model, others, PIXEL_FILTER, report)
    for kind in {recipe_kind(shard.splats.recipe) for shard in kept} - set(calibration.steps):
        report.message(f"no held-out scene of kind {kind}: its step size is left at 1")
    notes = {
        "config": asdict(config),
        "scenes": [shard.name for shard in kept],
        "calibration": asdict(calibration),
    }
    write_weights(output, Weights(model, calibration.steps, notes))
    checkpoint.unlink(missing_ok=True)
    write_card(output.with_suffix(".md"), model, config, calibration, [shard.name for shard in kept])
    write_curves(log, work / f"{output.stem}.curves.svg")
    write_panels(model, others[:PANELS], dict(calibration.steps), work / f"{output.stem}.panels.png")
