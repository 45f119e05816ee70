"""The training loss: HR renders of the inserted Gaussians against HR truth, in units of the anchor's own error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.model.shards import Shard
from gaussianvae.rasterize import rasterize, render
from gaussianvae.scene.cameras import Cameras, resize, spread_views
from gaussianvae.scene.imaging import reduce_image
from gaussianvae.scene.splats import Splats


@dataclass(frozen=True)
class Target:
    """What one render is compared with: a window of an HR image at a chosen scale."""

    image: Float[Tensor, "h w 3"]
    viewmat: Float[Tensor, "4 4"]
    K: Float[Tensor, "3 3"]
    background: Float[Tensor, "3"]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True)
class Unit:
    """Mean errors of the anchor, over a scene or a window: the unit in which a loss is measured."""

    absolute: float
    square: float


FLOOR = 0.3
"""A window's unit is at least this share of its scene's: an empty corner mustn't outweigh the object."""


def draw(splats: Splats, target: Target) -> Float[Tensor, "h w 3"]:
    """Render Gaussians into a target's window, differentiably."""
    return rasterize(
        splats.means, splats.quats, splats.scales, splats.opacities, splats.sh, target.viewmat, target.K,
        target.size, filter=PIXEL_FILTER, background=target.background,
    ).rgb  # fmt: skip


def make_target(shard: Shard, view: int, scale: float, crop: int | None, generator: np.random.Generator) -> Target:
    """One HR view brought to `scale` times LR; a random window of at most `crop` pixels where one is given."""
    cameras: Cameras = resize(shard.fine_cameras.select([view]), shard.scale / scale)
    width, height = cameras.sizes[0]
    image = shard.image(view)
    if image.shape[:2] != (height, width):
        image = reduce_image(image, (width, height))
    K = cameras.Ks[0].clone()
    if crop is not None and (width > crop or height > crop):
        w, h = min(crop, width), min(crop, height)
        left, top = int(generator.integers(width - w + 1)), int(generator.integers(height - h + 1))
        image = image[top : top + h, left : left + w]
        K[0, 2] -= left
        K[1, 2] -= top
    return Target(image, cameras.viewmats[0], K, shard.background)


def image_loss(image: Tensor, target: Target, unit: Unit) -> Tensor:
    """0.5 L1 / L1_anchor + 0.5 MSE / MSE_anchor."""
    error = image - target.image
    return 0.5 * error.abs().mean() / unit.absolute + 0.5 * error.square().mean() / unit.square


def window_unit(anchor: Splats, target: Target, scene: Unit) -> Unit:
    """The anchor's errors in this very window: in their unit, 1 is no change, whatever the window shows."""
    with torch.no_grad():
        error = draw(anchor, target) - target.image
    absolute, square = float(error.abs().mean()), float(error.square().mean())
    return Unit(max(absolute, FLOOR * scene.absolute), max(square, FLOOR * scene.square))


def measure_unit(shard: Shard, views: int = 8) -> Unit:
    """The anchor's errors at the shard's own scale, over some views."""
    used = spread_views(len(shard.seen), views)
    absolute, square = [], []
    with torch.no_grad():
        for view in used:
            image = render(shard.anchor, shard.fine_cameras, view, filter=PIXEL_FILTER, background=shard.background).rgb
            error = image - shard.image(view)
            absolute.append(float(error.abs().mean()))
            square.append(float(error.square().mean()))
    return Unit(max(float(np.mean(absolute)), 1e-3), max(float(np.mean(square)), 1e-5))
