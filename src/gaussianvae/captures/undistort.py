"""Lenses that bend straight lines, and photos brought back to what a pinhole would have seen.

A pixel of the straight photo is looked up where the bent photo shows the same ray. That direction is a polynomial, so
no inverse is ever needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gaussianvae.errors import GaussianVAEError

_MIN_ZOOM, _MAX_ZOOM = 0.5, 2.0
"""How far the focal length may change; a lens that needs more is a fisheye or a broken calibration."""
_ROWS = 256
"""Rows of a photo looked up at once: what is in work stays small beside the photo."""


@dataclass(frozen=True)
class Lens:
    """A photo's own camera: OpenCV's radial and tangential polynomial over a pinhole."""

    K: Float[Tensor, "3 3"]
    """Intrinsics of the bent photo in pixels, float64."""
    coefficients: tuple[float, float, float, float]
    """k1, k2 (radial), p1, p2 (tangential), as OpenCV and COLMAP have them."""


def bend(lens: Lens, rays: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 2"]:
    """Where the bent photo shows rays.

    Args:
        lens: the photo's camera.
        rays: x / z and y / z in the camera's frame (OpenCV axes).

    Returns:
        Pixels, (0, 0) the top-left corner.
    """
    k1, k2, p1, p2 = lens.coefficients
    x, y = rays.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + k2 * r2)
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent_y = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
    K = lens.K.to(rays)
    return torch.stack([K[0, 0] * bent_x + K[0, 2], K[1, 1] * bent_y + K[1, 2]], -1)


def straighten(
    where: str, K: Float[Tensor, "3 3"], coefficients: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[Float[Tensor, "3 3"], Lens | None]:
    """The pinhole that a photo is brought to, of the photo's size and principal point.

    Both focal lengths take the same factor, the smallest with which every pixel lies inside the photo: as much of it
    as possible is kept and nothing beyond its border is made up.

    Args:
        where: the file (and camera) for an error's text.
        K: intrinsics of the photo in pixels, float64.
        coefficients: k1, k2, p1, p2.
        size: (width, height) of the photo in pixels.

    Returns:
        Intrinsics of the pinhole, and the lens (None: the photo is straight already).

    Raises:
        GaussianVAEError: no focal length between half and double would do.
    """
    if not any(coefficients):
        return K, None
    lens = Lens(K, coefficients)
    pixels = _border_and_grid(size)
    low, high = _MIN_ZOOM, _MAX_ZOOM
    if not _sees_only_photo(lens, pixels, size, high):
        raise GaussianVAEError(
            f"{where}: a distortion of {', '.join(f'{c:g}' for c in coefficients)} (k1, k2, p1, p2) can't be undone in "
            f"a photo of {size[0]}x{size[1]}; undistort it with COLMAP's image_undistorter"
        )
    if _sees_only_photo(lens, pixels, size, low):
        high = low
    for _ in range(24):  # a thousandth of a pixel in photos of 10,000
        middle = 0.5 * (low + high)
        low, high = (low, middle) if _sees_only_photo(lens, pixels, size, middle) else (middle, high)
    return _zoomed(K, high), lens


def undistort(image: Float[Tensor, "H W C"], lens: Lens, K: Float[Tensor, "3 3"]) -> Float[Tensor, "H W C"]:
    """The photo that a pinhole would have taken, by bicubic (Catmull-Rom) look-up in the bent one.

    Args:
        image: the bent photo, 0-1.
        lens: its camera.
        K: intrinsics of the pinhole in pixels, from `straighten`.

    Returns:
        An image of the same size, 0-1.
    """
    height, width, channels = image.shape
    flat, K = image.reshape(-1, channels), K.double()
    x = (torch.arange(width, dtype=torch.float64) + 0.5 - K[0, 2]) / K[0, 0]
    y = (torch.arange(height, dtype=torch.float64) + 0.5 - K[1, 2]) / K[1, 1]
    result = torch.empty_like(image)
    for top in range(0, height, _ROWS):
        band = y[top : top + _ROWS]
        rays = torch.stack(torch.broadcast_tensors(x[None, :], band[:, None]), -1).reshape(-1, 2)
        u, v = bend(lens, rays).unbind(-1)
        columns, across = _taps(u, width)
        rows, down = _taps(v, height)
        total = torch.zeros(len(rays), channels, dtype=image.dtype)
        for row, weight in zip(rows, down, strict=True):
            for column, other in zip(columns, across, strict=True):
                total += (weight * other).to(image.dtype)[:, None] * flat[row * width + column]
        result[top : top + _ROWS] = total.reshape(len(band), width, channels)
    return result.clamp_(0, 1)


def _taps(places: Tensor, size: int) -> tuple[list[Tensor], list[Tensor]]:
    """Four pixels along an axis around each place and their Catmull-Rom weights; the border pixel repeats outside."""
    first = (places - 0.5).floor()
    t = places - 0.5 - first
    weights = [
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]
    return [(first.long() + step).clamp(0, size - 1) for step in (-1, 0, 1, 2)], weights


def _zoomed(K: Tensor, zoom: float) -> Tensor:
    return K * K.new_tensor([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])


def _border_and_grid(size: tuple[int, int]) -> Tensor:
    """Centers of all border pixels, and of some within."""
    width, height = size
    x, y = torch.arange(width, dtype=torch.float64) + 0.5, torch.arange(height, dtype=torch.float64) + 0.5
    lines = [torch.cartesian_prod(x, y[[0, -1]]), torch.cartesian_prod(x[[0, -1]], y)]
    inner = torch.linspace(0, 1, 17, dtype=torch.float64)
    return torch.cat([*lines, torch.cartesian_prod(0.5 + inner * (width - 1), 0.5 + inner * (height - 1))])


def _sees_only_photo(lens: Lens, pixels: Tensor, size: tuple[int, int], zoom: float) -> bool:
    """Whether every pixel of the zoomed pinhole lies within the photo's outermost pixel centers, and none is folded."""
    K = _zoomed(lens.K, zoom)
    rays = (pixels - K[:2, 2]) / torch.stack([K[0, 0], K[1, 1]])
    places = bend(lens, rays)
    slack = 1e-6  # the border of a lens that bends nothing there
    inside = (places >= 0.5 - slack).all() & (places <= torch.tensor(size, dtype=torch.float64) - 0.5 + slack).all()
    # far out a polynomial turns back, so that two rays fall on one pixel: there its Jacobian is no longer positive
    k1, k2, p1, p2 = lens.coefficients
    x, y = rays.unbind(-1)
    r2 = x * x + y * y
    radial, slope = 1 + r2 * (k1 + k2 * r2), 2 * (k1 + 2 * k2 * r2)
    xx = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
    yy = radial + y * y * slope + 2 * p2 * x + 6 * p1 * y
    xy = x * y * slope + 2 * p1 * x + 2 * p2 * y
    return bool(inside & (xx * yy - xy * xy > 0).all() & (xx + yy > 0).all())
