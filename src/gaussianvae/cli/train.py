"""`gaussianvae train`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.cli.options import Output, check_writable
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.model.calibration import calibrate
from gaussianvae.model.shards import read_shard, shard_paths
from gaussianvae.model.training import TrainConfig
from gaussianvae.model.training import train as fit
from gaussianvae.model.weights import Weights, write_weights


def train(
    shards: Path,
    /,
    *,
    output: Output,
    held_out: float = 0.1,
    config: Annotated[TrainConfig | None, Parameter(name="*")] = None,
) -> None:
    """Train the VAE on a factory's shards and calibrate its step size on scenes held out from them.

    Args:
        shards: The factory's folder.
        output: The weights to write (.safetensors); the checkpoint and the log lie beside it.
        held_out: Share of the scenes, evenly spread, that calibrate and are not trained on.
        config: Further options.
    """
    if not 0 <= held_out < 1:
        raise GaussianVAEError(f"the held-out share is {held_out:g}; allowed are 0 up to, not including, 1")
    paths = shard_paths(shards)
    check_writable(output)
    report, config = TerminalReporter(), config or TrainConfig()
    every = round(1 / held_out) if held_out else len(paths) + 1
    kept = [read_shard(path) for index, path in enumerate(paths) if (index + 1) % every]
    model = fit(
        kept,
        config,
        checkpoint=output.with_name(f"{output.stem}.checkpoint.safetensors"),
        log=output.with_name(f"{output.stem}.log.jsonl"),
        report=report,
    )
    others = [read_shard(path) for index, path in enumerate(paths) if not (index + 1) % every]
    calibration = calibrate(model, others, PIXEL_FILTER, report)
    notes = {"config": asdict(config), "scenes": len(kept), "calibration": asdict(calibration)}
    write_weights(output, Weights(model, calibration.steps, notes))
