"""What a camera does to light: compositing, the exact area average, bicubic reduction, rounding to 8 bits.

Images are (..., H, W, C) float tensors, 0-1, in the values that the file stores (display-referred).
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Operator = Literal["area", "bicubic", "soft", "softer"]
"""What brings a fine image down: the exact area average, antialiased bicubic (sharper), or the area average of an image
that a lens has blurred."""
OPERATORS: tuple[Operator, ...] = ("area", "bicubic", "soft", "softer")
BLURS = {"soft": 0.35, "softer": 0.6}
"""Standard deviations of such lenses, in pixels of the reduced image."""


def composite(rgba: Float[Tensor, "*B H W 4"], background: Float[Tensor, "3"]) -> Float[Tensor, "*B H W 3"]:
    """Straight-alpha RGBA over a constant background."""
    alpha = rgba[..., 3:]
    return rgba[..., :3] * alpha + background.to(rgba) * (1 - alpha)


def round_to_8_bits(image: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """The values that survive an 8-bit file: multiples of 1/255, clamped to 0-1."""
    return (image.clamp(0, 1) * 255).round() / 255


def area_weights(size: int, target: int) -> Float[Tensor, "T S"]:
    """Row-stochastic matrix of the exact box average from `size` to `target` pixels (float64)."""
    edges = torch.arange(target + 1, dtype=torch.float64, device="cpu") * (size / target)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = torch.arange(size, dtype=torch.float64, device="cpu")[None]
    overlap = (torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)).clamp_min(0)
    return overlap / overlap.sum(1, keepdim=True)


def bicubic_weights(size: int, target: int, a: float = -0.5) -> Float[Tensor, "T S"]:
    """Row-stochastic matrix of antialiased bicubic reduction, kernel parameter `a` (Pillow uses -0.5)."""
    scale = max(size / target, 1.0)
    centers = (torch.arange(target, dtype=torch.float64, device="cpu")[:, None] + 0.5) * (size / target)
    x = ((torch.arange(size, dtype=torch.float64, device="cpu")[None] + 0.5) - centers).abs() / scale
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    return weights / weights.sum(1, keepdim=True)


def blurred_area_weights(size: int, target: int, sigma: float) -> Float[Tensor, "T S"]:
    """Row-stochastic matrix of a Gaussian blur, `sigma` in target pixels, followed by the box average (float64)."""
    pixel = torch.arange(size, dtype=torch.float64, device="cpu")
    blur = torch.exp(-0.5 * ((pixel[:, None] - pixel) / (sigma * size / target)).square())
    return area_weights(size, target) @ (blur / blur.sum(1, keepdim=True))


@functools.lru_cache(maxsize=16)
def reduction_weights(size: int, target: int, operator: Operator) -> Float[Tensor, "T S"]:
    """Row-stochastic matrix of an operator along one axis (float64)."""
    if operator in BLURS:
        return blurred_area_weights(size, target, BLURS[operator])
    return (area_weights if operator == "area" else bicubic_weights)(size, target)


def reduce_image(
    image: Float[Tensor, "*B H W C"], size: tuple[int, int], operator: Operator = "area"
) -> Float[Tensor, "*B h w C"]:
    """Bring images down to `size` = (width, height); differentiable, exact for any real ratio.

    Raises:
        ValueError: `size` is larger than the image along an axis.
    """
    height, width = image.shape[-3:-1]
    if size[0] > width or size[1] > height:
        raise ValueError(f"can't reduce {width}x{height} to the larger {size[0]}x{size[1]}")
    if operator == "area" and width % size[0] == 0 and height % size[1] == 0:
        kx, ky = width // size[0], height // size[1]
        boxes = image.reshape(*image.shape[:-3], size[1], ky, size[0], kx, image.shape[-1])
        return boxes.mean((-4, -2))
    rows = reduction_weights(height, size[1], operator).to(image)
    columns = reduction_weights(width, size[0], operator).to(image)
    short = torch.einsum("yh,...hwc->...ywc", rows, image)
    return torch.einsum("xw,...ywc->...yxc", columns, short)


def enlarge_bicubic(image: Float[Tensor, "V H W C"], size: tuple[int, int]) -> Float[Tensor, "V h w C"]:
    """Bicubic enlargement to `size` = (width, height), clamped to 0-1: what an image editor would do."""
    planes = image.permute(0, 3, 1, 2)
    large = torch.nn.functional.interpolate(planes, size=(size[1], size[0]), mode="bicubic", align_corners=False)
    return large.permute(0, 2, 3, 1).clamp(0, 1)


def psnr(image: Float[Tensor, "*B"], truth: Float[Tensor, "*B"]) -> float:
    """Peak signal-to-noise ratio in dB of an image clamped to 0-1 (infinite where equal)."""
    error = float((image.clamp(0, 1) - truth).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)
