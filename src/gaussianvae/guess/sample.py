"""Fewer Gaussians that tell as much."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.scene.splats import Splats

VISIBLE = 0.2
"""Opacity above which a Gaussian's size and place count in statistics."""
SEEN_OPACITY = 0.05
"""Fainter Gaussians are left out of small pictures."""
LOOKED_AT = 200_000
"""Of more Gaussians every k-th is taken first."""


def every_kth(splats: Splats, most: int = 100_000) -> Splats:
    """Every k-th Gaussian: a statistic of millions needs no more."""
    step = -(-len(splats) // most)
    return splats if step <= 1 else splats.select(torch.arange(0, len(splats), step))


def thinned(splats: Splats, most: int) -> tuple[Splats, Float[Tensor, " M"]]:
    """At most about `most` Gaussians that cover what all cover, and how many each of them stands for.

    The larger a Gaussian, the surer it stays (probability p in proportion to its size, at most 1); those that stay are
    enlarged by p^-1/2, so that surfaces stay closed. Draws are systematic, hence the same every time.
    """
    splats = splats.select(splats.opacities > SEEN_OPACITY)
    step = -(-len(splats) // LOOKED_AT)
    if step > 1:
        few, stands_for = thinned(every_kth(splats, LOOKED_AT), most)
        return replace(few, scales=few.scales * math.sqrt(step)), stands_for * step
    if len(splats) <= most:
        return splats, torch.ones(len(splats))
    size = splats.scales.sort(dim=1).values[:, 1:].double().prod(1).sqrt().clamp_min(1e-30)
    low, high = 0.0, most / float(size.min())
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float((middle * size).clamp_max(1).sum()) < most else (low, middle)
    chance = (high * size).clamp_max(1)
    edges = torch.cat([chance.new_tensor([0.5]), 0.5 + chance.cumsum(0)]).floor()
    rows = torch.nonzero(edges[1:] > edges[:-1])[:, 0]
    chance = chance[rows].float()
    some = splats.select(rows)
    return replace(some, scales=some.scales / chance.sqrt()[:, None]), 1 / chance
