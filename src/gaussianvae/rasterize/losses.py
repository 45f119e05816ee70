"""The photometric loss: (1 - w) L1 + w (1 - SSIM).

SSIM as 3D Gaussian Splatting has it: an 11 x 11 Gaussian window of sigma 1.5, zeros beyond the border, C1 = 0.01^2,
C2 = 0.03^2, for values of 0-1; the mean over pixels and channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from gaussianvae.rasterize import Backend, choose_backend

RADIUS, SIGMA = 5, 1.5
C1, C2 = 0.01**2, 0.03**2


def window() -> list[float]:
    """The 11 weights of the window along one axis."""
    weights = [math.exp(-(k**2) / (2 * SIGMA**2)) for k in range(-RADIUS, RADIUS + 1)]
    return [w / sum(weights) for w in weights]


def ssim_map(image: Float[Tensor, "H W 3"], target: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 3"]:
    """SSIM of every pixel and channel, in plain torch; differentiable with respect to both images."""
    x, t = image.permute(2, 0, 1), target.permute(2, 0, 1)
    maps = torch.cat([x, t, x * x, t * t, x * t])[None]
    w = torch.tensor(window(), dtype=image.dtype, device=image.device).expand(15, 1, -1)
    maps = torch.nn.functional.conv2d(maps, w[..., None], padding=(RADIUS, 0), groups=15)
    maps = torch.nn.functional.conv2d(maps, w[:, :, None], padding=(0, RADIUS), groups=15)
    mx, mt, xx, tt, xt = maps[0].tensor_split(5)
    variances, covariance = xx - mx * mx + tt - mt * mt, xt - mx * mt
    ssim = (2 * mx * mt + C1) * (2 * covariance + C2) / ((mx * mx + mt * mt + C1) * (variances + C2))
    ssim_planes: Tensor = ssim
    return ssim_planes.permute(1, 2, 0)


class _L1SSIM(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor, ssim_weight: float) -> Tensor:
        from gaussianvae.rasterize.cpu.loss import l1_ssim_gradient

        value, ctx.gradient = l1_ssim_gradient(image, target, ssim_weight, differentiate=True)
        return torch.tensor(value, dtype=torch.float32)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradient if v.item() == 1.0 else ctx.gradient * v, None, None


def l1_ssim(
    image: Float[Tensor, "H W 3"],
    target: Float[Tensor, "H W 3"],
    ssim_weight: float = 0.2,
    backend: Backend = "auto",
) -> Float[Tensor, ""]:
    """(1 - w) mean |image - target| + w (1 - mean SSIM), w = `ssim_weight`; differentiable with respect to `image`.

    `cpu` (numba, for float32 on the CPU) takes images of any memory layout and is fastest for what `rasterize` returns.

    Raises:
        ValueError: shapes that don't agree.
        GaussianVAEError: see `choose_backend`.
    """
    if image.shape != target.shape or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"need two images (H, W, 3), got {tuple(image.shape)} and {tuple(target.shape)}")
    if choose_backend(backend, image, target) == "cpu":
        if torch.is_grad_enabled() and image.requires_grad:
            return _L1SSIM.apply(image, target.detach(), ssim_weight)  # type: ignore[no-any-return, no-untyped-call]
        from gaussianvae.rasterize.cpu.loss import l1_ssim_gradient

        return torch.tensor(l1_ssim_gradient(image, target, ssim_weight, differentiate=False)[0], dtype=torch.float32)
    l1 = (image - target).abs().mean()
    return (1 - ssim_weight) * l1 + ssim_weight * (1 - ssim_map(image, target).mean())
