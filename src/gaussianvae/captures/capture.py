"""A capture: posed photos in a folder, whatever its layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float, Int
from torch import Tensor

from gaussianvae.captures.undistort import Lens, displacement
from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.cameras import Cameras

TEST_EVERY = 8
"""Without a test split of its own, every 8th image in name order is a test view (0, 8, 16, ...)."""

Split = tuple[tuple[int, ...], tuple[int, ...]]
"""Train and test views."""


@dataclass(frozen=True)
class SparsePoints:
    """P points that structure from motion found while it posed the photos."""

    means: Float[Tensor, "P 3"]
    """World frame of the cameras, float32."""
    colors: Float[Tensor, "P 3"]
    """RGB 0-1, float32."""
    errors: Float[Tensor, " P"]
    """Mean reprojection error in pixels of the photos that were posed, float32; -1 where it is unknown."""
    track_lengths: Int[Tensor, " P"]
    """How many photos show the point; 0 where it is unknown."""


@dataclass(frozen=True)
class Capture:
    """Posed photos at their native size; images are read when they are asked for."""

    folder: Path
    cameras: Cameras
    """All views, native size: pinholes, whatever the photos' lenses are."""
    image_paths: tuple[Path, ...]
    train: tuple[int, ...]
    """Views that a fit may use."""
    test: tuple[int, ...]
    """Views that only an evaluation may use."""
    has_alpha: bool
    """Whether the photos are RGBA, to be composited over a background."""
    depth_paths: tuple[Path | None, ...]
    """True depth of a view, where it is known: float32 (H, W), along the optical axis, infinite where nothing is."""
    lenses: tuple[Lens | None, ...] = ()
    """What bends a view's photo (None: nothing), to be undone as it is loaded. Empty: none is bent."""
    points: SparsePoints | None = None
    """A sparse cloud, where the capture has one."""
    missing: int = 0
    """How many photos the capture's files list besides that aren't there."""

    def __repr__(self) -> str:
        return f"Capture({self.folder}, {len(self.train)} train and {len(self.test)} test views, {self.cameras})"


def largest_distortion(capture: Capture) -> float:
    """How far, in pixels, the lenses of a capture move what its photos show at their corners; 0 without lenses."""
    cameras, lenses = capture.cameras, capture.lenses
    known = {(id(lens), cameras.sizes[view]): (lens, view) for view, lens in enumerate(lenses) if lens is not None}
    moved = [displacement(lens, cameras.Ks[view], cameras.sizes[view]) for lens, view in known.values()]
    return max(moved, default=0.0)


def every_eighth(names: Sequence[str]) -> Split:
    """Train and test views of a capture without a test split of its own."""
    order = sorted(range(len(names)), key=lambda view: names[view])
    test = set(order[::TEST_EVERY])
    return tuple(v for v in range(len(names)) if v not in test), tuple(sorted(test))


def check_capture(capture: Capture) -> Capture:
    """The capture itself, when a fit could use it.

    Raises:
        GaussianVAEError: fewer than two training photos, or a photo in both splits.
    """
    if len(capture.train) < 2:
        raise GaussianVAEError(f"{capture.folder}: has {len(capture.train)} training photo(s); a fit needs at least 2")
    trained = {capture.image_paths[view] for view in capture.train}
    both = [capture.image_paths[view].name for view in capture.test if capture.image_paths[view] in trained]
    if both:
        raise GaussianVAEError(
            f"{capture.folder}: {len(both)} photos are in both the train and the test split (such as {both[0]}), "
            "so a test would prove nothing; without a test split every 8th photo is held out"
        )
    return capture
