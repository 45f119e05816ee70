"""Decoder: geometry and appearance apart, bounded and zero at first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gaussianvae.model.encoder import mlp
from gaussianvae.model.residuals import (
    APPEARANCE,
    BOUNDS_APPEARANCE,
    BOUNDS_GEOMETRY,
    GEOMETRY,
    SLOTS,
    Residuals,
)


class Head(nn.Module):
    """A small network that ends in bounded, zero-initialized numbers for each slot."""

    bounds: Tensor

    def __init__(self, width_in: int, width: int, numbers: int, bounds: tuple[float, ...]) -> None:
        super().__init__()
        self.trunk = mlp(width_in, width, last=True)
        self.out = nn.Linear(width, SLOTS * numbers)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("bounds", torch.tensor(bounds))

    def forward(self, hidden: Tensor) -> Tensor:
        raw = self.out(self.trunk(hidden)).unflatten(1, (SLOTS, -1))
        return raw.tanh() * self.bounds


class Decoder(nn.Module):
    """Hidden vector and latent -> residuals."""

    def __init__(self, hidden: int, latent: int, width: int) -> None:
        super().__init__()
        self.trunk = mlp(hidden + latent, width, last=True)
        self.geometry = Head(width, width, GEOMETRY, BOUNDS_GEOMETRY)
        self.appearance = Head(width, width // 2, APPEARANCE, BOUNDS_APPEARANCE)

    def forward(self, hidden: Tensor, latent: Tensor) -> Residuals:
        shared = self.trunk(torch.cat([hidden, latent], 1))
        return Residuals(self.geometry(shared), self.appearance(shared))
