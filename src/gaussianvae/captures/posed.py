"""From single posed photos to a capture: what every layout does in the end."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.captures.capture import Capture, SparsePoints, Split, check_capture, every_eighth
from gaussianvae.captures.undistort import Lens, straighten
from gaussianvae.errors import GaussianVAEError
from gaussianvae.scene.cameras import Cameras


@dataclass(frozen=True)
class Posed:
    """One photo with its camera."""

    path: Path
    viewmat: Float[Tensor, "4 4"]
    """World-to-camera, OpenCV axes, float64."""
    K: Float[Tensor, "3 3"]
    """Intrinsics of the photo as it is in the file, pixels, float64."""
    coefficients: tuple[float, ...]
    """Of its lens, as `Lens` has them; zeros: a pinhole."""
    size: tuple[int, int]
    """(width, height) of the photo as it is in the file."""
    has_alpha: bool
    origin: str
    """The file (and camera) that the intrinsics come from, for an error's text."""
    fisheye: bool = False
    """Whether its lens is a fisheye."""


def capture_of(
    folder: Path,
    photos: Sequence[Posed],
    points: SparsePoints | None = None,
    split: Split | None = None,
    missing: int = 0,
) -> Capture:
    """A capture of posed photos.

    Args:
        folder: where from.
        photos: its views, in this order.
        points: its sparse cloud.
        split: train and test views; without, every 8th photo in the order of their paths is a test view.
        missing: photos that should be there and aren't.

    Raises:
        GaussianVAEError: photos with and without alpha, fewer than two training photos, a lens that can't be undone.
    """
    if len(photos) < 2:
        raise GaussianVAEError(f"{folder}: has {len(photos)} posed photo(s); a fit needs at least 2 besides the tests")
    straight: dict[Hashable, tuple[Tensor, Lens | None]] = {}  # photos of one camera share the search
    keys = [(*photo.K.flatten().tolist(), photo.coefficients, photo.fisheye, photo.size) for photo in photos]
    for key, photo in zip(keys, photos, strict=True):
        if key not in straight:
            straight[key] = straighten(photo.origin, photo.K, photo.coefficients, photo.size, photo.fisheye)
    cameras = Cameras(
        viewmats=torch.stack([photo.viewmat for photo in photos]).float(),
        Ks=torch.stack([straight[key][0] for key in keys]).float(),
        sizes=tuple(photo.size for photo in photos),
        names=tuple(photo.path.stem for photo in photos),
    )
    train, test = split or every_eighth([str(photo.path) for photo in photos])
    lenses = tuple(straight[key][1] for key in keys)
    return check_capture(
        Capture(
            folder=folder,
            cameras=cameras,
            image_paths=tuple(photo.path for photo in photos),
            train=train,
            test=test,
            has_alpha=have_alpha(folder, [photo.has_alpha for photo in photos]),
            depth_paths=(None,) * len(photos),
            lenses=lenses if any(lens is not None for lens in lenses) else (),
            points=points,
            missing=missing,
        )
    )


def have_alpha(folder: Path, flags: Sequence[bool]) -> bool:
    """Whether a capture's photos are RGBA, from what each of them is.

    Raises:
        GaussianVAEError: some are and some aren't.
    """
    if len(set(flags)) > 1:
        raise GaussianVAEError(f"{folder}: some photos have an alpha channel and some have none; make them alike")
    return flags[0]


def pinhole(where: str, fx: float, fy: float, cx: float, cy: float) -> Float[Tensor, "3 3"]:
    """Intrinsics in pixels, float64.

    Raises:
        GaussianVAEError: figures that are no camera's; `where` names the file.
    """
    K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    if not bool(K.float().isfinite().all()) or min(fx, fy) <= 0:
        raise GaussianVAEError(
            f"{where}: the focal lengths are {fx:g} and {fy:g} px and the center {cx:g}, {cy:g}; "
            "all must be finite, focal lengths positive"
        )
    return K
