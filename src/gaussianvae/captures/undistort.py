"""Lenses that bend straight lines, and photos brought back to what a pinhole would have seen.

A pixel of the straight photo is looked up where the bent photo shows the same ray. That direction is a polynomial, so
no inverse is ever needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from gaussianvae.errors import GaussianVAEError

_MIN_ZOOM, _MAX_ZOOM = 0.5, 2.0
"""How far the focal length may change. A fisheye might see more than at half of it; other lenses that need more are
broken calibrations."""
STRAIGHT = (0.0, 0.0, 0.0, 0.0)
"""Coefficients of a pinhole."""


@dataclass(frozen=True)
class Lens:
    """A photo's own camera: OpenCV's polynomial over a pinhole, or its fisheye."""

    K: Float[Tensor, "3 3"]
    """Intrinsics of the bent photo in pixels, float64."""
    coefficients: tuple[float, ...]
    """k1, k2 (radial), p1, p2 (tangential) as OpenCV and COLMAP have them, then k3, k4 (radial, of r^6 and r^8) where
    there are any. Of a fisheye k1 to k4, of the angle's odd powers."""
    fisheye: bool = False
    """Whether the distance from the center follows the angle to the axis (Kannala-Brandt), not its tangent."""


def bend(lens: Lens, rays: Float[Tensor, "*B 2"]) -> Float[Tensor, "*B 2"]:
    """Where the bent photo shows rays.

    Args:
        lens: the photo's camera.
        rays: x / z and y / z in the camera's frame (OpenCV axes).

    Returns:
        Pixels, (0, 0) the top-left corner.
    """
    x, y = rays.unbind(-1)
    r2 = x * x + y * y
    if lens.fisheye:
        angle = r2.sqrt().atan()
        ratio = torch.where(r2 > 0, angle / r2.sqrt(), 1.0) * _series(angle * angle, lens.coefficients)
        bent_x, bent_y = x * ratio, y * ratio
    else:
        k1, k2, p1, p2, k3, k4 = _six(lens.coefficients)
        radial = _series(r2, (k1, k2, k3, k4))
        bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        bent_y = y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y)
    K = lens.K.to(rays)
    return torch.stack([K[0, 0] * bent_x + K[0, 2], K[1, 1] * bent_y + K[1, 2]], -1)


