"""Encoder: attention along the lineage, then pooled context from the nearest Gaussians."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gaussianvae.model.tokens import ANCESTOR, MAX_ANCESTORS, NEIGHBOR, OWN, Tokens

CLIP = 5.0
"""Standardized inputs are clipped here: a token far from all training data shouldn't reach far."""


def mlp(*widths: int, last: bool = False) -> nn.Sequential:
    """Linear layers with SiLU between them, and after the last one where asked."""
    layers: list[nn.Module] = []
    for index, (a, b) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(a, b))
        if last or index < len(widths) - 2:
            layers.append(nn.SiLU())
    return nn.Sequential(*layers)


class Standardize(nn.Module):
    """(x - mean) / deviation with constants of the training set, clipped."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.deviation).clamp(-CLIP, CLIP)


class LineageAttention(nn.Module):
    """One attention layer from the present state to itself and its ancestors (any number of them, also none)."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Parameter(torch.zeros(MAX_ANCESTORS, width))
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, own: Float[Tensor, "N W"], ancestors: Float[Tensor, "N L W"]) -> Float[Tensor, "N W"]:
        length = ancestors.shape[1]
        if length == 0:
            return own + self.value(own)
        # places count from the finest ancestor backwards, so that a truncated lineage keeps its meaning
        states = torch.cat([ancestors + self.place[:length].flip(0), own[:, None]], 1)
        n, _, width = states.shape
        query, key, value = (
            part(x).view(n, -1, self.heads, width // self.heads)
            for part, x in ((self.query, own), (self.key, states), (self.value, states))
        )
        # written out: for one query and so few keys the library's attention takes ten times as long
        agreement = (query * key).sum(3) / math.sqrt(width // self.heads)
        mixed = (agreement.softmax(1)[..., None] * value).sum(1)
        return own + mixed.reshape(n, width)


class Encoder(nn.Module):
    """Tokens -> one hidden vector a Gaussian."""

    def __init__(self, width: int, neighbors: bool = True) -> None:
        super().__init__()
        half = width // 2
        self.own_scale, self.neighbor_scale = Standardize(OWN), Standardize(NEIGHBOR)
        self.ancestor_scale = Standardize(ANCESTOR)
        self.own = mlp(OWN, width, width, last=True)
        self.ancestor = mlp(ANCESTOR, width, last=True)
        self.lineage = LineageAttention(width)
        self.neighbor = mlp(NEIGHBOR, half, half, last=True) if neighbors else None
        self.width = width + (2 * half if neighbors else 0)

    def forward(self, tokens: Tokens) -> Float[Tensor, "N H"]:
        hidden = self.own(self.own_scale(tokens.own))
        hidden = self.lineage(hidden, self.ancestor(self.ancestor_scale(tokens.ancestors)))
        if self.neighbor is None:
            return hidden
        around = self.neighbor(self.neighbor_scale(tokens.neighbors))
        return torch.cat([hidden, around.mean(1), around.amax(1)], 1)
