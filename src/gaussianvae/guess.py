"""What a splat that doesn't say betrays of its own training: the recipe, the size of a pixel, stand-in cameras.

The statistics are free of unit and were fitted to some 300 fits of known recipe (`benchmarks/guesses.py`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.progress import SILENT, Reporter
from gaussianvae.rasterize import render
from gaussianvae.rasterize.types import Filter
from gaussianvae.scene.cameras import Cameras, footprints, spread_views
from gaussianvae.scene.orbits import orbit
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats

VISIBLE = 0.2
"""Opacity above which a Gaussian's size and place count in what follows."""
UNEVEN_MIDDLE = 1.05
"""Above this spread of their middle sizes, Gaussians are a classic fit's (mip: 0.10-1.10, classic: 1.02-3.05)."""
EVEN_LEAST = 0.37
"""Below this spread of their least sizes, a mip fit had a 3D filter (with: 0.10-0.32, without: 0.42-1.29)."""
PIXEL = {"classic": (1.703, -2.42, 0.383), "mip": (0.694, 0.686, 1.213)}
"""ln(pixel / large size) as constant + a * median opacity + b * ln(median middle size / large size), by mode. Over fits
left out, the error's standard deviation is 0.26 for classic and 0.41 for mip fits."""
SPACING_MOST, SPACING_FINE = 1.0, 0.24
"""Pixel per spacing of visible Gaussians: the 95 % and the 5 % quantile over classic fits. A larger
pixel is not believed: the splat is unlike those fits, and a pixel that is too small blurs nothing."""
RIM = (0.02, 0.5)
"""Alpha of the pixels at an object's rim: there a fit mixes in the background that its photos had."""
DARKER, BRIGHTER = -0.02, 0.03
"""Rim minus interior, medians of gray: below the one the photos' background was black, above the other white; between
them nothing is said."""
FEWEST_RIM_PIXELS = 50
FRAMING = 1.4
"""How much tighter photos frame their object than `orbit` does (1.24 to 1.71 in four captures)."""
ELEVATIONS = (-15.0, 15.0, 30.0, 45.0, 60.0, 75.0)
VIEWS = 72


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


def rim_contrast(splats: Splats, cameras: Cameras, pixel: Filter, most: int = 4) -> float | None:
    """How much brighter the rim of what a splat shows is than its interior, medians of gray (0-1) over a few views.

    Args:
        splats: N Gaussians.
        cameras: that see them as their photos did.
        pixel: the filter that they were trained through.
        most: views to render.

    Returns:
        -1 to 1; None where a splat has no rim to speak of, as a room has none.
    """
    rim, inner = [], []
    with torch.no_grad():
        for view in spread_views(len(cameras), most):
            seen = render(splats, cameras, view, filter=pixel)
            gray = (seen.rgb / seen.alpha.clamp_min(1e-3)[..., None]).clamp(0, 1).mean(2)
            rim.append(gray[(seen.alpha > RIM[0]) & (seen.alpha < RIM[1])])
            inner.append(gray[seen.alpha > 0.95])
    if not rim or min(len(torch.cat(rim)), len(torch.cat(inner))) < FEWEST_RIM_PIXELS:
        return None
    return float(torch.cat(rim).median() - torch.cat(inner).median())


def guess_background(splats: Splats, cameras: Cameras, pixel: Filter) -> tuple[float, float, float] | None:
    """The likely color beyond the scene in a splat's photos, by `rim_contrast`: black, white, or None where unsure."""
    contrast = rim_contrast(splats, cameras, pixel)
    if contrast is None or DARKER <= contrast <= BRIGHTER:
        return None
    return (0.0, 0.0, 0.0) if contrast < DARKER else (1.0, 1.0, 1.0)


def spacing(splats: Splats) -> float:
    """Distance to the eighth nearest visible Gaussian, its 75 % quantile over (at most 100,000) visible ones."""
    from scipy.spatial import cKDTree

    points = splats.means[splats.opacities > VISIBLE].numpy()
    if len(points) < 9:
        return 0.0
    distance, _ = cKDTree(points).query(points[:: -(-len(points) // 100_000)], k=9, workers=-1)
    return float(np.quantile(distance[:, 8], 0.75))


def estimate_cameras(splats: Splats, width: int | None = None, report: Reporter = SILENT) -> Cameras:
    """Stand-ins for the cameras that a splat was trained with: six circles around it, most above; square images.

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
