"""Stand-ins for the cameras that a splat was trained with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from gaussianvae.errors import GaussianVAEError
from gaussianvae.guess.outside import circles
from gaussianvae.guess.pixel import VISIBLE, guess_angle, guess_pixel
from gaussianvae.guess.sample import every_kth
from gaussianvae.guess.stand import FIELD_OF_VIEW, find_stand
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import NEAR, Cameras, footprints, project, resize
from gaussianvae.scene.splats import Splats

NARROWEST, WIDEST = 16, 4096
"""The smallest and the largest width in pixels that is estimated."""


@dataclass(frozen=True)
class Estimate:
    """Stand-in cameras, and what they were taken for."""

    cameras: Cameras
    kind: Literal["object", "scene"]
    """An object is seen from around it, a scene from within."""
    width: Literal["given", "remembered", "estimated"]
    """Where the images' width comes from."""

    def __str__(self) -> str:
        size, count = self.cameras.sizes[0][0], len(self.cameras)
        x, y, z = self.cameras.positions.median(0).values.tolist()
        views = (
            "circles around the splat stand in"
            if self.kind == "object"
            else f"the splat looks like a scene seen from within, {count} views from around ({x:.3g}, {y:.3g}, {z:.3g}) "
            "stand in"
        )
        how = "estimated; --trained-width sets it" if self.width == "estimated" else self.width
        return f"no training cameras known: {views}, image width {size} px ({how})"


def estimate_cameras(splats: Splats, width: int | None = None, report: Reporter = SILENT) -> Cameras:
    """Stand-ins for the cameras that a splat was trained with; square images.

    Around an object six circles, most above; within a scene (a room, a street, an object with its surroundings) views
    from where the splat looks as photos do: see `find_stand`.

    Args:
        splats: N Gaussians.
        width: of the training images in pixels; by default what the splat remembers, else estimated from the sizes and
            opacities of its Gaussians.
        report: receives progress, and the note that says what was estimated.

    Raises:
        GaussianVAEError: an empty splat, or a width below 1.
    """
    estimate = stand_ins(splats, width, report)
    report.message(str(estimate))
    return estimate.cameras


def stand_ins(splats: Splats, width: int | None = None, report: Reporter = SILENT) -> Estimate:
    """The cameras of `estimate_cameras`, with what is to be said of them; arguments and errors are the same."""
    if len(splats) == 0:
        raise GaussianVAEError("the splat holds no Gaussians; there is nothing to look at")
    known = width if width is not None else splats.recipe.width
    if known is not None and known < 1:
        raise GaussianVAEError(f"the images are said to be {known} px wide; the width must be at least 1")
    how: Literal["given", "remembered", "estimated"]
    how = "given" if width is not None else "remembered" if known is not None else "estimated"
    stand = find_stand(splats, _field_of_view(splats), report)
    if not stand.within:
        return Estimate(circles(splats, known or _width_around(splats)), "object", how)
    return Estimate(_scaled(stand.cameras, known or _width_within(splats, stand.cameras)), "scene", how)


def _field_of_view(splats: Splats) -> float:
    """Of the photos: what the splat remembers, else the usual."""
    width, focal = splats.recipe.width, splats.recipe.focal_px
    return 2 * math.atan(0.5 * width / focal) if width and focal else FIELD_OF_VIEW


def _width_around(splats: Splats) -> int:
    """Width of an object's photos in pixels, by the guessed pixel."""
    spanned = float(footprints(circles(splats, 1), splats.means, average=True).median())
    return _bounded(spanned / guess_pixel(splats))


def _width_within(splats: Splats, cameras: Cameras) -> int:
    """Width of a scene's photos in pixels, by the guessed angle of a pixel."""
    some = every_kth(splats)
    seen = torch.zeros(len(some), dtype=torch.bool)
    for view in range(len(cameras)):
        pixels, depths = project(cameras, view, some.means)
        limit = torch.tensor(cameras.sizes[view])
        seen |= (depths > NEAR) & ((pixels >= 0) & (pixels < limit)).all(1)
    some = some.select(seen) if bool((seen & (some.opacities > VISIBLE)).any()) else some
    distances = footprints(cameras, some.means, average=True) * cameras.focals[0]
    angle = guess_angle(some, distances)
    return _bounded(cameras.sizes[0][0] / (angle * float(cameras.focals[0])))


def _bounded(width: float) -> int:
    return round(min(max(width, NARROWEST), WIDEST))


def _scaled(cameras: Cameras, width: int) -> Cameras:
    return resize(cameras, cameras.sizes[0][0] / width)
