"""Training through the rasterizer at HR: resumable, deterministic, one scene and a few views a step.

Every random choice is a function of (seed, step), so a resumed training goes on as an undisturbed one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.files import replacing
from gaussianvae.growth.choice import choose
from gaussianvae.growth.sensitivity import score
from gaussianvae.model.objective import Unit, draw, image_loss, make_target, measure_unit, window_unit
from gaussianvae.model.residuals import insert
from gaussianvae.model.shards import Shard
from gaussianvae.model.tokens import Tokens, truncated
from gaussianvae.model.vae import LineageVAE, ModelConfig
from gaussianvae.model.weights import untrained
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.splats import Splats
from gaussianvae.tensorfiles import read_tensors, write_tensors

CHECKPOINT = "gaussianvae.training/1"
WARM_UP = 0.05
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained."""

    steps: int = 6000
    """Optimizer steps, each with one scene."""
    rate: float = 2e-3
    """Peak of the one-cycle learning rate."""
    width: int = 96
    """Width of the network."""
    latent: int = 8
    """Latent numbers a Gaussian; 0 trains a plain network."""
    beta: float = 2e-4
    """Weight of the KL divergence, a nat and Gaussian."""
    free_nats: float = 0.02
    """KL below this, a latent number, costs nothing."""
    neighbors: bool = True
    """Context from the nearest Gaussians."""
    curvature: bool = True
    """The Hessian's determinacy as an input (dropped in a quarter of the steps)."""
    constant: bool = False
    """One set of residuals for all Gaussians: what a network must beat."""
    max_ancestors: int = 2
    """Most ancestors shown; each step shows a random number of them."""
    views: int = 3
    """Views a step for each of both decodings: a render costs a tenth of the network."""
    crop: int = 256
    """Largest side of a training window in pixels."""
    clip: float = 1.0
    """Gradient norm is clipped here."""
    bfloat16: bool = False
    """The network's products in half precision: faster where the CPU has such instructions."""
    seed: int = 0
    """Seed of every random choice."""


@dataclass(frozen=True)
class Start:
    """A shard at one scale: what the residuals are added to, and what the network sees."""

    anchor: Splats
    tokens: Tokens


@dataclass(frozen=True)
class Scene:
    """A shard made ready for training."""

    shard: Shard
    unit: Unit
    starts: dict[float, Start]
    """By scale: that of the HR images, and where it is 3 or more also half of it."""
    size: Tensor
    """Projected areas, the score `size`."""


def prepare(shards: Sequence[Shard], config: TrainConfig, report: Reporter = SILENT) -> list[Scene]:
    """Tokens and units of all shards."""
    scenes = []
    with report.bar("prepare", len(shards)) as bar:
        for shard in shards:
            scales = [shard.scale, shard.scale / 2] if shard.scale >= 3 else [shard.scale]
            starts = {
                scale: Start(shard.anchor_at(scale), shard.tokens(scale, with_curvature=config.curvature))
                for scale in scales
            }
            size = score("size", shard.splats, shard.cameras, shard.phi, shard.scale)
            scenes.append(Scene(shard, measure_unit(shard), starts, size))
            bar.advance()
    return scenes


def standardize(model: LineageVAE, scenes: Sequence[Scene]) -> None:
    """Means and deviations of every input over the training scenes."""
    encoder = model.encoder
    tokens = [scene.starts[scene.shard.scale].tokens for scene in scenes]
    columns = [
        (encoder.own_scale, torch.cat([t.own for t in tokens])),
        (encoder.neighbor_scale, torch.cat([t.neighbors[::7].flatten(0, 1) for t in tokens])),
        (encoder.ancestor_scale, torch.cat([t.ancestors.flatten(0, 1) for t in tokens])),
        (model.summary_scale, torch.cat([scene.shard.summary for scene in scenes])),
    ]
    for module, values in columns:
        if len(values):
            module.mean.copy_(values.mean(0))
            module.deviation.copy_(values.std(0).clamp_min(1e-2))


def learning_rate(step: int, config: TrainConfig) -> float:
    """One cycle: a short linear rise, then half a cosine down to a hundredth."""
    rise = max(1, round(WARM_UP * config.steps))
    if step < rise:
        return config.rate * (step + 1) / rise
    share = (step - rise) / max(1, config.steps - rise)
    return config.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


def choose_view(scene: Scene, random: np.random.Generator) -> int:
    """Half of the views are ones that the LR fit never saw."""
    seen = scene.shard.seen.numpy()
    pool = np.flatnonzero(seen if (random.random() < 0.5 and seen.any()) or seen.all() else ~seen)
    return int(random.choice(pool))


