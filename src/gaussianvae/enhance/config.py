"""How a splat is made finer: the options, and what they mean at a scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gaussianvae.errors import GaussianVAEError
from gaussianvae.growth.sensitivity import DEFAULT_SCORE
from gaussianvae.scene.region import Box

MAX_SCALE = 8.0
FULL_FROM = 1.5
"""The smallest scale trained on; below it the residuals fade out towards scale 1."""
POLISH = 100
"""Steps of polish after the model: what more gain costs, benchmarks/polish.py shows."""
BLOCK = 300_000
"""Larger splats are refined block by block, of at most that many Gaussians each."""


def closeness(scale: float) -> float:
    """How much of every change a scale gets: none at 1, all from `FULL_FROM` on."""
    return min(1.0, (scale - 1) / (FULL_FROM - 1))


@dataclass(frozen=True)
class EnhanceConfig:
    """How a splat is made finer."""

    budget: float = 1.5
    """Gaussians out per Gaussian in, 1 to 2, kept exactly (rounded down)."""
    method: Literal["vae", "anchor", "split"] = "vae"
    """`vae`: the trained model; `anchor` and `split`: the closed forms."""
    score: str = DEFAULT_SCORE
    """Which Gaussians become two: random, size, self_gradient, speedy or block."""
    tau: float = math.inf
    """Infinite splits the best scores; else parents are drawn with p proportional to score^tau."""
    determinacy: bool = True
    """Measure how far the views determine each Gaussian (12 renders) and show it to the model."""
    polish: int | None = None
    """Steps that make the result agree with the given splat at its own resolution, without any photo; by default 100
    after the model and 0 after a closed form. 0 leaves the one pass of the model as it is. Each block of a large splat
    takes as many."""
    samples: int = 0
    """0 takes the mean of the model's distribution, else draws from it; the command writes one file a draw."""
    seed: int = 0
    """Seed of the draw and of random choices."""
    roi: Box | None = None
    """Only Gaussians whose centers lie in this box (x0, y0, z0, x1, y1, z1) are refined; the budget counts them. Scores
    and context are measured within the box, so its border differs a little from a run over the whole splat."""

    def __post_init__(self) -> None:
        if self.polish is not None and self.polish < 0:
            raise GaussianVAEError(f"{self.polish} steps of polish can't be taken; give 0 for none")

    def polish_steps(self, scale: float) -> int:
        """How many steps of polish a scale gets: fewer below the smallest that the model was trained on."""
        steps = self.polish if self.polish is not None else POLISH if self.method == "vae" else 0
        return round(steps * closeness(scale))
