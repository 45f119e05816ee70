"""Training data from nothing: scene -> capture -> LR fit, continued to HR as one recorded run -> one shard.

Worker processes make one scene at a time; a shard appears whole or not at all, so that a factory can be killed at any
moment and goes on where it was. The manifest lists what was made and what was dropped, in the order of the seeds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.captures import Views
from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.fitting.parameters import filter_variance, to_splats
from gaussianvae.fitting.reconstruct import (
    ReconstructConfig,
    finish,
    optimize,
    recipe_of,
    stages_of,
    start_run,
)
from gaussianvae.fitting.run import Run, Stage, grow, take_step
from gaussianvae.growth.lineage import Lineage, Recorder
from gaussianvae.model.shards import write_shard
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.rasterize import render
from gaussianvae.scene.cameras import resize
from gaussianvae.scene.imaging import composite, psnr, reduce_image, round_to_8_bits
from gaussianvae.scene.splats import Splats

CONVERGED_STEPS = 3000
MIN_PSNR = 20.0
"""A fit below this, at LR over its own photos, has failed and is dropped."""
MESH_SEEDS = 100_000
"""Where the seeds of meshes begin, relative to the first procedural scene's."""
MIN_HR, MAX_HR = 128, 512
"""Smallest and largest HR image side."""


@dataclass(frozen=True)
class FactoryConfig:
    """Which scenes the factory makes."""

    count: int = 200
    """Procedural scenes, one a seed."""
    seed: int = 300_000
    """The first scene's seed; meshes are numbered from 100,000 above it."""
    mesh_drafts: int = 1
    """Scenes made of each mesh, each with a seed of its own; the drafts of one round follow 100,000 after the last."""
    workers: int = 2
    """Worker processes, one thread each."""
    views: int = 40
    """Views that the LR fit sees."""
    unseen: int = 10
    """Further HR views, seen by nobody but the training loss."""


@dataclass(frozen=True)
class Draft:
    """What is to be made of one seed; a function of the seed alone."""

    seed: int
    mesh: str | None
    lr: int
    scale: float
    fit: ReconstructConfig
    finer_steps: int


def draft(seed: int, mesh: str | None = None) -> Draft:
    """The recipe of one scene: LR 32-160 px, factors 2-8, mip and classic, at least half converged."""
    random = np.random.default_rng([seed, 7])
    lr = int(random.choice([32, 48, 64, 64, 64, 64, 80, 96, 96, 128, 160]))
    # the fewest pixels go with the largest factors: that is what such a splat is enlarged by
    scales = [s for s in (2.0, 3.0, 4.0, 4.0, 4.0, 6.0, 8.0) if MIN_HR <= s * lr <= MAX_HR]
    scale = float(random.choice(scales))
    mode = str(random.choice(["mip", "mip", "mip", "classic", "classic"]))
    converged = random.random() < 0.6
    steps = CONVERGED_STEPS if converged else int(600 * 4 ** random.random())
    eps = 0.3 if mode == "classic" else float(random.choice([0.1, 0.1, 0.1, 1 / 12, 0.3]))
    low, high = (3000, 8000) if lr <= 80 else (5000, 14000)
    fit = ReconstructConfig(
        steps=steps,
        max_gaussians=int(low * (high / low) ** random.random()),
        mode="mip" if mode == "mip" else "classic",
        eps2d=eps,
        filter_3d=bool(mode == "mip" and random.random() < 0.2),
        sh_degree=int(random.choice([0, 1, 1, 2, 3])),
        seed=seed,
    )
    return Draft(seed, mesh, lr, scale, fit, finer_steps=500)


def make_views(plan: Draft, config: FactoryConfig) -> tuple[Views, Views]:
    """Photos at LR (the seen views) and at HR (all views, the seen ones first)."""
    from gaussianvae.synthesize import SynthesisConfig, build_mesh_scene, build_scene, place_cameras, trace

    hr = round(plan.lr * plan.scale)
    synthesis = SynthesisConfig(views=config.views + config.unseen, size=hr, seed=plan.seed)
    scene = build_scene(synthesis) if plan.mesh is None else build_mesh_scene(Path(plan.mesh), synthesis)
    cameras = place_cameras(scene, synthesis)
    order = np.random.default_rng([plan.seed, 11]).permutation(len(cameras)).tolist()
    cameras = cameras.select(order)
    rgba = torch.as_tensor(trace(scene, cameras, depth=False)[0]).float() / 255
    background = torch.tensor(scene.background, dtype=torch.float32)
    fine = Views(cameras, round_to_8_bits(composite(rgba, background)), rgba[..., 3], background)
    small = resize(cameras.select(range(config.views)), hr / plan.lr)
    seen = rgba[: config.views]
    images = round_to_8_bits(reduce_image(composite(seen, background), small.sizes[0]))
    alphas = reduce_image(seen[..., 3:], small.sizes[0])[..., 0]
    return Views(small, images, alphas, background), fine


