"""An evaluation as a table in the terminal and as a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rich.table import Table

from gaussianvae.evaluate.evaluate import Evaluation
from gaussianvae.evaluate.rows import Row
from gaussianvae.files import replacing


def to_json(evaluation: Evaluation) -> str:
    """The evaluation as JSON text, schema `gaussianvae.evaluation/1`."""
    return json.dumps(evaluation.as_json(), indent=2, allow_nan=False) + "\n"


def write_json(path: Path | str, evaluation: Evaluation, inputs: Iterable[Path | str] = ()) -> None:
    """Write the evaluation atomically; `path` must be none of the inputs."""
    with replacing(path, inputs) as beside:
        beside.write_text(to_json(evaluation))


def make_table(evaluation: Evaluation) -> Table:
    """A rich table: one line a row, PSNR and SSIM beside their gain over the best closed form."""
    protocol, best = evaluation.protocol, evaluation.best_closed
    title = (
        f"{evaluation.scene}: {protocol.name} ({len(protocol.views)} views, LR factor {protocol.factor:g}, judged x"
        f"{protocol.scale:g} finer, background {_color(protocol.background)}); gains over the best closed form"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("method", no_wrap=True)
    for heading in ("PSNR", "gain", "SSIM", "gain", "LR PSNR", "depth err", "Gaussians", "MB", "renders", "CPU s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in evaluation.rows:
        table.add_row(
            row.method,
            f"{row.psnr:.2f}",
            f"{row.psnr - best.psnr:+.2f}",
            f"{row.ssim:.4f}",
            f"{row.ssim - evaluation.best_closed_ssim:+.4f}",
            f"{row.lr_consistency:.2f}",
            *_costs(row),
            style="bold" if row is best else None,
            end_section=row.method == evaluation.closed[-1],
        )
    return table


def _costs(row: Row) -> tuple[str, ...]:
    return (
        "" if row.depth_error is None else f"{100 * row.depth_error:.3f} %",
        f"{row.num_gaussians}",
        f"{row.bytes / 1e6:.2f}",
        "" if row.renders is None else f"{row.renders}",
        "" if row.cpu_seconds is None else f"{row.cpu_seconds:.1f}",
    )


def _color(background: tuple[float, float, float]) -> str:
    names = {(0.0, 0.0, 0.0): "black", (1.0, 1.0, 1.0): "white"}
    return names.get(background) or ",".join(f"{value:g}" for value in background)
