"""Baselines that are fits of their own: slow, so each is kept in a cache keyed by the content of its inputs."""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gaussianvae import __version__, fitting
from gaussianvae.antialias import CLASSIC_VIEW, PIXEL_FILTER, training_filter
from gaussianvae.captures import Capture, Views, digest, gather, load_views
from gaussianvae.errors import GaussianVAEError
from gaussianvae.evaluate.protocol import Protocol
from gaussianvae.evaluate.rows import Method
from gaussianvae.files import replacing
from gaussianvae.fitting.reconstruct import ReconstructConfig, reconstruct
from gaussianvae.formats import read_splats, write_splats
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.rasterize import Filter
from gaussianvae.scene.cameras import resize
from gaussianvae.scene.imaging import enlarge_bicubic, round_to_8_bits
from gaussianvae.scene.splats import Splats

CACHE = Path("runs/cache")
DEFAULT_STEPS = 3000
"""Steps of a baseline fit when the given splat doesn't say how long it was trained."""


@dataclass(frozen=True)
class Case:
    """What the baselines of one evaluation have in common."""

    splats: Splats
    capture: Capture
    protocol: Protocol
    steps: int
    """Optimizer steps of the longest-trained splat under test."""
    num_gaussians: int
    """Gaussians of the largest splat under test."""
    seed: int = 0
    cache: Path = CACHE


def make_case(
    splats: Splats, capture: Capture, protocol: Protocol, rivals: Sequence[Splats], seed: int = 0, cache: Path = CACHE
) -> Case:
    """The case for a given splat and the methods under test (`rivals`) made from it."""
    everyone = (splats, *rivals)
    steps = max(one.recipe.steps or DEFAULT_STEPS for one in everyone)
    return Case(splats, capture, protocol, steps, max(len(one) for one in everyone), seed, cache)


def _fit_key(views: Views, config: ReconstructConfig) -> str:
    """Content of everything that decides a fit: photos, cameras, config, and the code that fits."""
    package = Path(fitting.__path__[0]).parent
    fitted_by = [
        package / "fitting" / f"{name}.py" for name in ("__init__", "parameters", "reconstruct", "run", "start")
    ]
    # the reference says what a render is; kernels follow it up to rounding, and may get faster without new fits
    rendered_by = [package / "rasterize" / f"{name}.py" for name in ("reference", "types", "losses")]
    sources = [*fitted_by, *rendered_by, package / "scene/split.py"]
    sha = hashlib.sha256()
    for source in sorted(sources):
        sha.update(source.read_bytes())
    sha.update(json.dumps([__version__, asdict(config), digest(views)], sort_keys=True).encode())
    return sha.hexdigest()[:24]


def cached_fit(
    name: str, views: Views, config: ReconstructConfig, shown: Filter, factor: float, cache: Path, report: Reporter
) -> Method:
    """A fit, or the one that the same photos and config gave before (`<cache>/<name>-<key>.ply`)."""
    path = cache / f"{name}-{_fit_key(views, config)}.ply"
    note = path.with_suffix(".json")
    if path.exists() and note.exists():
        try:
            known = json.loads(note.read_text())
            return Method(name, read_splats(path), shown, False, config.steps, known["cpu_seconds"], known["peak_mb"])
        except (OSError, ValueError, KeyError, GaussianVAEError):
            report.message(f"{path}: the cached fit is unreadable and is made anew")
    report.message(f"baseline {name}: {config.steps} steps, at most {config.max_gaussians} Gaussians; kept as {path}")
    begin = time.process_time()
    splats = reconstruct(views, config, factor=factor, report=report).splats
    cost = {
        "cpu_seconds": round(time.process_time() - begin, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    write_splats(path, splats)
    with replacing(note) as beside:
        beside.write_text(json.dumps(cost))
    return Method(name, splats, shown, False, config.steps, cost["cpu_seconds"], cost["peak_mb"])


def _train_views(case: Case, factor: float, report: Reporter) -> Views:
    return load_views(case.capture, case.capture.train, factor, case.protocol.background, report=report)


def classic_fit(case: Case, report: Reporter) -> Method:
    """A classic 3DGS fit at LR with the given splat's steps and Gaussians, as most viewers show it."""
    steps = case.splats.recipe.steps or DEFAULT_STEPS
    config = ReconstructConfig(
        steps=steps,
        max_gaussians=len(case.splats),
        mode="classic",
        sh_degree=case.splats.sh_degree,
        seed=case.seed,
    )
    views = _train_views(case, case.protocol.factor, report)
    return cached_fit("classic_fit", views, config, CLASSIC_VIEW, case.protocol.factor, case.cache, report)


def _mip_config(case: Case) -> ReconstructConfig:
    return ReconstructConfig(
        steps=case.steps,
        max_gaussians=case.num_gaussians,
        mode="mip",
        sh_degree=case.splats.sh_degree,
        seed=case.seed,
    )


def mip_matched(case: Case, report: Reporter) -> Method:
    """A mip fit at LR, trained as long and with as many Gaussians as the method under test."""
    views = _train_views(case, case.protocol.factor, report)
    return cached_fit("mip_matched", views, _mip_config(case), PIXEL_FILTER, case.protocol.factor, case.cache, report)


def bicubic(case: Case, report: Reporter) -> Method:
    """The given splat's LR render, enlarged as an image."""
    own = training_filter(case.splats.recipe)
    return Method("bicubic", case.splats, own, enlarged=True, renders=case.splats.recipe.steps)


def bicubic_images(case: Case, report: Reporter) -> Method:
    """A mip fit on the LR photos enlarged as images."""
    coarse = _train_views(case, case.protocol.factor, report)
    cameras = resize(case.capture.cameras.select(case.capture.train), case.protocol.judged_factor)
    images = [enlarge_bicubic(image[None], cameras.sizes[view])[0] for view, image in enumerate(coarse.images)]
    alphas = coarse.alphas
    if alphas is not None:
        planes = [enlarge_bicubic(a[None, ..., None], cameras.sizes[v])[0, ..., 0] for v, a in enumerate(alphas)]
        alphas = gather(planes)
    photos = gather([round_to_8_bits(image) for image in images])
    views = Views(cameras, photos, alphas, coarse.background, coarse.points)
    factor = case.protocol.judged_factor
    return cached_fit("bicubic_images", views, _mip_config(case), PIXEL_FILTER, factor, case.cache, report)


def hr_reference(case: Case, report: Reporter) -> Method:
    """A mip fit on the photos at the judged resolution, at equal Gaussians: a reference, not a bound."""
    factor = case.protocol.judged_factor
    views = _train_views(case, factor, report)
    return cached_fit("hr_reference", views, _mip_config(case), PIXEL_FILTER, factor, case.cache, report)


BASELINES: dict[str, Callable[[Case, Reporter], Method]] = {
    "classic_fit": classic_fit,
    "mip_matched": mip_matched,
    "bicubic": bicubic,
    "bicubic_images": bicubic_images,
    "hr_reference": hr_reference,
}


def make_baseline(name: str, case: Case, report: Reporter = SILENT) -> Method:
    """One of `BASELINES` by name.

    Raises:
        GaussianVAEError: no baseline of that name.
    """
    check_names([name])
    return BASELINES[name](case, report)


def check_names(names: Sequence[str]) -> None:
    """Raise GaussianVAEError unless every name is one of `BASELINES`."""
    for name in names:
        if name not in BASELINES:
            raise GaussianVAEError(f"no baseline named {name}; choose from {', '.join(BASELINES)}")
