"""`gaussianvae factory`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae.cli.options import Output
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.synthesize.factory import FactoryConfig, run_factory


def factory(
    *,
    output: Output,
    meshes: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    config: Annotated[FactoryConfig | None, Parameter(name="*")] = None,
) -> None:
    """Make training shards, scene by scene in worker processes; shards already there are kept.

    Args:
        output: Folder for the shards and their manifest.
        meshes: Mesh files (.glb), one further scene each.
        config: Further options.
    """
    for mesh in meshes:
        if not mesh.is_file():
            raise GaussianVAEError(f"{mesh}: no such mesh file")
    report = TerminalReporter()
    lines = run_factory(output, config, meshes, report)
    dropped = sum("dropped" in line for line in lines)
    report.message(f"{len(lines) - dropped} shards in {output}, {dropped} scenes dropped")
