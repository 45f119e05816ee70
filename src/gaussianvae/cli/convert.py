"""`gaussianvae convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae.cli.options import check_splat_output
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.formats import FileOptions, cameras_beside, find_cameras, read_splats, write_cameras, write_splats


def convert(
    splats: Path,
    output: Path,
    /,
    *,
    config: Annotated[FileOptions | None, Parameter(name="*")] = None,
) -> None:
    """Write a splat in another format, the one that the output's ending names.

    What the format can't hold is said; the cameras beside the splat come along.

    Args:
        splats: The splat; its format is told by its content, else by its ending.
        output: What to write.
        config: Further options.
    """
    report, options = TerminalReporter(), config or FileOptions()
    check_splat_output(output, (splats,))
    given = read_splats(splats, options, report)
    cameras = find_cameras(splats)
    write_splats(output, given, [splats], options, report)
    beside = cameras_beside(output)
    if cameras is not None and beside != cameras_beside(splats):
        write_cameras(beside, cameras, [splats])
    report.message(f"{output}: {len(given):,} Gaussians, SH degree {given.sh_degree}, {output.stat().st_size:,} bytes")
