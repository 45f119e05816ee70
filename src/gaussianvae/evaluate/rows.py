"""One row of an evaluation: a method's renders of all judged views against the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from gaussianvae.captures import Capture, Planes, Views, load_depths, load_views
from gaussianvae.evaluate.metrics import depth_error, lr_consistency, psnr, ssim, truth_diagonal
from gaussianvae.evaluate.protocol import Protocol
from gaussianvae.progress import SILENT, Bar, Reporter
from gaussianvae.rasterize import Filter, Rendering, render
from gaussianvae.scene.imaging import enlarge_bicubic
from gaussianvae.scene.splats import Splats


@dataclass(frozen=True)
class Method:
    """Something that can be shown at the judged resolution."""

    name: str
    splats: Splats
    filter: Filter
    """The pixel filter it is shown with."""
    enlarged: bool = False
    """Rendered at LR and enlarged as an image (bicubic), instead of rendered at the judged resolution."""
    renders: int | None = None
    """Renders that were spent on making it (optimizer steps), where known."""
    cpu_seconds: float | None = None
    """CPU time of making it, where known."""
    peak_mb: float | None = None
    """Peak resident memory of the process that made it, where known."""


@dataclass(frozen=True)
class ViewFigures:
    """Figures of one view."""

    view: str
    psnr: float
    ssim: float
    lr_consistency: float
    depth_error: float | None


@dataclass(frozen=True)
class Row:
    """Figures of one method, means over views of the per-view figures; what was not computed is None."""

    method: str
    psnr: float
    """dB."""
    ssim: float
    lpips_alex: float | None
    lpips_vgg: float | None
    flip: float | None
    lr_consistency: float
    """PSNR (dB) of the render averaged down to LR against the LR photos of the same views."""
    num_gaussians: int
    bytes: int
    """Size of the splat as a plain PLY without normals, header not counted."""
    renders: int | None
    cpu_seconds: float | None
    peak_mb: float | None
    depth_error: float | None
    """In units of the diagonal of the box around everything that the true depth maps show."""
    per_view: tuple[ViewFigures, ...]

    def as_json(self) -> dict[str, object]:
        """The row's entry in the evaluation's JSON; figures that are not finite numbers become None."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value


@dataclass(frozen=True)
class Truth:
    """What the rows are judged against: the same views at the judged and at the LR resolution."""

    fine: Views
    coarse: Views
    depths: Planes | None
    diagonal: float
    """World units; 0 without depth."""


def load_truth(capture: Capture, protocol: Protocol, report: Reporter = SILENT) -> Truth:
    """Photos, LR photos and true depth (where the capture has it) of the test views."""
    background = protocol.background
    fine = load_views(capture, capture.test, protocol.judged_factor, background, report=report)
    coarse = load_views(capture, capture.test, protocol.factor, background, report=report)
    depths = load_depths(capture, capture.test, protocol.judged_factor)
    diagonal = truth_diagonal(fine.cameras, depths) if depths is not None else 0.0
    return Truth(fine, coarse, depths if diagonal > 0 else None, diagonal)


def draw(method: Method, truth: Truth, view: int) -> Rendering:
    """A method's picture of one judged view over the protocol's background."""
    with torch.no_grad():
        if not method.enlarged:
            return render(
                method.splats, truth.fine.cameras, view, filter=method.filter, background=truth.fine.background
            )
        small = render(
            method.splats, truth.coarse.cameras, view, filter=method.filter, background=truth.fine.background
        )
        planes = torch.cat([small.rgb, small.alpha[..., None]], -1)
        large = enlarge_bicubic(planes[None], truth.fine.cameras.sizes[view])[0]
        # no depth: enlarging it would invent surfaces between near and far
        return Rendering(large[..., :3], large[..., 3], torch.full_like(large[..., 3], math.nan))


def measure_view(method: Method, truth: Truth, view: int, name: str) -> ViewFigures:
    """Figures of one method in one view."""
    drawn = draw(method, truth, view)
    image = truth.fine.images[view]
    error = None
    if truth.depths is not None and not method.enlarged:
        error = depth_error(drawn.depth, drawn.alpha, truth.depths[view], truth.diagonal)
    return ViewFigures(
        view=name,
        psnr=psnr(drawn.rgb, image),
        ssim=ssim(drawn.rgb, image),
        lr_consistency=lr_consistency(drawn.rgb, truth.coarse.images[view]),
        depth_error=error,
    )


def plain_ply_bytes(splats: Splats) -> int:
    """Bytes of the rows of an INRIA PLY without normals: 4 a value."""
    return 4 * len(splats) * (3 + 4 + 3 + 1 + 3 * (splats.shN.shape[1] + 1))


def measure(method: Method, truth: Truth, names: Sequence[str], bar: Bar | None = None) -> Row:
    """Render and judge all views of one method."""
    figures = []
    for view, name in enumerate(names):
        figures.append(measure_view(method, truth, view, name))
        if bar is not None:
            bar.advance(method=method.name)
    depths = [one.depth_error for one in figures if one.depth_error is not None]
    return Row(
        method=method.name,
        psnr=_mean([one.psnr for one in figures]),
        ssim=_mean([one.ssim for one in figures]),
        lpips_alex=None,
        lpips_vgg=None,
        flip=None,
        lr_consistency=_mean([one.lr_consistency for one in figures]),
        num_gaussians=len(method.splats),
        bytes=plain_ply_bytes(method.splats),
        renders=method.renders,
        cpu_seconds=method.cpu_seconds,
        peak_mb=method.peak_mb,
        depth_error=_mean(depths) if depths else None,
        per_view=tuple(figures),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
