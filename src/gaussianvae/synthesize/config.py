"""What to synthesize."""

from __future__ import annotations

from dataclasses import dataclass

from gaussianvae.errors import GaussianVAEError

TEST_EVERY = 8
"""Every 8th view is a test view, the first one included."""


@dataclass(frozen=True)
class SynthesisConfig:
    """One scene with known truth."""

    views: int = 48
    """Views in all; every 8th is a test view."""
    size: int = 256
    """Width and height of the images in pixels."""
    seed: int = 0
    """Picks scene, lights and cameras; among any 12 consecutive seeds every kind of content occurs."""
    supersample: int = 2
    """Samples along each side of a pixel: 2 casts 4 rays for it."""
    train_depth: bool = False
    """Whether depth is written for training views too, not only for test views."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("views", self.views, 2, 10_000),
            ("size", self.size, 8, 8192),
            ("supersample", self.supersample, 1, 16),
            ("seed", self.seed, 0, 2**31),
        ):
            if not low <= value <= high:
                raise GaussianVAEError(f"{name} is {value}; allowed are {low} to {high}")
