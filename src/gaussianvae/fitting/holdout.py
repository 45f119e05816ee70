"""Photos held out of a refinement: they say when to stop, which state to keep, and whether it helped at all.

A render is judged as its photo was taken: at the finer resolution, brought down by the photos' operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.antialias import PIXEL_FILTER
from gaussianvae.captures import Views
from gaussianvae.errors import GaussianVAEError
from gaussianvae.rasterize import render
from gaussianvae.rasterize.losses import l1_ssim
from gaussianvae.scene.cameras import Cameras, spread_views
from gaussianvae.scene.imaging import Operator, psnr, reduce_image
from gaussianvae.scene.splats import Splats

FEWEST = 2
"""Views held out at least, and views left to learn from at least."""
WORST_MATCH = 12.0
"""Median PSNR (dB) under which a splat and photos are taken to be of different scenes or frames."""
MATCH_VIEWS = 16
CEILING = 100.0
"""dB given to an image without error."""


@dataclass(frozen=True)
class Figure:
    """How well renders, brought down, show some photos: means over the views."""

    psnr: float
    """dB."""
    ssim: float
    """-1 to 1."""

    @property
    def decibels(self) -> float:
        """One number of both: the mean of PSNR and of -10 log10(1 - SSIM), so that either counts as the other does."""
        structure = -10 * math.log10(max(1 - self.ssim, 10 ** (-CEILING / 10)))
        return 0.5 * (self.psnr + structure)

    def __str__(self) -> str:
        return f"{self.psnr:.2f} dB / {self.ssim:.4f}"


def hold_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """Divide views into those to learn from and those held out, the latter evenly spread over their order.

    Args:
        count: views, at least 4.
        share: of the views to hold out, 0 to 0.5; at least 2 views are.

    Returns:
        indices of the views to learn from, and of those held out; both ascending, together all of them.

    Raises:
        GaussianVAEError: fewer than 4 views.
    """
    if count < 2 * FEWEST:
        raise GaussianVAEError(
            f"a refinement needs at least {2 * FEWEST} training photos, {FEWEST} of them held out to judge it; "
            f"got {count}"
        )
    held = spread_views(count, max(FEWEST, round(share * count)))
    return sorted(set(range(count)) - set(held)), held


def unseen_by(known: Cameras | None, views: Cameras) -> list[int] | None:
    """The views that a splat was not fitted to, by their names; such photos judge it without favor.

    Args:
        known: the cameras that lie beside the splat, if any.
        views: those of the photos.

    Returns:
        indices into `views`; None where names don't tell (none on either side, no name in common), where fewer than two
        are new, or where that leaves fewer than two to learn from.
    """
    if known is None or not known.names or not views.names:
        return None
    seen = set(known.names)
    fresh = [view for view, name in enumerate(views.names) if name not in seen]
    return fresh if FEWEST <= len(fresh) <= len(views) - FEWEST else None


def select_views(views: Views, chosen: Sequence[int]) -> Views:
    """Some of the photos with their cameras, in the order given."""
    return views.select(chosen)


def show(
    splats: Splats, fine: Cameras, view: int, size: tuple[int, int], background: Tensor, operator: Operator
) -> Float[Tensor, "h w 3"]:
    """A render at the finer resolution as a photo of `size` = (width, height) would hold it, clamped to 0-1."""
    with torch.no_grad():
        image = render(splats, fine, view, filter=PIXEL_FILTER, background=background).rgb
        # a state that has diverged is a bad picture, not an accident
        return reduce_image(image, size, operator).nan_to_num(0.0).clamp(0, 1)


def measure(splats: Splats, views: Views, fine: Cameras, operator: Operator) -> Figure:
    """PSNR and SSIM of a splat's renders, brought down, against photos.

    Args:
        splats: plain Gaussians, shown with `PIXEL_FILTER` at the finer resolution.
        views: the photos to compare with.
        fine: their cameras at the finer resolution.
        operator: what brings a fine image down to a photo.
    """
    similar, structure = 0.0, 0.0
    for view, photo in enumerate(views.images):
        low = show(splats, fine, view, views.cameras.sizes[view], views.background, operator)
        similar += min(psnr(low, photo), CEILING)
        with torch.no_grad():
            structure += 1 - float(l1_ssim(low, photo, ssim_weight=1.0))
    return Figure(similar / len(views.images), structure / len(views.images))


def check_match(splats: Splats, views: Views, fine: Cameras, operator: Operator) -> None:
    """See that a splat and photos belong together, on at most 16 views.

    Args:
        splats, views, fine, operator: as in `measure`.

    Raises:
        GaussianVAEError: the median over views of the PSNR is below 12 dB.
    """
    chosen = spread_views(len(views.cameras), MATCH_VIEWS)
    shown = [
        psnr(show(splats, fine, v, views.cameras.sizes[v], views.background, operator), views.images[v]) for v in chosen
    ]
    middle = float(torch.tensor(shown).median())
    if middle < WORST_MATCH:
        raise GaussianVAEError(
            f"the splat doesn't show what the photos do: median PSNR {middle:.1f} dB over {len(chosen)} views, "
            f"expected are at least {WORST_MATCH:g}; are scene, frame (cameras) and background the same?"
        )
