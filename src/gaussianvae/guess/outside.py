"""Views of a splat from outside, as of an object."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.guess.sample import VISIBLE
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.orbits import look_at, orbit, robust_extent
from gaussianvae.scene.splats import Splats

FRAMING = 1.4
"""How much tighter photos frame their object than `orbit` does (1.24 to 1.71 in four captures)."""
ELEVATIONS = (-75.0, -45.0, -15.0, 15.0, 45.0, 75.0)
"""Of the circles. Nobody knows which way is up in a file, and what no view sees, no view mends."""
AROUND = 72
"""Views of the circles."""


Z_UP = (0.0, 0.0, 1.0)


def circles(splats: Splats, width: int, up: tuple[float, float, float] = Z_UP) -> Cameras:
    """Six circles around a splat, on all its sides; square images.

    Args:
        splats: N >= 1 Gaussians.
        width: of the images in pixels, at least 1.
        up: the world's upward direction.

    Raises:
        GaussianVAEError: an empty splat, a width below 1, or an upward direction without length.
    """
    solid = visible(splats)
    cameras = joined([orbit(solid, AROUND // len(ELEVATIONS), width, elevation, up) for elevation in ELEVATIONS])
    cameras.Ks[:, :2, :2] *= FRAMING
    return cameras


def visible(splats: Splats) -> Splats:
    """Without the faint Gaussians, such as a haze around an object; all where all are faint."""
    solid = splats.opacities > VISIBLE
    return splats.select(solid) if bool(solid.any()) else splats


def sphere(splats: Splats, count: int, width: int) -> Cameras:
    """Views from all sides (a Fibonacci lattice), as far away and as wide as those of the circles."""
    center, _ = robust_extent(visible(splats).means)
    model = circles(splats, width).select([0])
    index = torch.arange(count) + 0.5
    height, angle = 1 - 2 * index / count, index * math.pi * (3 - math.sqrt(5))
    radius = (1 - height.square()).sqrt()
    directions = torch.stack([radius * angle.cos(), radius * angle.sin(), height], 1)
    distance = (model.positions[0] - center).norm()
    return pinholes(center + distance * directions, center.expand(count, 3), float(model.focals[0]), width)


def pinholes(
    positions: Float[Tensor, "V 3"],
    targets: Float[Tensor, "V 3"],
    focal: float,
    width: int,
    up: Sequence[float] = Z_UP,
) -> Cameras:
    """Square views from positions towards targets, upright where they don't look along `up`."""
    upright = torch.tensor(up) / torch.tensor(up).norm()
    other = torch.eye(3)[int(upright.abs().argmin())]
    viewmats = []
    for position, target in zip(positions, targets, strict=True):
        forward = torch.nn.functional.normalize(target - position, dim=0)
        steep = float(forward @ upright) ** 2 > 0.999
        viewmats.append(look_at(position[None], position + forward, other if steep else upright))
    K = torch.tensor([[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * width], [0.0, 0.0, 1.0]])
    return Cameras(torch.cat(viewmats), K.repeat(len(viewmats), 1, 1), ((width, width),) * len(viewmats))


def joined(parts: Sequence[Cameras]) -> Cameras:
    """All views of several sets."""
    return Cameras(
        viewmats=torch.cat([part.viewmats for part in parts]),
        Ks=torch.cat([part.Ks for part in parts]),
        sizes=tuple(size for part in parts for size in part.sizes),
    )
