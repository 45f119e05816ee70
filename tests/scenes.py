"""Small random scenes that several tests share."""

from __future__ import annotations

import math

import torch

from gaussianvae.model.vae import LineageVAE, ModelConfig
from gaussianvae.model.weights import Weights
from gaussianvae.progress import Silent
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import random_quats
from gaussianvae.scene.splats import Splats


class Told(Silent):
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def random_splats(count: int, degree: int = 1, seed: int = 0, recipe: Recipe | None = None) -> Splats:
    """Gaussians in the unit ball, of a few LR pixels each."""
    g = torch.Generator().manual_seed(seed)
    return Splats(
        means=torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
        * torch.rand(count, 1, generator=g) ** (1 / 3),
        quats=random_quats(count, g),
        scales=torch.exp(torch.randn(count, 3, generator=g) * 0.5 - 3),
        opacities=torch.rand(count, generator=g) * 0.9 + 0.05,
        sh0=torch.randn(count, 1, 3, generator=g),
        shN=torch.randn(count, (degree + 1) ** 2 - 1, 3, generator=g) * 0.1,
        recipe=recipe or Recipe(mode="mip", eps2d=0.1, filter_3d=False),
    )


def ring_cameras(count: int, size: int = 48, distance: float = 3.0, fov: float = 50.0) -> Cameras:
    """Cameras on a tilted ring that look at the origin."""
    focal = size / 2 / math.tan(math.radians(fov / 2))
    viewmats = []
    for index in range(count):
        angle = 2 * math.pi * index / count
        eye = distance * torch.tensor([math.cos(angle) * 0.9, math.sin(angle) * 0.9, 0.436])
        forward = torch.nn.functional.normalize(-eye, dim=0)
        right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0])), dim=0)
        rotation = torch.stack([right, torch.linalg.cross(forward, right), forward])
        viewmat = torch.eye(4)
        viewmat[:3, :3], viewmat[:3, 3] = rotation, -rotation @ eye
        viewmats.append(viewmat)
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Cameras(torch.stack(viewmats), K.expand(count, 3, 3).clone(), ((size, size),) * count)


def some_weights(spread: float = 0.2) -> Weights:
    """An untrained model, whose predictions spread."""
    torch.manual_seed(2)
    model = LineageVAE(ModelConfig(width=16, latent=4))
    for head in (model.decoder.geometry, model.decoder.appearance):
        torch.nn.init.normal_(head.out.weight, std=spread)
    return Weights(model.eval().requires_grad_(False), {}, {})
