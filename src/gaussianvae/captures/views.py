"""Photos in memory: composited, undistorted, brought down by the exact area average, rounded to 8 bits; in order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from gaussianvae.captures.arrays import read_floats
from gaussianvae.captures.capture import Capture, SparsePoints
from gaussianvae.captures.photos import decode
from gaussianvae.captures.undistort import undistort
from gaussianvae.errors import GaussianVAEError
from gaussianvae.progress import SILENT, Reporter
from gaussianvae.scene.cameras import Cameras, resize, scaled_size
from gaussianvae.scene.imaging import Operator, composite, reduce_image, round_to_8_bits

Images = Float[Tensor, "V H W 3"] | tuple[Float[Tensor, "_ _ 3"], ...]
"""One a view: a tensor where all have one size, else one tensor each."""
Planes = Float[Tensor, "V H W"] | tuple[Float[Tensor, "_ _"], ...]
"""The same without channels."""


@dataclass(frozen=True)
class Views:
    """Photos with their cameras."""

    cameras: Cameras
    images: Images
    """0-1, multiples of 1/255."""
    alphas: Planes | None
    """Coverage, where the photos have it."""
    background: Float[Tensor, "3"]
    """What lies under transparent photos, RGB 0-1."""
    points: SparsePoints | None = None
    """The capture's sparse cloud, where it has one: a place to begin."""

    def select(self, views: Sequence[int]) -> Views:
        """Some of the photos with their cameras, in the order given."""
        images = gather([self.images[view] for view in views])
        alphas = None if self.alphas is None else gather([self.alphas[view] for view in views])
        return replace(self, cameras=self.cameras.select(views), images=images, alphas=alphas)


def gather(images: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
    """Images (or planes) of all views: stacked where they have one size."""
    return torch.stack(list(images)) if len({image.shape for image in images}) == 1 else tuple(images)


def digest(views: Views) -> str:
    """A key of the photos' content: pixels, coverage, background, cameras and sparse cloud."""
    sha = hashlib.sha256(repr(views.cameras.sizes).encode())
    for part in (views.images, views.alphas, views.background, views.cameras.viewmats, views.cameras.Ks):
        # photos of one size or of several: the bytes of one after the other
        for piece in part if isinstance(part, tuple) else (part,):
            sha.update(b"none" if piece is None else piece.contiguous().numpy().tobytes())
    if views.points is not None:
        for part in (views.points.means, views.points.colors, views.points.errors, views.points.track_lengths):
            sha.update(part.contiguous().numpy().tobytes())
    return sha.hexdigest()[:24]


def load_views(
    capture: Capture,
    views: Sequence[int],
    factor: float,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    operator: Operator = "area",
    report: Reporter = SILENT,
) -> Views:
    """Load some photos, undistorted and reduced by `factor`.

    Args:
        capture: where from.
        views: which, in this order.
        factor: at least 1; sizes are rounded, then each axis is reduced by its real ratio.
        background: RGB 0-1 under transparent photos.
        operator: `area`, or `bicubic` (antialiased, as Pillow does it).
        report: receives progress.

    Raises:
        GaussianVAEError: a factor below 1, no views, an undecodable photo.
    """
    _check_factor(factor)
    if not len(views):
        raise GaussianVAEError(f"{capture.folder}: no views were asked for; at least one is needed")
    cameras = resize(capture.cameras.select(views), factor)
    color = torch.tensor(background)
    images, alphas = [], []
    with report.bar("photos", len(views)) as bar:
        for place, view in enumerate(views):
            pixels = decode(capture.image_paths[view], capture.has_alpha)
            native = capture.cameras.sizes[view]
            if pixels.shape[:2] != (native[1], native[0]):
                raise GaussianVAEError(f"{capture.image_paths[view]}: has changed its size since its header was read")
            if capture.has_alpha:
                # before any interpolation: colors under transparent pixels must not bleed
                pixels = torch.cat([composite(pixels, color), pixels[..., 3:]], -1)
            lens = capture.lenses[view] if capture.lenses else None
            if lens is not None:
                pixels = undistort(pixels, lens, capture.cameras.Ks[view])
            small = reduce_image(pixels, cameras.sizes[place], operator)
            if capture.has_alpha:
                alphas.append(small[..., 3].clamp(0, 1))
            images.append(round_to_8_bits(small[..., :3]))
            bar.advance()
    return Views(cameras, gather(images), gather(alphas) if alphas else None, color, capture.points)


def load_depths(capture: Capture, views: Sequence[int], factor: float) -> Planes | None:
    """True depths along the optical axis, infinite where nothing is; None unless every view has one.

    A reduced pixel takes the depth at the native pixel nearest to its center: depths of edges must not be averaged.

    Raises:
        GaussianVAEError: an unreadable depth file.
    """
    _check_factor(factor)
    depths = []
    for view in views:
        path = capture.depth_paths[view]
        if path is None:
            return None
        native = capture.cameras.sizes[view]
        full = _read_depth(path, native)
        width, height = scaled_size(native, factor)
        rows = ((np.arange(height) + 0.5) * (native[1] / height)).astype(int)
        columns = ((np.arange(width) + 0.5) * (native[0] / width)).astype(int)
        depths.append(torch.from_numpy(full[np.ix_(rows, columns)].astype(np.float32)))
    return gather(depths) if depths else None


def _read_depth(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    expected = f"a float32 array ({size[1]}, {size[0]}), as large as its photo"
    full = read_floats(path, expected)
    if full.shape != (size[1], size[0]):
        raise GaussianVAEError(f"{path}: holds {full.dtype} {full.shape}; expected {expected}")
    if np.isnan(full).any():
        raise GaussianVAEError(f"{path}: holds NaN; where nothing is, a depth is infinite")
    return full


def _check_factor(factor: float) -> None:
    if not 1 <= factor < math.inf:
        raise GaussianVAEError(f"the factor is {factor:g}; photos can only be reduced, so it is at least 1 and finite")
