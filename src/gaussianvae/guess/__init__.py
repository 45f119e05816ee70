"""What a splat that doesn't say betrays of its own training: the recipe, the size of a pixel, stand-in cameras."""

from __future__ import annotations

from gaussianvae.guess.cameras import Estimate, estimate_cameras, stand_ins
from gaussianvae.guess.outside import circles
from gaussianvae.guess.pixel import SPACING_FINE, guess_angle, guess_pixel, pixel_features, spacing
from gaussianvae.guess.recipe import (
    guess_background,
    guess_recipe,
    holds_together,
    rim_contrast,
    size_spread,
    unevenness,
)

__all__ = [
    "SPACING_FINE",
    "Estimate",
    "circles",
    "estimate_cameras",
    "guess_angle",
    "guess_background",
    "guess_pixel",
    "guess_recipe",
    "holds_together",
    "pixel_features",
    "rim_contrast",
    "size_spread",
    "spacing",
    "stand_ins",
    "unevenness",
]
