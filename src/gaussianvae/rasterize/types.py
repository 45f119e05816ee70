"""What a render takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from gaussianvae.scene.recipe import Mode


@dataclass(frozen=True)
class Filter:
    """The pixel filter of a render."""

    mode: Mode = "classic"
    """`classic`: opacity kept (3DGS); `mip`: opacity compensated (Mip-Splatting eq. 8-9, gsplat "antialiased")."""
    eps2d: float = 0.3
    """Variance added to every projected Gaussian, square pixels."""


@dataclass(frozen=True)
class Rendering:
    """One view."""

    rgb: Float[Tensor, "H W 3"]
    """Blended colors over the background."""
    alpha: Float[Tensor, "H W"]
    """Coverage, 0-1."""
    depth: Float[Tensor, "H W"]
    """Expected depth along the optical axis, world units; 0 where nothing is."""
