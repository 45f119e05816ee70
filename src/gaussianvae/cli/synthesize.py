"""`gaussianvae synthesize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae.cli.options import Output
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.synthesize import SynthesisConfig, synthesize_many, synthesize_mesh


def synthesize(
    *,
    output: Output,
    count: int | None = None,
    mesh: Path | None = None,
    config: Annotated[SynthesisConfig | None, Parameter(name="*")] = None,
) -> None:
    """Make captures with known depth: procedural scenes from nothing, or one scene from a mesh.

    Args:
        output: Folder: of the capture with --mesh, of one capture a seed with --count.
        count: Make this many procedural scenes, of consecutive seeds from --seed on; those already there are kept.
        mesh: Make one scene from this glTF binary.
        config: Further options.
    """
    if (count is None) == (mesh is None):
        raise GaussianVAEError("give either --count N (procedural scenes) or --mesh FILE.glb")
    if count is not None and count < 1:
        raise GaussianVAEError(f"the count is {count}; at least 1 scene can be made")
    config, report = config or SynthesisConfig(), TerminalReporter()
    if mesh is not None:
        synthesize_mesh(output, mesh, config, report)
    elif count is not None:
        synthesize_many(output, count, config.seed, config, report)
