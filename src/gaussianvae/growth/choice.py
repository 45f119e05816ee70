"""Which Gaussians become two: the best scores under a budget, or a seeded draw in proportion to them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussianvae.errors import GaussianVAEError


def children_allowed(num_gaussians: int, budget: float) -> int:
    """How many of N Gaussians may become two so that floor(budget N) Gaussians come out.

    Raises:
        GaussianVAEError: the budget is not between 1 and 2.
    """
    if not 1 <= budget <= 2:
        raise GaussianVAEError(f"the budget is {budget:g}; allowed are 1 to 2 (a Gaussian becomes at most two)")
    # 1.15 * 100 is 114.99999999999999 in floating point, and 115 to everybody
    return math.floor(budget * num_gaussians + 1e-9) - num_gaussians


def choose(scores: Float[Tensor, " N"], count: int, tau: float = math.inf, seed: int = 0) -> Bool[Tensor, " N"]:
    """Mask of `count` chosen rows.

    Args:
        scores: non-negative, one a Gaussian.
        count: rows to choose, at most N.
        tau: infinite for the `count` largest; else drawn without replacement with p proportional to scores^tau
            (Gumbel top-k, 1903.06059).
        seed: of that draw.
    """
    keys = scores.double()
    if not math.isinf(tau):
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(len(keys), generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        keys = tau * keys.clamp_min(1e-30).log() - (-uniform.to(keys.device).log()).log()
    mask = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
    # a stable sort, so that ties don't depend on the library's mood
    mask[torch.sort(keys.nan_to_num(-math.inf), descending=True, stable=True).indices[:count]] = True
    return mask
