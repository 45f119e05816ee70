"""The world size of a pixel of the photos that a splat was trained on, from its own sizes.

The statistics are free of unit and were fitted to some 300 fits of known recipe (`benchmarks/guesses.py`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.guess.recipe import guess_recipe
from gaussianvae.guess.sample import VISIBLE, every_kth
from gaussianvae.scene.splats import Splats

PIXEL = {"classic": (1.703, -2.42, 0.383), "mip": (0.694, 0.686, 1.213)}
"""ln(pixel / large size) as constant + a * median opacity + b * ln(median middle size / large size), by mode. Over fits
left out, the error's standard deviation is 0.26 for classic and 0.41 for mip fits."""
SCENE_PIXEL = 0.285
"""Pixel / large size, of scenes seen from within, sizes first divided by distance; in eleven fits of six scenes, mip
and classic, 0.23 to 0.34."""
SPACING_MOST, SPACING_FINE = 1.0, 0.24
"""Pixel per spacing of visible Gaussians: the 95 % and the 5 % quantile over classic fits. A larger
pixel is not believed: the splat is unlike those fits, and a pixel that is too small blurs nothing."""


def pixel_features(splats: Splats) -> tuple[float, tuple[float, float]]:
    """A large size (90 % quantile of the largest of visible Gaussians), and the two statistics of `PIXEL`."""
    some = every_kth(splats)
    ordered = some.scales.clamp_min(1e-12).sort(dim=1).values
    visible = some.opacities > VISIBLE
    large = float(torch.quantile(ordered[visible if visible.any() else ~visible, 2], 0.9))
    middle = float(ordered[:, 1].median())
    return large, (float(some.opacities.median()), math.log(middle / large))


def guess_pixel(splats: Splats) -> float:
    """World size of a pixel of the photos that a splat was trained on, at its middle, from its own sizes.

    Args:
        splats: N >= 1 Gaussians; where their recipe is unknown, it is guessed.
    """
    mode = splats.recipe.mode or guess_recipe(splats).mode or "classic"
    large, (opacity, ratio) = pixel_features(splats)
    constant, a, b = PIXEL[mode]
    pixel = large * math.exp(constant + a * opacity + b * ratio)
    apart = spacing(splats)
    return pixel if pixel <= SPACING_MOST * apart or apart == 0 else SPACING_FINE * apart


def guess_angle(splats: Splats, distances: Float[Tensor, " N"]) -> float:
    """Pixel over distance in the photos of a scene seen from within: 1 / focal length in pixels.

    Args:
        splats: N >= 1 Gaussians.
        distances: how far from them their cameras stood, world units.
    """
    seen = replace(splats, scales=splats.scales / distances[:, None].clamp_min(1e-12))
    return SCENE_PIXEL * pixel_features(seen)[0]


def spacing(splats: Splats) -> float:
    """Distance to the eighth nearest visible Gaussian, its 75 % quantile over (at most 100,000) visible ones."""
    from scipy.spatial import cKDTree

    points = splats.means[splats.opacities > VISIBLE].numpy()
    if len(points) < 9:
        return 0.0
    distance, _ = cKDTree(points).query(points[:: -(-len(points) // 100_000)], k=9, workers=-1)
    return float(np.quantile(distance[:, 8], 0.75))
