"""The likely recipe of a splat that doesn't say, and the background of its photos.

The statistics are free of unit and were fitted to some 300 fits of known recipe (`benchmarks/guesses.py`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.guess.sample import every_kth
from gaussianvae.rasterize import render
from gaussianvae.rasterize.types import Filter
from gaussianvae.scene.cameras import Cameras, footprints, spread_views
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats

UNEVEN_MIDDLE = 1.05
"""Above this spread of their middle sizes, Gaussians are a classic fit's (mip: 0.10-1.10, classic: 1.02-3.05)."""
DEEP, UNEVEN_SCENE = 1.5, 1.28
"""The same bound where distances differ by more than that factor (10 % to 90 % quantile; objects: 1.1 to 1.3): scenes with
near and far parts (mip: 0.80-1.17, classic: 1.41-2.00)."""
EVEN_LEAST = 0.37
"""Below this spread of their least sizes, a mip fit had a 3D filter (with: 0.10-0.32, without: 0.42-1.29)."""
RIM = (0.02, 0.5)
"""Alpha of the pixels at an object's rim: there a fit mixes in the background that its photos had."""
DARKER, BRIGHTER = -0.02, 0.03
"""Rim minus interior, medians of gray: below the one the photos' background was black, above the other white; between
them nothing is said."""
FEWEST_RIM_PIXELS = 50


def size_spread(sizes: Float[Tensor, " N"]) -> float:
    """ln(median / 10 % quantile): how uneven sizes are."""
    low, middle = torch.quantile(sizes.clamp_min(1e-12).log(), torch.tensor([0.1, 0.5])).tolist()
    return float(middle - low)


def guess_recipe(splats: Splats, cameras: Cameras | None = None) -> Recipe:
    """The likely recipe of a splat that doesn't say: classic fits shrink many Gaussians far below what they could see.

    Args:
        splats: N Gaussians; of an empty splat its own recipe is returned.
        cameras: those of its photos, or an estimate; sizes are then measured in pixels, which grow with distance.
    """
    if len(splats) == 0:
        return splats.recipe
    some = every_kth(splats)
    ordered, bound = some.scales.sort(dim=1).values, UNEVEN_MIDDLE
    if cameras is not None and len(cameras) > 0:
        phi = footprints(cameras, some.means, average=True).clamp_min(1e-12)
        ordered = ordered / phi[:, None]
        near, far = torch.quantile(phi, torch.tensor([0.1, 0.9])).tolist()
        bound = UNEVEN_SCENE if far > DEEP * near else bound
    if size_spread(ordered[:, 1]) > bound:
        return replace(splats.recipe, mode="classic", eps2d=0.3, filter_3d=False)
    return replace(splats.recipe, mode="mip", eps2d=0.1, filter_3d=size_spread(ordered[:, 0]) < EVEN_LEAST)


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
