"""The likely recipe of a splat that doesn't say, and the background of its photos.

The statistics are free of unit and were fitted to some 300 fits of known recipe (`benchmarks/guesses.py`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.guess.sample import every_kth
from gaussianvae.rasterize import render
from gaussianvae.rasterize.types import Filter
from gaussianvae.scene.cameras import Cameras, footprints, resize, spread_views
from gaussianvae.scene.imaging import reduce_image
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats

UNEVEN = 1.6
"""Above this `unevenness`, Gaussians are a classic fit's. Of 295 fits of objects all but one lie on the right side
(mip: at most 1.47, classic: 1.54, then 1.72 and more), and of eleven of real and synthetic scenes all (mip: 1.10-1.58,
classic: 1.79-3.53)."""
EVEN_LEAST = 0.37
"""Below this spread of their least sizes, a mip fit had a 3D filter (with: 0.10-0.32, without: 0.42-1.29)."""
ALIKE, LOST = 26.5, 0.045
"""A splat whose renders four times finer, brought down, are nearer to its own than the one (dB), and lose less coverage
where it is opaque than the other, is no classic fit of photos that small, however uneven its sizes: such a fit falls
apart between the pixels that it was fitted to (benchmarks/guesses.py counts those that don't). Decimated splats and
those of larger photos than their sizes tell hold together; a filter that they never had, baked in, would blur them."""
FINER, WINDOW, LOOKS = 4.0, 256, 3
"""How much finer, in a window of so many pixels at the middle, over how many views."""
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


def unevenness(middle: Float[Tensor, " N"], opacities: Float[Tensor, " N"]) -> float:
    """How far the smallest Gaussians lie below the others, less twice how much more opaque they are.

    A classic fit widens whatever is too small to be seen, at no cost; a mip fit dims it, so that it must be opaque.

    Args:
        middle: each Gaussian's middle size, > 0, any unit.
        opacities: 0-1.
    """
    logs = middle.clamp_min(1e-12).log()
    least, small, half = torch.quantile(logs, torch.tensor([0.02, 0.1, 0.5])).tolist()
    tiny = opacities[logs <= small]
    return float(half - least - 2 * (tiny.median() - opacities.median()))


def guess_recipe(splats: Splats, cameras: Cameras | None = None) -> Recipe:
    """The likely recipe of a splat that doesn't say: classic fits shrink many Gaussians far below what they could see.

    Args:
        splats: N Gaussians; of an empty splat its own recipe is returned.
        cameras: those of its photos, or an estimate: sizes are then measured in their pixels, as they grow with
            distance in a scene.
    """
    if len(splats) == 0:
        return splats.recipe
    some = every_kth(splats)
    ordered = some.scales.sort(dim=1).values
    if cameras is not None and len(cameras) > 0:
        ordered = ordered / footprints(cameras, some.means, average=True).clamp_min(1e-12)[:, None]
    if unevenness(ordered[:, 1], some.opacities) > UNEVEN:
        if cameras is not None and len(cameras) > 0 and holds_together(splats, cameras):
            return replace(splats.recipe, mode="mip", eps2d=0.1, filter_3d=False)
        return replace(splats.recipe, mode="classic", eps2d=0.3, filter_3d=False)
    return replace(splats.recipe, mode="mip", eps2d=0.1, filter_3d=size_spread(ordered[:, 0]) < EVEN_LEAST)


def holds_together(splats: Splats, cameras: Cameras) -> bool:
    """Whether a splat shown four times finer, through a pixel's own filter, is what it is through a classic one.

    Args:
        splats: N Gaussians; cameras: at least one, at the resolution of its photos.
    """
    errors, lost = [], []
    with torch.no_grad():
        for view in spread_views(len(cameras), LOOKS):
            low = _middle(cameras.select([view]))
            coarse = render(splats, low, 0, filter=Filter("classic", 0.3))
            fine = render(splats, resize(low, 1 / FINER), 0, filter=Filter("mip", 0.1))
            shown = reduce_image(torch.cat([fine.rgb, fine.alpha[..., None]], -1), low.sizes[0])
            errors.append((shown[..., :3].clamp(0, 1) - coarse.rgb.clamp(0, 1)).square().mean())
            lost.append((coarse.alpha - shown[..., 3])[coarse.alpha > 0.9])
    gaps = torch.cat(lost)
    alike = -10 * math.log10(max(float(torch.stack(errors).mean()), 1e-10))
    return alike > ALIKE and (len(gaps) == 0 or float(gaps.mean()) < LOST)


def _middle(camera: Cameras) -> Cameras:
    """One camera, cut to the middle of its image where that is large."""
    width, height = camera.sizes[0]
    w, h = min(width, WINDOW), min(height, WINDOW)
    K = camera.Ks.clone()
    K[0, 0, 2] -= (width - w) // 2
    K[0, 1, 2] -= (height - h) // 2
    return replace(camera, Ks=K, sizes=((w, h),))


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