def step_loss(
    model: LineageVAE, scenes: Sequence[Scene], config: TrainConfig, step: int
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one step: a view decoded from the posterior, one from the prior's mean, and the divergence."""
    random = np.random.default_rng([config.seed, step])
    noise = torch.Generator().manual_seed(int(random.integers(2**31)))
    scene = scenes[int(random.integers(len(scenes)))]
    shard = scene.shard
    # every draw is made whether it is needed or not, so that ablations with the same seed stay paired
    scales, rare, determined = list(scene.starts), random.random() < 0.3, random.random() < 0.75
    scale = scales[-1] if rare else scales[0]
    ancestors = int(random.integers(config.max_ancestors + 1))
    start = scene.starts[scale]
    tokens = truncated(start.tokens, ancestors, config.curvature and determined)
    count = round(float(random.choice([0.0, 0.25, 0.5, 0.5, 0.5, 1.0])) * len(tokens))
    # half of the steps split the largest, as a use will; the others teach every row both of its fates
    uniform = torch.rand(len(tokens), generator=noise)
    chosen = choose(scene.size if random.random() < 0.5 else uniform, count)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        hidden = model.encode(tokens)
        prior = model.prior(hidden)
        posterior = model.posterior(hidden, shard.summary) if config.latent else prior
        latents = (posterior.draw(noise), prior.mean) if config.latent else (prior.mean,)
        decoded = [model.decode(hidden, latent) for latent in latents]
    losses = []
    for residuals in decoded:
        fine, _ = insert(start.anchor, residuals.to_float32(), tokens.frames, tokens.order, chosen)
        total = torch.zeros(())
        for _ in range(config.views):
            target = make_target(shard, choose_view(scene, random), scale, config.crop, random)
            unit = window_unit(start.anchor, target, scene.unit)
            total = total + image_loss(draw(fine, target), target, unit) / config.views
        losses.append(total)
    divergence = (
        posterior.divergence(prior).mean(0).clamp_min(config.free_nats).sum() if config.latent else torch.zeros(())
    )
    total = (losses[0] + losses[-1]) / 2 + config.beta * divergence
    return total, {
        "posterior": float(losses[0].detach()),
        "prior": float(losses[-1].detach()),
        "kl": float(divergence.detach()),
    }


def train(
    shards: Sequence[Shard],
    config: TrainConfig | None = None,
    *,
    checkpoint: Path | None = None,
    log: Path | None = None,
    report: Reporter = SILENT,
) -> LineageVAE:
    """Train a model on shards.

    Args:
        shards: at least one scene.
        config: how.
        checkpoint: file to resume from when it is there, written every minute.
        log: a JSON-lines file of running means, appended every 50 steps.
        report: receives progress.
    """
    config = config or TrainConfig()
    if not shards:
        raise GaussianVAEError("no shards to train on")
    return train_on(prepare(shards, config, report), config, checkpoint=checkpoint, log=log, report=report)


def train_on(
    scenes: Sequence[Scene],
    config: TrainConfig,
    *,
    checkpoint: Path | None = None,
    log: Path | None = None,
    report: Reporter = SILENT,
) -> LineageVAE:
    """Train a model on prepared scenes (`train` says what the arguments are)."""
    shape = ModelConfig(config.width, config.latent, config.neighbors, config.curvature, config.constant)
    model = untrained(shape, config.seed)
    standardize(model, scenes)
    adam = torch.optim.Adam(model.parameters(), config.rate, fused=True)
    identity = json.dumps([asdict(config), [scene.shard.name for scene in scenes]], sort_keys=True)
    step = load_checkpoint(checkpoint, model, adam, identity) if checkpoint is not None and checkpoint.exists() else 0
    if log is not None and log.exists():
        # a kill can leave lines of steps that the checkpoint doesn't know
        lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
        with replacing(log) as beside:
            beside.write_text("".join(f"{line}\n" for line in lines))
    running: dict[str, float] = {}
    saved = time.monotonic()
    with report.bar("train", config.steps, step) as bar:
        while step < config.steps:
            for group in adam.param_groups:
                group["lr"] = learning_rate(step, config)
            loss, figures = step_loss(model, scenes, config, step)
            adam.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
            adam.step()
            step += 1
            running = {k: 0.98 * running.get(k, v) + 0.02 * v for k, v in figures.items()}
            bar.advance(1, **{k: f"{v:.3f}" for k, v in running.items()})
            if log is not None and step % 50 == 0:
                with log.open("a") as file:
                    file.write(json.dumps({"step": step, **running}) + "\n")
            if checkpoint is not None and (time.monotonic() - saved > CHECKPOINT_SECONDS or step == config.steps):
                save_checkpoint(checkpoint, model, adam, identity, step)
                saved = time.monotonic()
    return model.eval().requires_grad_(False)


def save_checkpoint(path: Path, model: LineageVAE, adam: torch.optim.Adam, identity: str, step: int) -> None:
    """Weights and moments as one safetensors file."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"adam.{name}.{key}": value for key, value in adam.state[parameter].items()}
    write_tensors(path, tensors, {"schema": CHECKPOINT, "training": identity, "step": str(step)})


def load_checkpoint(path: Path, model: LineageVAE, adam: torch.optim.Adam, identity: str) -> int:
    """Put model and optimizer where the checkpoint was; returns its step.

    Raises:
        GaussianVAEError: unreadable, or of a training with another config or other scenes.
    """
    tensors, metadata = read_tensors(path, "checkpoint", CHECKPOINT)
    if metadata.get("training") != identity:
        raise GaussianVAEError(f"{path}: belongs to a training with another config or other scenes; remove it")
    model.load_state_dict({n.removeprefix("model."): v for n, v in tensors.items() if n.startswith("model.")})
    for name, parameter in model.named_parameters():
        prefix = f"adam.{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if state:
            adam.state[parameter] = state
    return int(metadata["step"])
