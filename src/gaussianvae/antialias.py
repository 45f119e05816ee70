"""Closed forms: what can be done for a splat at a higher resolution without learning anything.

A fit at low resolution (LR) ran through a pixel filter of variance eps (px^2); phi is the LR pixel's size in the world
at each Gaussian. Whether that filter must be kept (baked into the Gaussians), dropped or scaled depends on how the
splat was trained; the best choice by recipe is the anchor, from which everything learned starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.rasterize.types import Filter
from gaussianvae.scene.cameras import NEAR, Cameras, footprints, spread_views, to_camera
from gaussianvae.scene.recipe import Recipe
from gaussianvae.scene.splats import Splats, covariances
from gaussianvae.scene.split import split_rows

PIXEL_FILTER = Filter("mip", 0.1)
"""How a finished splat is shown when judged: the true pixel's filter, opacity compensated (Mip-Splatting)."""
CLASSIC_VIEW = Filter("classic", 0.3)
"""What most viewers do to any splat."""
FILTER_3D = 0.2
"""Variance of Mip-Splatting's 3D filter in units of phi^2."""


@dataclass(frozen=True)
class ClosedForm:
    """A splat and the pixel filter to show it with."""

    splats: Splats
    filter: Filter


def training_filter(recipe: Recipe) -> Filter:
    """The pixel filter of the fit; what the recipe doesn't know is taken as a classic fit's."""
    mode = recipe.mode or "classic"
    return Filter(mode, recipe.eps2d if recipe.eps2d is not None else 0.3 if mode == "classic" else 0.1)


def kept_share(recipe: Recipe) -> float:
    """Share of the LR pixel filter's variance that belongs into the anchor, opacity kept, at the mean footprint.

    Most of it for classic fits, a tenth for mip fits with a pixel-sized filter, a fifth of a wide one: a mip fit
    represents the scene before the filter, and all of it would blur twice; but without any, what the fit left thinner
    than it could see tears open. Measured over fits of each recipe (docs/method.md).
    """
    own = training_filter(recipe)
    if own.mode == "classic":
        return 0.75
    return 0.1 if own.eps2d <= 0.15 else 0.2


def compensation(
    splats: Splats, cameras: Cameras, variance: Float[Tensor, " N"], max_views: int = 16
) -> Float[Tensor, " N"]:
    """Mean over views of sqrt(|Sigma2| / |Sigma2 + f I|): the opacity that a widened Gaussian must give back.

    Args:
        splats: N Gaussians.
        cameras: the views that see them; at most `max_views`, evenly chosen, are used.
        variance: isotropic variance added in 3D, square world units.

    Returns:
        factors in 0-1; 1 for Gaussians that no view has in front of it.
    """
    sigma = covariances(splats.quats, splats.scales)
    total, seen = torch.zeros_like(splats.opacities), torch.zeros_like(splats.opacities)
    for view in spread_views(len(cameras), max_views):
        points = to_camera(cameras, view, splats.means)
        depth = points[:, 2].clamp_min(NEAR)
        rotation = cameras.viewmats[view, :3, :3].to(sigma)
        slopes = (points[:, :2] / depth[:, None]).clamp(-2, 2)
        # rows of the image-plane Jacobian times depth; the focal length cancels in the ratio
        rows = rotation[None, :2] - slopes[:, :, None] * rotation[None, 2:3]
        plane = rows @ sigma @ rows.transpose(1, 2)
        wider = plane + variance[:, None, None] * (rows @ rows.transpose(1, 2))
        ratio = torch.linalg.det(plane).clamp_min(0) / torch.linalg.det(wider).clamp_min(1e-30)
        in_front = (points[:, 2] > NEAR).to(total)
        total += in_front * ratio.clamp(0, 1).sqrt()
        seen += in_front
    return torch.where(seen > 0, total / seen.clamp_min(1), torch.ones_like(total))


def bake(splats: Splats, cameras: Cameras, phi: Float[Tensor, " N"], variance_px: float, keep_opacity: bool) -> Splats:
    """Make a pixel filter part of the Gaussians: Sigma + f phi^2 I.

    Args:
        splats: N Gaussians.
        cameras: training cameras, for the opacity compensation.
        phi: world size of the filter's pixel at each Gaussian.
        variance_px: the filter's variance f in square pixels; 0 returns `splats` itself.
        keep_opacity: classic filters keep opacity, mip filters are compensated.
    """
    if variance_px == 0:
        return splats
    variance = variance_px * phi.square()
    factor = torch.ones_like(phi) if keep_opacity else compensation(splats, cameras, variance)
    return replace(
        splats,
        scales=(splats.scales.square() + variance[:, None]).sqrt(),
        opacities=splats.opacities * factor,
    )


def anchor(splats: Splats, cameras: Cameras, scale: float) -> Splats:
    """The best closed form for the splat's recipe, as plain Gaussians to be shown with `PIXEL_FILTER`.

    The finer pixel's own filter (1 / scale^2 of an LR pixel's area) is left to the viewer, so that the anchor tends to
    the splat itself as the scale tends to 1. A Gaussian has one size for all views: the filter is taken at the mean of
    their footprints.
    """
    own = training_filter(splats.recipe)
    kept = kept_share(splats.recipe) * own.eps2d * (1 - 1 / scale**2)
    phi = footprints(cameras, splats.means, average=True)
    return bake(splats, cameras, phi, kept, keep_opacity=True)


def baked(splats: Splats, cameras: Cameras, phi: Float[Tensor, " N"]) -> Splats:
    """The splat with its whole LR pixel filter baked in, whatever its recipe."""
    own = training_filter(splats.recipe)
    return bake(splats, cameras, phi, own.eps2d, keep_opacity=own.mode == "classic")


def closed_forms(splats: Splats, cameras: Cameras, phi: Float[Tensor, " N"], scale: float) -> dict[str, ClosedForm]:
    """Every closed form by name, for a render `scale` times finer than the fit.

    Args:
        splats: the LR fit.
        cameras: its training cameras at LR.
        phi: world size of an LR pixel at each Gaussian (`scene.cameras.footprints`).
        scale: how much finer the render is, >= 1.
    """
    own = training_filter(splats.recipe)
    start = anchor(splats, cameras, scale)
    forms = {
        "as_is": ClosedForm(splats, own),
        "classic_view": ClosedForm(splats, CLASSIC_VIEW),
        "scale_adaptive": ClosedForm(splats, Filter(own.mode, own.eps2d * scale**2)),
    }
    if own.mode == "mip":
        forms["mip"] = ClosedForm(splats, PIXEL_FILTER)
    forms["mip_kept"] = ClosedForm(baked(splats, cameras, phi), PIXEL_FILTER)
    forms["anchor"] = ClosedForm(start, PIXEL_FILTER)
    forms["split"] = ClosedForm(split_rows(start, torch.arange(len(start), device=start.means.device))[0], PIXEL_FILTER)
    return forms
