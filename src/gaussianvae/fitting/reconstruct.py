"""Photos -> splat with lineage: coarse to fine, every row edit recorded, resumable."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from gaussianvae.captures import Views, digest
from gaussianvae.errors import GaussianVAEError
from gaussianvae.fitting.parameters import Parameters, Rates
from gaussianvae.fitting.run import Run, Stage, coarser, grow, measure_phi, record, take_step
from gaussianvae.fitting.start import scene_extent, starting_points
from gaussianvae.growth.lineage import Level, Lineage, Recorder
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.rasterize import Filter
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats, splats_from_state, state_tensors
from gaussianvae.tensorfiles import read_tensors, write_tensors

CHECKPOINT = "gaussianvae.fit/1"
STAGE_ENDS = (0.08, 0.22, 1.0)
"""Shares of the steps after which the stages at 1/4, 1/2 and the full resolution end."""
GROWTH_EVERY = 60
GROWTH_END = 0.75
"""Rows are split every so many steps, until this share of the run."""
RAMP_END = 0.7
"""The cap on rows rises linearly from a quarter to all of them until this share of the run."""
CHECKPOINT_SECONDS = 45.0


@dataclass(frozen=True)
class ReconstructConfig:
    """How photos become a splat."""

    steps: int = 3000
    """Optimizer steps, one photo each."""
    max_gaussians: int = 10_000
    """Most Gaussians at any time."""
    mode: Literal["mip", "classic"] = "mip"
    """Pixel filter: `mip` compensates opacity (Mip-Splatting), `classic` is 3DGS as published."""
    eps2d: float | None = None
    """Variance of the pixel filter in square pixels; by default 0.1 (mip) or 0.3 (classic)."""
    filter_3d: bool = False
    """Mip-Splatting's 3D filter; measured 1.3 to 2.5 dB worse here (benchmarks/fits.py)."""
    sh_degree: int = 1
    """Degree of the view-dependent color, 0-3."""
    coarse_to_fine: bool = True
    """Begin at a quarter and a half of the photos' resolution; the lineage then has three levels."""
    seed: int = 0
    """Seed of every random choice."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.max_gaussians < 1:
            raise GaussianVAEError("steps and max_gaussians must be at least 1")
        if not 0 <= self.sh_degree <= 3:
            raise GaussianVAEError(f"sh_degree is {self.sh_degree}; allowed are 0 to 3")
        if self.eps2d is not None and self.eps2d < 0:
            raise GaussianVAEError(f"eps2d is {self.eps2d}; it is a variance and can't be negative")

    @property
    def pixel(self) -> Filter:
        """The pixel filter with its default filled in."""
        default = 0.1 if self.mode == "mip" else 0.3
        return Filter(self.mode, default if self.eps2d is None else self.eps2d)


@dataclass(frozen=True)
class Reconstruction:
    """A finished fit."""

    splats: Splats
    lineage: Lineage
    losses: tuple[float, ...]
    """Training loss of every step."""


def stages_of(views: Views, config: ReconstructConfig) -> list[Stage]:
    """The resolutions that a fit runs through, from coarse to fine."""
    if not config.coarse_to_fine:
        return [Stage(views, 1.0, config.steps)]
    ends = [round(share * config.steps) for share in STAGE_ENDS]
    return [Stage(coarser(views, f), f, end) for f, end in zip((4.0, 2.0, 1.0), ends, strict=True)]


def rows_allowed(step: int, config: ReconstructConfig) -> int:
    """The cap on rows at a step."""
    return int(config.max_gaussians * (0.25 + 0.75 * min(1.0, step / (RAMP_END * config.steps))))


def recipe_of(views: Views, config: ReconstructConfig, factor: float | None) -> Recipe:
    """What the splat will remember of its training."""
    red, green, blue = views.background.tolist()
    return Recipe(
        mode=config.mode,
        eps2d=config.pixel.eps2d,
        filter_3d=config.filter_3d,
        focal_px=float(views.cameras.focals.median()),
        width=views.cameras.sizes[0][0],
        factor=factor,
        steps=config.steps,
        background=(red, green, blue),
    )


def start_run(views: Views, config: ReconstructConfig) -> Run:
    """A fresh run: a quarter of the rows, placed by the photos' silhouettes."""
    generator = torch.Generator().manual_seed(config.seed)
    count = max(1, config.max_gaussians // 4)
    raw = starting_points(views, count, config.sh_degree, generator)
    run = Run(
        Parameters(raw, Rates(), scene_extent(views.cameras)), Recorder(count), torch.ones(count), torch.zeros(count)
    )
    measure_phi(run, views)
    return run


def reconstruct(
    views: Views,
    config: ReconstructConfig | None = None,
    *,
    factor: float | None = None,
    checkpoint: Path | None = None,
    report: Reporter = SILENT,
) -> Reconstruction:
    """Fit a splat to photos.

    Args:
        views: at least two training photos with their cameras.
        config: how; defaults are documented at its fields.
        factor: reduction of the capture's photos that `views` holds, remembered in the recipe.
        checkpoint: file to resume from when it is there, written every 45 s and removed at the end.
        report: receives progress.

    Returns:
        the splat (3D filter applied), its lineage and the losses.

    Raises:
        GaussianVAEError: fewer than two photos, or a checkpoint of another run.
    """
    config = config or ReconstructConfig()
    if len(views.cameras) < 2:
        raise GaussianVAEError(f"a fit needs at least 2 training photos, got {len(views.cameras)}")
    recipe = recipe_of(views, config, factor)
    stages = stages_of(views, config)
    run = start_run(views, config)
    identity = json.dumps([asdict(config), digest(views)], sort_keys=True)
    if checkpoint is not None and checkpoint.exists():
        load_checkpoint(run, checkpoint, identity, recipe)
    optimize(run, stages, config, recipe, checkpoint=checkpoint, identity=identity, report=report)
    finish(run, views)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    last = run.recorder.lineage.levels[-1].inherited()
    return Reconstruction(last, run.recorder.lineage, tuple(run.losses))


def finish(run: Run, views: Views) -> None:
    """Drop the rows that ended faint."""
    grow(run, views, target=0)


def optimize(
    run: Run,
    stages: Sequence[Stage],
    config: ReconstructConfig,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    identity: str = "",
    report: Reporter = SILENT,
) -> None:
    """Take the run through its stages; a level is recorded at the end of each."""
    saved = time.monotonic()
    with report.bar("fit", stages[-1].until, run.step) as bar:
        for index, stage in enumerate(stages):
            while run.step < stage.until:
                grows = run.step and run.step % GROWTH_EVERY == 0 and run.step < GROWTH_END * config.steps
                if grows:
                    grow(run, stages[-1].views, rows_allowed(run.step, config))
                loss = take_step(run, stage, config.pixel, config.filter_3d, config.seed, run.step / config.steps)
                run.losses.append(loss)
                bar.advance(loss=f"{loss:.4f}", gaussians=str(len(run.parameters)))
                if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                    save_checkpoint(run, checkpoint, identity)
                    saved = time.monotonic()
            if len(run.recorder.lineage.levels) <= index:
                measure_phi(run, stages[-1].views)
                record(run, stage.factor, recipe, config.filter_3d)


def save_checkpoint(run: Run, path: Path, identity: str) -> None:
    """Everything that the rest of the run depends on; `identity` names its config and photos."""
    tensors = {f"parameters.{name}": value for name, value in run.parameters.tensors().items()}
    tensors |= {"phi": run.phi, "score": run.score, "losses": torch.tensor(run.losses, dtype=torch.float64)}
    levels = run.recorder.lineage.levels
    for index, level in enumerate(levels):
        tensors[f"level{index}.ancestors"] = level.ancestors
        tensors |= state_tensors(level.state, f"level{index}")
    metadata = {
        "schema": CHECKPOINT,
        "run": identity,
        "step": str(run.step),
        "factors": json.dumps([level.factor for level in levels]),
    }
    write_tensors(path, tensors, metadata)


def load_checkpoint(run: Run, path: Path, identity: str, recipe: Recipe) -> None:
    """Put a run where its checkpoint was.

    Raises:
        GaussianVAEError: the file is unreadable or belongs to a run with other photos or another config.
    """
    tensors, metadata = read_tensors(path, "checkpoint", CHECKPOINT)
    if metadata.get("run") != identity:
        raise GaussianVAEError(f"{path}: belongs to another run; remove it or use the run's own config")
    prefix = "parameters."
    run.parameters.load(
        {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    )
    run.phi, run.score, run.step = tensors["phi"], tensors["score"], int(metadata["step"])
    run.losses = tensors["losses"].tolist()
    levels = []
    for index, factor in enumerate(json.loads(metadata["factors"])):
        state = splats_from_state(tensors, f"level{index}", recipe)
        levels.append(Level(factor, state, tensors[f"level{index}.ancestors"]))
    run.recorder = Recorder(len(run.parameters), Lineage(tuple(levels)))
