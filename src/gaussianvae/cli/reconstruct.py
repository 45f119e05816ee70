"""`gaussianvae reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gaussianvae.captures import load_views, read_capture
from gaussianvae.cli.options import Output, check_splat_output, check_writable, parse_background
from gaussianvae.cli.terminal import TerminalReporter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting import reconstruct as fitting
from gaussianvae.fitting.holdout import hold_out
from gaussianvae.formats import cameras_beside, write_cameras, write_splats
from gaussianvae.growth.lineage import write_lineage
from gaussianvae.scene.imaging import Operator


def reconstruct(
    capture: Path,
    /,
    *,
    output: Output,
    factor: float,
    lineage: Path | None = None,
    background: str = "black",
    operator: Operator = "area",
    held_out: float = 0.0,
    checkpoint: Path | None = None,
    config: Annotated[fitting.ReconstructConfig | None, Parameter(name="*")] = None,
) -> None:
    """Fit a splat to the training photos of a capture; its cameras are written beside it.

    Args:
        capture: Folder of the photos.
        output: The splat to write (.ply).
        factor: Reduction of the photos before the fit: 8 takes 800 px photos at 100 px.
        lineage: Write the lineage to this file (.safetensors).
        background: Under transparent photos: black, white or r,g,b.
        operator: How the photos are brought down by the factor: area, bicubic, soft or softer.
        held_out: Share of the photos, evenly spread, that the fit doesn't see, up to 0.5, so that `refine` can judge by
            them; at least 2 where it isn't 0.
        checkpoint: Resume from this file when it is there; by default beside the output, removed when the fit is done.
        config: Further options.
    """
    if not factor >= 1:
        raise GaussianVAEError(f"the factor is {factor:g}; it counts down from the photos' own size and is at least 1")
    if not 0 <= held_out <= 0.5:
        raise GaussianVAEError(f"held_out is {held_out:g}; it is a share of the photos, 0 to 0.5")
    color = parse_background(background)
    report = TerminalReporter()
    photos = read_capture(capture, report)
    check_splat_output(output)
    check_writable(cameras_beside(output))
    if lineage is not None:
        check_writable(lineage)
    used = list(photos.train)
    if held_out:
        used = [used[view] for view in hold_out(len(used), held_out)[0]]
    views = load_views(photos, used, factor, color, operator, report)
    if checkpoint is None:
        checkpoint = output.with_name(f"{output.stem}.checkpoint.safetensors")
    result = fitting.reconstruct(views, config, factor=factor, checkpoint=checkpoint, report=report)
    write_splats(output, result.splats, report=report)
    write_cameras(cameras_beside(output), views.cameras)
    if lineage is not None:
        write_lineage(lineage, result.lineage)