def continue_to_hr(
    run: Run, low: Views, fine: Views, plan: Draft, config: FactoryConfig
) -> tuple[Splats, torch.Tensor]:
    """Go on with the same rows at HR; returns the finer splat and the LR row that each of its rows descends from."""
    run.recorder = Recorder(len(run.parameters))
    recipe = recipe_of(low, plan.fit, None)
    run.recorder.record(1.0, to_splats(run.parameters.raw, recipe))
    seen = Views(fine.cameras.select(range(config.views)), fine.images[: config.views], None, fine.background)
    begin, end = run.step, run.step + plan.finer_steps
    stage = Stage(seen, 1 / plan.scale, end)
    most = int(1.7 * len(run.parameters))
    while run.step < end:
        done = (run.step - begin) / plan.finer_steps
        if run.step in (begin + plan.finer_steps // 5, begin + 2 * plan.finer_steps // 5):
            grow(run, low, int(most if done > 0.3 else 1.3 * most / 1.7))
        take_step(run, stage, PIXEL_FILTER, True, plan.seed, 0.5 + 0.5 * done)
    finish(run, low)
    finer = to_splats(run.parameters.raw, recipe, filter_variance(run.phi, 1 / plan.scale))
    return finer, run.recorder.lineage.levels[0].ancestors


def make_shard(folder: Path, plan: Draft, config: FactoryConfig) -> dict[str, object]:
    """Make one shard, unless it is there; returns its line of the manifest."""
    torch.set_num_threads(1)
    name = shard_name(plan)
    line_file = folder / f"{name}.json"
    if line_file.exists():
        known: dict[str, object] = json.loads(line_file.read_text())
        whole = "dropped" in known or (folder / f"{name}.safetensors").exists()
        if whole and known["plan"] == json.loads(json.dumps(asdict(plan))):
            return known
    low, fine = make_views(plan, config)
    recipe = recipe_of(low, plan.fit, None)
    run = start_run(low, plan.fit)
    optimize(run, stages_of(low, plan.fit), plan.fit, recipe)
    finish(run, low)
    lineage = run.recorder.lineage
    splats = lineage.levels[-1].inherited()
    fit_psnr = float(np.mean([
        psnr(render(splats, low.cameras, view, filter=plan.fit.pixel, background=low.background).rgb, low.images[view])
        for view in range(0, config.views, 4)
    ]))  # fmt: skip
    line: dict[str, object] = {"name": name, "psnr": round(fit_psnr, 4), "gaussians": len(splats), "plan": asdict(plan)}
    if not fit_psnr >= MIN_PSNR or len(splats) < 200:
        line["dropped"] = f"fit reached {fit_psnr:.1f} dB with {len(splats)} Gaussians"
    else:
        finer, parents = continue_to_hr(run, low, fine, plan, config)
        write_shard(
            folder / f"{name}.safetensors",
            name=name,
            splats=splats,
            lineage=Lineage(lineage.levels[:-1]),
            finer=finer,
            parents=parents,
            cameras=low.cameras,
            fine_cameras=fine.cameras,
            images=(torch.stack(list(fine.images)) * 255).round().to(torch.uint8),
            seen=[view < config.views for view in range(len(fine.cameras))],
            scale=fine.cameras.sizes[0][0] / low.cameras.sizes[0][0],
            background=low.background,
            notes=line,
        )
    with replacing(line_file) as beside:
        beside.write_text(json.dumps(line))
    return line


def shard_name(plan: Draft) -> str:
    """File name of a shard: what it shows, and the seed."""
    return f"{'scene' if plan.mesh is None else Path(plan.mesh).stem}_{plan.seed:06d}"


def run_factory(
    folder: Path, config: FactoryConfig | None = None, meshes: Sequence[Path] = (), report: Reporter = SILENT
) -> list[dict[str, object]]:
    """Make all shards that are missing and write `manifest.json`.

    Args:
        folder: where shards go; those already there are kept.
        config: which scenes.
        meshes: mesh files, one further scene each.
        report: receives progress.

    Returns:
        the manifest's lines: name, LR PSNR, Gaussians, plan, and why a scene was dropped.
    """
    config = config or FactoryConfig()
    if config.workers < 1 or config.count < 0 or config.mesh_drafts < 0:
        raise GaussianVAEError(f"{config.count} scenes by {config.workers} workers can't be made")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GaussianVAEError(f"{folder}: can't be made ({error.strerror})") from error
    plans = [draft(config.seed + index) for index in range(config.count)]
    plans += [
        draft(config.seed + turn * MESH_SEEDS + index, str(mesh))
        for turn in range(1, config.mesh_drafts + 1)
        for index, mesh in enumerate(sorted(meshes))
    ]
    lines: dict[str, dict[str, object]] = {}
    # spawned, not forked: the parent's threads must not be copied into the workers
    import multiprocessing

    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    os.environ.update({key: os.environ.get(key, value) for key, value in environment.items()})
    with (
        report.bar("factory", len(plans)) as bar,
        ProcessPoolExecutor(config.workers, multiprocessing.get_context("spawn")) as pool,
    ):
        waiting: dict[Future[dict[str, object]], Draft] = {
            pool.submit(make_shard, folder, plan, config): plan for plan in plans
        }
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                line = future.result()
                lines[shard_name(waiting.pop(future))] = line
                dropped = sum("dropped" in known for known in lines.values())
                bar.advance(dropped=str(dropped))
    manifest = [lines[shard_name(plan)] for plan in plans]
    with replacing(folder / "manifest.json") as beside:
        beside.write_text(json.dumps(manifest, indent=1))
    return manifest
