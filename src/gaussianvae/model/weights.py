"""Weights as one safetensors file: the network, its shape, and the step size calibrated for each recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import torch

from gaussianvae.antialias import training_filter
from gaussianvae.errors import GaussianVAEError
from gaussianvae.model.shards import Shard, read_shard, shard_paths
from gaussianvae.model.vae import LineageVAE, ModelConfig
from gaussianvae.scene.recipe import Recipe
from gaussianvae.tensorfiles import read_tensors, write_tensors

SCHEMA = "gaussianvae.weights/1"


@dataclass(frozen=True)
class Weights:
    """A trained model and how far to follow it."""

    model: LineageVAE
    steps: Mapping[str, float]
    """Factor on all residuals by kind of recipe (`recipe_kind`); 1 where a kind is missing."""
    notes: Mapping[str, object]
    """How it was trained."""

    def step_for(self, recipe: Recipe) -> float:
        """The calibrated factor for a splat's recipe."""
        return self.steps.get(recipe_kind(recipe), 1.0)


def recipe_kind(recipe: Recipe) -> str:
    """`classic`, `mip` (pixel-sized filter) or `mip_wide`: what the calibration tells apart."""
    own = training_filter(recipe)
    if own.mode == "classic":
        return "classic"
    return "mip" if own.eps2d <= 0.15 else "mip_wide"


def write_weights(path: Path, weights: Weights) -> None:
    """Write weights atomically (schema `gaussianvae.weights/1`)."""
    metadata = {
        "schema": SCHEMA,
        "config": json.dumps(asdict(weights.model.config)),
        "steps": json.dumps(dict(weights.steps)),
        "notes": json.dumps(dict(weights.notes)),
    }
    write_tensors(path, weights.model.state_dict(), metadata)


def read_weights(path: Path) -> Weights:
    """Read weights.

    Raises:
        GaussianVAEError: no readable weights of this version.
    """
    tensors, metadata = read_tensors(path, "weights", SCHEMA)
    try:
        model = LineageVAE(ModelConfig(**json.loads(metadata["config"])))
        model.load_state_dict(tensors)
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise GaussianVAEError(f"{path}: weights of another version ({error})") from error
    model.eval().requires_grad_(False)
    return Weights(model, json.loads(metadata["steps"]), json.loads(metadata["notes"]))


def shipped_weights() -> Weights:
    """The weights that come with the package.

    Raises:
        GaussianVAEError: this build has none.
    """
    file = resources.files("gaussianvae.model") / "data" / "weights.safetensors"
    with resources.as_file(file) as path:
        if not path.exists():
            raise GaussianVAEError(
                "this build ships no weights; make some with `gaussianvae train`, or use --method split"
            )
        return read_weights(path)


def held_out(weights: Weights, folder: Path) -> list[Shard]:
    """The shards of a folder that a training didn't see.

    Raises:
        GaussianVAEError: the weights don't say what they were trained on, or saw everything.
    """
    seen = weights.notes.get("scenes")
    if not isinstance(seen, list):
        raise GaussianVAEError("these weights don't say which scenes they were trained on")
    rest = [path for path in shard_paths(folder) if path.stem not in set(seen)]
    if not rest:
        raise GaussianVAEError(f"{folder}: holds no shard that these weights haven't seen")
    return [read_shard(path) for path in rest]


def untrained(config: ModelConfig, seed: int) -> LineageVAE:
    """A network before training: its residuals are exactly zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LineageVAE(config)
