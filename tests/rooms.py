"""Rooms and streets made of Gaussians, as a fit of photos taken within them would make them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.rotations import rotmats_to_quats
from gaussianvae.scene.splats import Splats, concatenate

Rectangle = tuple[Tensor, Tensor, Tensor]
"""A corner and two edges."""
ROOM = torch.tensor([6.0, 5.0, 3.0])
FURNITURE = torch.tensor(
    [
        [[1.0, 1.0, 0.0], [2.5, 2.0, 0.8]],
        [[4.0, 0.2, 0.0], [5.8, 1.0, 1.8]],
        [[2.5, 3.6, 0.0], [4.5, 4.8, 0.5]],
        [[0.2, 3.5, 0.0], [0.8, 4.8, 2.0]],
    ]
)
STREET = torch.tensor([60.0, 12.0, 10.0])


def faces(low: Tensor, high: Tensor) -> list[Rectangle]:
    """The six sides of a box."""
    edges = torch.diag(high - low)
    sides = [(low, edges[i], edges[j], edges[3 - i - j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    return [(corner, u, v) for start, u, v, across in sides for corner in (start, start + across)]


def covered(rectangles: list[Rectangle], eyes: Float[Tensor, "V 3"], count: int, seed: int = 0) -> Splats:
    """Flat Gaussians on rectangles: as large and as far apart as the nearest eye is far away."""
    g = torch.Generator().manual_seed(seed)
    corner, u, v = (torch.stack(part) for part in zip(*rectangles, strict=True))
    areas = torch.linalg.cross(u, v).norm(dim=1)
    which = torch.multinomial(areas, 8 * count, replacement=True, generator=g)
    at = torch.rand(8 * count, 2, generator=g)
    points = corner[which] + at[:, :1] * u[which] + at[:, 1:] * v[which]
    away = torch.cdist(points, eyes).min(1).values
    kept = torch.multinomial(away.pow(-2), count, generator=g)
    points, away, which = points[kept], away[kept], which[kept]
    first = torch.nn.functional.normalize(u[which], dim=1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(u[which], v[which]), dim=1)
    turn = torch.stack([first, torch.linalg.cross(normal, first), normal], 2)
    density = count / float(areas.sum() * away.square().mean().reciprocal())
    sizes = away[:, None] * (0.6 / math.sqrt(density)) * torch.exp(0.4 * torch.randn(count, 3, generator=g))
    sizes[:, 2] = 0.1 * sizes[:, :2].amin(1)
    return Splats(
        points,
        rotmats_to_quats(turn),
        sizes,
        0.5 + 0.5 * torch.rand(count, generator=g),
        torch.randn(count, 1, 3, generator=g),
        torch.zeros(count, 0, 3),
        Recipe(),
    )


def room(count: int = 8000) -> Splats:
    """A furnished room from 0 to `ROOM`, z up, seen from its middle."""
    walls = faces(torch.zeros(3), ROOM)
    eyes = torch.tensor([[3.0, 2.8, 1.5], [1.5, 2.8, 1.6], [4.8, 2.5, 1.4], [3.3, 3.0, 1.7]])
    return covered(walls + [face for low, high in FURNITURE for face in faces(low, high)], eyes, count)


def street(count: int = 8000) -> Splats:
    """Two rows of facades along x, parked cars and a sky, seen by somebody who walks through: y from 0 to 12, z up."""
    length, width, height = STREET.tolist()
    along, up = torch.tensor([length, 0.0, 0.0]), torch.tensor([0.0, 0.0, height])
    rows = [(torch.tensor([0.0, y, 0.0]), along, up) for y in (0.0, width)]
    ground = (torch.zeros(3), along, torch.tensor([0.0, width, 0.0]))
    cars = [faces(torch.tensor([x, 0.5, 0]), torch.tensor([x + 4, 2.3, 1.5])) for x in (8.0, 18.0, 28.0, 38.0, 48.0)]
    sky = faces(torch.tensor([-90.0, -100.0, -1.0]), torch.tensor([150.0, 110.0, 80.0]))
    eyes = torch.stack([torch.linspace(10, 50, 9), torch.full((9,), 6.0), torch.full((9,), 1.7)], 1)
    here = covered([*rows, ground, *(face for car in cars for face in car)], eyes, count)
    return concatenate([here, covered(sky, eyes, count // 20, seed=1)])  # smooth, hence few and large