def straighten(
    where: str,
    K: Float[Tensor, "3 3"],
    coefficients: tuple[float, ...],
    size: tuple[int, int],
    fisheye: bool = False,
) -> tuple[Float[Tensor, "3 3"], Lens | None]:
    """The pinhole that a photo is brought to, of the photo's size and principal point.

    Both focal lengths take the same factor, the smallest from a half on with which every pixel lies inside the photo:
    as much of it as possible is kept and nothing beyond its border is made up.

    Args:
        where: the file (and camera) for an error's text.
        K: intrinsics of the photo in pixels, float64.
        coefficients: as in `Lens`.
        size: (width, height) of the photo in pixels.
        fisheye: as in `Lens`.

    Returns:
        Intrinsics of the pinhole, and the lens (None: the photo is straight already).

    Raises:
        GaussianVAEError: no focal length between half and double would do.
    """
    if not any(coefficients) and not fisheye:
        return K, None
    lens = Lens(K, coefficients, fisheye)
    pixels = _border_and_grid(size)
    low, high = _MIN_ZOOM, _MAX_ZOOM
    if not _sees_only_photo(lens, pixels, size, high):
        names = ("k1", "k2", "k3", "k4") if fisheye else ("k1", "k2", "p1", "p2", "k3", "k4")[: len(coefficients)]
        raise GaussianVAEError(
            f"{where}: a {'fisheye ' * fisheye}distortion of {', '.join(f'{c:g}' for c in coefficients)} "
            f"({', '.join(names)}) can't be undone in a photo of {size[0]}x{size[1]}; undistort it with COLMAP's "
            "image_undistorter"
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
        image: the bent photo, 0-1, float32.
        lens: its camera.
        K: intrinsics of the pinhole in pixels, from `straighten`.

    Returns:
        An image of the same size, 0-1; pixels beyond the photo repeat its border.
    """
    from gaussianvae.captures.kernels import look_up

    bent = image.contiguous().numpy()
    straight = np.empty_like(bent)
    k = np.array(lens.coefficients if lens.fisheye else _six(lens.coefficients))
    parts = torch.get_num_threads()

    def fill(part: int) -> None:
        look_up(part, parts, bent, _four(K), _four(lens.K), k, lens.fisheye, straight)

    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(fill, range(parts)))
    return torch.from_numpy(straight)


def displacement(lens: Lens, K: Float[Tensor, "3 3"], size: tuple[int, int]) -> float:
    """How far, in pixels, a lens moves what is seen at the corners of the straight photo: the largest of the four.

    Args:
        lens: the bent photo's camera.
        K: intrinsics of the straight photo in pixels.
        size: (width, height) of both.
    """
    width, height = size
    corners = torch.cartesian_prod(
        torch.tensor([0.0, width], dtype=torch.float64), torch.tensor([0.0, height], dtype=torch.float64)
    )
    rays = _rays(corners, K.double())
    still = rays * lens.K.diagonal()[:2] + lens.K[:2, 2]
    return float((bend(lens, rays) - still).norm(dim=1).max())


def _six(coefficients: Sequence[float]) -> tuple[float, ...]:
    """k1, k2, p1, p2, k3, k4, those that aren't given zero."""
    return (*coefficients, *(0.0,) * (6 - len(coefficients)))


def _four(K: Tensor) -> NDArray[np.float64]:
    """fx, fy, cx, cy as float64."""
    return K.double()[[0, 1, 0, 1], [0, 1, 2, 2]].numpy()


def _series(square: Tensor, k: Sequence[float]) -> Tensor:
    """1 + k1 s + k2 s^2 + k3 s^3 + k4 s^4."""
    return 1 + square * (k[0] + square * (k[1] + square * (k[2] + square * k[3])))


def _slope(square: Tensor, k: Sequence[float]) -> Tensor:
    """The derivative of `_series` by s."""
    return k[0] + square * (2 * k[1] + square * (3 * k[2] + square * (4 * k[3])))


def _rays(pixels: Tensor, K: Tensor) -> Tensor:
    """x / z and y / z of what a pinhole sees at pixels."""
    return (pixels - K[:2, 2]) / K.diagonal()[:2]


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
    rays = _rays(pixels, _zoomed(lens.K, zoom))
    places = bend(lens, rays)
    slack = 1e-6  # the border of a lens that bends nothing there
    inside = (places >= 0.5 - slack).all() & (places <= torch.tensor(size, dtype=torch.float64) - 0.5 + slack).all()
    x, y = rays.unbind(-1)
    r2 = x * x + y * y
    # far out a polynomial turns back, so that two rays fall on one pixel: there its slope is no longer positive
    if lens.fisheye:
        a2 = r2.sqrt().atan().square()
        series, slope = _series(a2, lens.coefficients), _slope(a2, lens.coefficients)
        return bool(inside & (series > 0).all() & (series + 2 * a2 * slope > 0).all())
    k1, k2, p1, p2, k3, k4 = _six(lens.coefficients)
    radial, slope = _series(r2, (k1, k2, k3, k4)), 2 * _slope(r2, (k1, k2, k3, k4))
    xx = radial + x * x * slope + 2 * p1 * y + 6 * p2 * x
    yy = radial + y * y * slope + 2 * p2 * x + 6 * p1 * y
    xy = x * y * slope + 2 * p1 * x + 2 * p2 * y
    return bool(inside & (xx * yy - xy * xy > 0).all() & (xx + yy > 0).all())
