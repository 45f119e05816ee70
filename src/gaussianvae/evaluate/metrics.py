"""What is measured on images and depth maps.

Images are (H, W, C) float tensors, 0-1, clamped before they are compared. LPIPS and FLIP are not computed (LPIPS needs
network weights that this package doesn't ship): their fields stay null.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gaussianvae.captures import Planes
from gaussianvae.rasterize.losses import l1_ssim
from gaussianvae.scene.cameras import Cameras
from gaussianvae.scene.imaging import psnr, reduce_image

__all__ = ["depth_error", "lr_consistency", "psnr", "ssim", "truth_diagonal"]

COVERED = 0.5
"""Depth is compared where the render's alpha is above this."""


def ssim(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Structural similarity, -1 to 1: 11x11 Gaussian window of sigma 1.5, zero padding, as 3DGS computes it."""
    with torch.no_grad():
        return 1 - float(l1_ssim(image.clamp(0, 1), truth.clamp(0, 1), ssim_weight=1.0))


def lr_consistency(render: Float[Tensor, "H W C"], lr_image: Float[Tensor, "h w C"]) -> float:
    """PSNR (dB) between the render averaged down to the LR photo's pixels and that photo."""
    height, width = lr_image.shape[:2]
    return psnr(reduce_image(render.clamp(0, 1), (width, height)), lr_image)


def depth_error(
    depth: Float[Tensor, "H W"], alpha: Float[Tensor, "H W"], truth: Float[Tensor, "H W"], diagonal: float
) -> float | None:
    """Mean |expected depth - true depth| in units of the scene's diagonal; None where nothing can be compared.

    Args:
        depth: expected depth of the render along the optical axis, world units.
        alpha: its coverage; only pixels above 0.5 count.
        truth: true depth, infinite where nothing is hit; only finite pixels count.
        diagonal: the scene's bounding-box diagonal, world units (`truth_diagonal`).
    """
    counted = truth.isfinite() & (alpha > COVERED)
    if not bool(counted.any()):
        return None
    return float((depth[counted] - truth[counted]).abs().mean()) / diagonal


def visible_points(
    cameras: Cameras, view: int, depth: Float[Tensor, "H W"]
) -> tuple[Float[Tensor, "M 3"], Bool[Tensor, "H W"]]:
    """World positions of the finite pixels of a depth map, row by row, and which pixels those are."""
    height, width = depth.shape
    hit = depth.isfinite()
    ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    K, viewmat = cameras.Ks[view].to(depth), cameras.viewmats[view].to(depth)
    z = depth[hit]
    x = (xs.to(depth)[hit] - K[0, 2]) / K[0, 0] * z
    y = (ys.to(depth)[hit] - K[1, 2]) / K[1, 1] * z
    return (torch.stack([x, y, z], 1) - viewmat[:3, 3]) @ viewmat[:3, :3], hit


def truth_diagonal(cameras: Cameras, depths: Planes) -> float:
    """Diagonal of the axis-aligned box around everything that the true depth maps show, world units (0 if nothing)."""
    low, high = torch.full((3,), math.inf), torch.full((3,), -math.inf)
    for view in range(len(cameras)):
        points, _ = visible_points(cameras, view, depths[view])
        if len(points):
            low = torch.minimum(low, points.amin(0).to(low))
            high = torch.maximum(high, points.amax(0).to(high))
    return float((high - low).norm()) if bool((high >= low).all()) else 0.0
