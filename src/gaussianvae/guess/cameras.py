"""Stand-ins for the cameras that a splat was trained with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.errors import GaussianVAEError
from gaussianvae.guess.outside import Z_UP, circles, pinholes
from gaussianvae.guess.pixel import guess_angle, guess_pixel
from gaussianvae.guess.sample import VISIBLE, every_kth
from gaussianvae.guess.stand import FIELD_OF_VIEW, find_stand
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import NEAR, Cameras, footprints, project, resize
from gaussianvae.scene.splats import Splats

NARROWEST, WIDEST = 16, 4096
"""The smallest and the largest width in pixels that is estimated."""
MINUS_Y_UP = (0.0, -1.0, 0.0)


@dataclass(frozen=True)
class Estimate:
    """Stand-in cameras, and what they were taken for."""

    cameras: Cameras
    kind: Literal["object", "scene"]
    """An object is seen from around it, a scene from within."""
    width: Literal["given", "remembered", "estimated"]
    """Where the images' width comes from."""

    @property
    def views(self) -> str:
        """Which views they are, in words."""
        if self.kind == "object":
            return "circles around the splat stand in"
        x, y, z = self.cameras.positions.median(0).values.tolist()
        return (
            f"the splat looks like a room or a scene seen from within; {len(self.cameras)} views around "
            f"({x:.3g}, {y:.3g}, {z:.3g}) stand in"
        )

    def __str__(self) -> str:
        hints = ["estimated", "--trained-width sets it"] if self.width == "estimated" else [self.width]
        hints += ["--cameras FILE overrides"] if self.kind == "scene" else []
        size = self.cameras.sizes[0][0]
        return f"no training cameras known: {self.views}, image width {size} px ({'; '.join(hints)})"


def estimate_cameras(splats: Splats, width: int | None = None, report: Reporter = SILENT) -> Cameras:
    """Stand-ins for the cameras that a splat was trained with; square images.

    Around an object six circles on all its sides; within a scene (a room, a street, an object with its surroundings)
    views from where the splat looks as photos do: see `find_stand`.

    Args:
        splats: N Gaussians.
        width: of the training images in pixels; by default what the splat remembers, else estimated from the sizes and
            opacities of its Gaussians.
        report: receives progress, and the note that says what was estimated.

    Raises:
        GaussianVAEError: an empty splat, or a width below 1.
    """
    estimate = stand_ins(splats, width, report=report)
    report.message(str(estimate))
    return estimate.cameras


def stand_ins(
    splats: Splats,
    width: int | None = None,
    up: tuple[float, float, float] | None = None,
    report: Reporter = SILENT,
) -> Estimate:
    """The cameras of `estimate_cameras`, with what is to be said of them; the same but for the note.

    Args:
        splats, width, report: as there.
        up: the world's upward direction. By default z around an object, and z or -y, the frames of most files, within a
            scene: whichever its views look along less.
    """
    if len(splats) == 0:
        raise GaussianVAEError("the splat holds no Gaussians; there is nothing to look at")
    known = width if width is not None else splats.recipe.width
    if known is not None and known < 1:
        raise GaussianVAEError(f"the images are said to be {known} px wide; the width must be at least 1")
    how: Literal["given", "remembered", "estimated"]
    how = "given" if width is not None else "remembered" if known is not None else "estimated"
    some = every_kth(splats)
    around = circles(some, 1, up or Z_UP)  # complains about the direction before the search
    stand = find_stand(splats, _field_of_view(splats), report)
    if not stand.within:
        known = known or _bounded(float(footprints(around, some.means, average=True).median()) / guess_pixel(splats))
        return Estimate(resize(around, 1 / known), "object", how)
    cameras = stand.cameras
    forward = cameras.viewmats[:, 2, :3]
    upright = up or min(Z_UP, MINUS_Y_UP, key=lambda axis: float((forward @ torch.tensor(axis)).abs().mean()))
    side = cameras.sizes[0][0]
    places = cameras.positions
    cameras = pinholes(places, places + forward, float(cameras.focals[0]), side, upright)
    known = known or _bounded(side / (guess_angle(*_seen(some, cameras)) * float(cameras.focals[0])))
    return Estimate(resize(cameras, side / known), "scene", how)


def _field_of_view(splats: Splats) -> float:
    """Of the photos: what the splat remembers, else the usual."""
    width, focal = splats.recipe.width, splats.recipe.focal_px
    return 2 * math.atan(0.5 * width / focal) if width and focal else FIELD_OF_VIEW


def _seen(splats: Splats, cameras: Cameras) -> tuple[Splats, Float[Tensor, " M"]]:
    """The Gaussians that some view has in its frame (all where none is visible), and their mean distances."""
    seen = torch.zeros(len(splats), dtype=torch.bool)
    for view in range(len(cameras)):
        pixels, depths = project(cameras, view, splats.means)
        seen |= (depths > NEAR) & ((pixels >= 0) & (pixels < cameras.sizes[view][0])).all(1)
    some = splats.select(seen) if bool((seen & (splats.opacities > VISIBLE)).any()) else splats
    return some, footprints(cameras, some.means, average=True) * cameras.focals[0]


def _bounded(width: float) -> int:
    return round(min(max(width, NARROWEST), WIDEST))
