"""How a splat was made, as far as it is known: it decides which closed form is right for it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

Mode = Literal["classic", "mip"]


@dataclass(frozen=True)
class Recipe:
    """What a splat remembers of its training; `None` is unknown."""

    mode: Mode | None = None
    """`classic`: dilated by eps2d, opacity kept; `mip`: the same with opacity compensated (gsplat "antialiased")."""
    eps2d: float | None = None
    """Variance of the training pixel filter, in square pixels of the training images."""
    filter_3d: bool | None = None
    """Whether Mip-Splatting's 3D filter was on (it is already part of the stored Gaussians)."""
    focal_px: float | None = None
    """Focal length of the training images in pixels (the median over views)."""
    width: int | None = None
    """Width of the training images in pixels."""
    factor: float | None = None
    """How much smaller the training images were than the capture's own: 8 means 800 px photos used at 100 px."""
    steps: int | None = None
    """Optimizer steps."""
    background: tuple[float, float, float] | None = None
    """Color beyond the scene in the training images, RGB 0-1."""

    def known(self) -> dict[str, object]:
        """The fields that are known, by name."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
