"""The verb: closed forms of a splat, finer splats made from it, and baselines, all judged on the same views."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from gaussianvae import __version__
from gaussianvae.antialias import CLASSIC_VIEW, PIXEL_FILTER, closed_forms
from gaussianvae.captures import Capture
from gaussianvae.errors import GaussianVAEError
from gaussianvae.evaluate.baselines import BASELINES, CACHE, check_names, make_baseline, make_case
from gaussianvae.evaluate.protocol import Protocol, choose_protocol
from gaussianvae.evaluate.rows import Method, Row, Truth, load_truth, measure
from gaussianvae.guess import guess_recipe
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import footprints, resize
from gaussianvae.scene.splats import Splats

SCHEMA = "gaussianvae.evaluation/1"


@dataclass(frozen=True)
class Evaluation:
    """All rows of one run, and what is needed to draw them."""

    scene: str
    protocol: Protocol
    rows: tuple[Row, ...]
    methods: tuple[Method, ...]
    """What each row shows, in the rows' order."""
    closed: tuple[str, ...]
    """Names of the closed forms among the rows."""
    truth: Truth

    def row(self, name: str) -> Row:
        """The row of a method.

        Raises:
            KeyError: no such row.
        """
        for row in self.rows:
            if row.method == name:
                return row
        raise KeyError(f"no row named {name}; there are {', '.join(row.method for row in self.rows)}")

    @property
    def best_closed(self) -> Row:
        """The closed form of highest PSNR: the baseline of every gain."""
        return max((self.row(name) for name in self.closed), key=lambda row: row.psnr)

    @property
    def best_closed_ssim(self) -> float:
        """The highest SSIM of the closed forms (not always the same one's)."""
        return max(self.row(name).ssim for name in self.closed)

    def as_json(self) -> dict[str, object]:
        """The evaluation as plain data, schema `gaussianvae.evaluation/1`."""
        return {
            "schema": SCHEMA,
            "scene": self.scene,
            "protocol": self.protocol.as_json(),
            "rows": [row.as_json() for row in self.rows],
            "versions": versions(),
        }


def versions() -> dict[str, str]:
    """What the figures depend on besides their inputs."""
    parts = {name: metadata.version(name) for name in ("torch", "numpy", "numba")}
    return {"gaussianvae": __version__, "python": platform.python_version(), **parts}


def closed_methods(splats: Splats, capture: Capture, protocol: Protocol) -> list[Method]:
    """The closed forms of an LR splat as methods."""
    cameras = resize(capture.cameras.select(capture.train), protocol.factor)
    forms = closed_forms(splats, cameras, footprints(cameras, splats.means), protocol.scale)
    return [Method(name, form.splats, form.filter, renders=splats.recipe.steps) for name, form in forms.items()]


def rival_methods(rivals: Mapping[str, Splats]) -> list[Method]:
    """Two methods for each finished splat: under its own pixel filter, and as most viewers show it."""
    methods = []
    for name, splats in rivals.items():
        own = Method(name, splats, PIXEL_FILTER, renders=splats.recipe.steps)
        methods += [own, replace(own, name=f"{name}@classic_view", filter=CLASSIC_VIEW)]
    return methods


def evaluate(
    splats: Splats,
    capture: Capture,
    factor: float,
    with_: Mapping[str, Splats] | None = None,
    baselines: Sequence[str] = (),
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    report: Reporter = SILENT,
    *,
    scale: float | None = None,
    seed: int = 0,
    cache: Path = CACHE,
) -> Evaluation:
    """Judge a splat fitted at LR, and finer splats made from it, at a finer resolution on the test views.

    Args:
        splats: the LR fit; its closed forms are always rows.
        capture: its photos; train views give the closed forms their footprints, test views are judged.
        factor: reduction of the photos that the splat was trained on.
        with_: finer splats by name; each gives a row under the true pixel's filter (mip, 0.1 px^2) and a row
            `NAME@classic_view` under the dilation that most viewers apply.
        baselines: names out of `baselines.BASELINES`; fits of their own, cached.
        background: RGB, 0-1, under transparent photos.
        report: receives progress.
        scale: how much finer the judged images are; by default 4, or `factor` where that is less.
        seed: of the baselines' fits.
        cache: folder of the baselines' fits.

    Raises:
        GaussianVAEError: a factor, scale, name or baseline that is out of range, or an empty splat.
    """
    rivals = with_ or {}
    check_names(baselines)
    protocol = choose_protocol(capture, factor, scale, background)
    for name, one in {"the splat": splats, **rivals}.items():
        if len(one) == 0:
            raise GaussianVAEError(f"{name}: holds no Gaussians; there is nothing to judge")
    if splats.recipe.factor is not None and abs(splats.recipe.factor / factor - 1) > 1e-3:
        report.message(f"the splat says that it was trained at factor {splats.recipe.factor:g}, not {factor:g}")
    if splats.recipe.mode is None:
        trained = resize(capture.cameras.select(capture.train), factor)
        splats = replace(splats, recipe=guess_recipe(splats, trained))
        report.message(f"the splat doesn't say how it was trained; its sizes look like a {splats.recipe.mode} fit")
    closed = closed_methods(splats, capture, protocol)
    methods = closed + rival_methods(rivals)
    taken = {method.name for method in closed} | set(BASELINES)
    for name in rivals:
        if name in taken:
            raise GaussianVAEError(f"the row name {name} is taken; choose another than {', '.join(sorted(taken))}")
    case = make_case(splats, capture, protocol, tuple(rivals.values()), seed, cache)
    methods += [make_baseline(name, case, report) for name in baselines]
    truth = load_truth(capture, protocol, report)
    with report.bar("judge", len(methods) * len(protocol.views)) as bar:
        rows = tuple(measure(method, truth, protocol.views, bar) for method in methods)
    names = tuple(method.name for method in closed)
    return Evaluation(capture.folder.resolve().name, protocol, rows, tuple(methods), names, truth)
