"""What a splat that doesn't say betrays of its own training: the recipe, the size of a pixel, stand-in cameras.

The statistics are free of unit and were fitted to some 220 fits of known recipe (`benchmarks/guesses.py`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import Cameras, footprints
from gaussianvae.scene.orbits import orbit
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats

VISIBLE = 0.2
"""Opacity above which a Gaussian's size and place count in what follows."""
UNEVEN_MIDDLE = 1.05
"""Above this spread of their middle sizes, Gaussians are a classic fit's (mip: 0.18-1.08, classic: 1.02-3.00)."""
EVEN_LEAST = 0.37
"""Below this spread of their least sizes, a mip fit had a 3D filter (with: 0.11-0.32, without: 0.42-1.29)."""
PIXEL = {"classic": (1.628, -2.409, 0.331), "mip": (0.601, 0.752, 1.195)}
"""ln(pixel / large size) as constant + a * median opacity + b * ln(median middle size / large size), by mode. Over fits
left out, the error's standard deviation is 0.23 for classic and 0.36 for mip fits."""
SPACING_MOST, SPACING_FINE = 1.0, 0.24
"""Pixel per spacing of visible Gaussians: the 95 % and the 5 % quantile over classic fits. A larger
pixel is not believed: the splat is unlike those fits, and a pixel that is too small blurs nothing."""
FRAMING = 1.4
"""How much tighter photos frame their object than `orbit` does (1.24 to 1.71 in four captures)."""
ELEVATIONS = (-15.0, 15.0, 45.0)
VIEWS = 36


def size_spread(sizes: Float[Tensor, " N"]) -> float:
    """ln(median / 10 % quantile): how uneven sizes are."""
    low, middle = torch.quantile(sizes.clamp_min(1e-12).log(), torch.tensor([0.1, 0.5])).tolist()
    return float(middle - low)


def guess_recipe(splats: Splats) -> Recipe:
    """The likely recipe of a splat that doesn't say: classic fits shrink many Gaussians far below what they could see.

    Args:
        splats: N Gaussians; of an empty splat its own recipe is returned.
    """
    if len(splats) == 0:
        return splats.recipe
    ordered = _sample(splats).scales.sort(dim=1).values
    if size_spread(ordered[:, 1]) > UNEVEN_MIDDLE:
        return replace(splats.recipe, mode="classic", eps2d=0.3, filter_3d=False)
    return replace(splats.recipe, mode="mip", eps2d=0.1, filter_3d=size_spread(ordered[:, 0]) < EVEN_LEAST)


def pixel_features(splats: Splats) -> tuple[float, tuple[float, float]]:
    """A large size (90 % quantile of the largest of visible Gaussians), and the two statistics of `PIXEL`."""
    some = _sample(splats)
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


def spacing(splats: Splats) -> float:
    """Distance to the eighth nearest visible Gaussian, its 75 % quantile over (at most 100,000) visible ones."""
    from scipy.spatial import cKDTree

    points = splats.means[splats.opacities > VISIBLE].numpy()
    if len(points) < 9:
        return 0.0
    distance, _ = cKDTree(points).query(points[:: -(-len(points) // 100_000)], k=9, workers=-1)
    return float(np.quantile(distance[:, 8], 0.75))


def estimate_cameras(splats: Splats, width: int | None = None, report: Reporter = SILENT) -> Cameras:
    """Stand-ins for the cameras that a splat was trained with: three circles around it, square images.

    Args:
        splats: N Gaussians.
        width: of the training images in pixels; by default what the splat remembers, else estimated from the sizes and
            opacities of its Gaussians.
        report: receives the note that says what was estimated.

    Raises:
        GaussianVAEError: an empty splat, or a width below 1.
    """
    known, how = width, "given"
    if known is None and splats.recipe.width is not None:
        known, how = splats.recipe.width, "remembered"
    if known is None and len(splats) > 0:
        spanned = float(footprints(_circles(splats, 1), splats.means, average=True).median())
        known, how = min(max(round(spanned / guess_pixel(splats)), 16), 4096), "estimated; --trained-width sets it"
    cameras = _circles(splats, 1 if known is None else known)
    report.message(f"no training cameras known: circles around the splat stand in, image width {known} px ({how})")
    return cameras


def _circles(splats: Splats, width: int) -> Cameras:
    rings = [orbit(splats, VIEWS // len(ELEVATIONS), width, elevation) for elevation in ELEVATIONS]
    Ks = torch.cat([ring.Ks for ring in rings])
    Ks[:, :2, :2] *= FRAMING
    return Cameras(
        viewmats=torch.cat([ring.viewmats for ring in rings]),
        Ks=Ks,
        sizes=tuple(size for ring in rings for size in ring.sizes),
    )


def _sample(splats: Splats, most: int = 100_000) -> Splats:
    """Every k-th Gaussian: a statistic of millions needs no more."""
    step = -(-len(splats) // most)
    return splats if step <= 1 else splats.select(torch.arange(0, len(splats), step))
